"""A notification as an e-mail: `templates/notifications/EVENT.txt`, whose first line is the subject."""

from __future__ import annotations

import smtplib

from django.core.mail import EmailMessage
from django.template.loader import select_template

from gateway.notifications.claims import DELIVERED, Outcome
from tenants.models import Delivery

SUBJECT_LENGTH = 200


def compose(delivery: Delivery) -> EmailMessage:
    """The mail to one address. An event without a template of its own has its data listed."""
    notification = delivery.notification
    template = select_template([f"notifications/{notification.event}.txt", "notifications/any.txt"])
    text = template.render({"notification": notification, "tenant": notification.tenant, "data": notification.data})
    subject, _, body = text.strip().partition("\n")
    return EmailMessage(
        subject=subject[:SUBJECT_LENGTH],
        body=body.strip() + "\n",
        to=[delivery.email],
        headers={"Message-ID": f"<{notification.pk}.{delivery.pk}@bursar>", "Auto-Submitted": "auto-generated"},
    )


def mail(delivery: Delivery) -> Outcome:
    """Send one and say how it went. What the mail server refuses for good is not tried again."""
    try:
        compose(delivery).send()
    except smtplib.SMTPRecipientsRefused as error:
        codes = [code for code, _ in error.recipients.values()]
        return Outcome(
            f"The mail server refuses the address ({codes[0]}).", is_final=all(code >= 500 for code in codes)
        )
    except (smtplib.SMTPException, OSError) as error:
        return Outcome(f"The mail server did not take it: {type(error).__name__}.")
    return DELIVERED
