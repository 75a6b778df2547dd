"""Jobs in the admin: what an operator sees of one, and may do about it."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test import Client
from django.urls import reverse

from billing.models import UsageRecord
from gateway.jobs.models import Job
from gateway.jobs.requests import StoredRequest, sealed
from tenants.models import AuditEvent
from tests.admin.seeding import Seeded, add_job
from tests.factories import unique

CANARY = b"a canary of a prompt"


@pytest.fixture
def job(seeded: Seeded) -> Job:
    """One that has failed and may be tried again."""
    charge = UsageRecord.objects.order_by("pk")[0]
    job_id = unique("job")
    asked = StoredRequest(path="/v1/chat/completions", headers=[], body=CANARY)
    return add_job(
        charge,
        id=job_id,
        request=sealed(asked, job_id=job_id, tenant_id=charge.tenant_id),
        error={"code": "provider_error", "message": "<script>It broke</script>"},
        notes=[{"model": "m", "provider": "p", "outcome": "broken"}],
    )


def page(job: Job, name: str = "change") -> str:
    return reverse(f"admin:gateway_job_{name}", args=[job.pk])


def test_a_job_is_told_at_length_and_its_text_is_not(viewer: Client, operator: Client, job: Job) -> None:
    shown = viewer.get(page(job)).content.decode()
    assert (
        "m at p: broken" in shown
        and "(&#x27;failed" not in shown
        and "provider_error" in shown
        and "<script>It broke" not in shown
    )
    assert job.request not in shown and CANARY.decode() not in shown
    assert "Try again" not in shown and "Try again" in operator.get(page(job)).content.decode()
    found = viewer.get(reverse("admin:gateway_job_changelist"), {"q": job.pk}).content.decode()
    assert job.pk in found


def test_only_operators_try_again_and_cancel(viewer: Client, operator: Client, job: Job) -> None:
    for action in ("retry", "cancel"):
        assert viewer.post(page(job, action), {"confirmed": "1"}).status_code == 403
        assert operator.get(page(job, action)).status_code == 405
    before = Job.objects.count()
    operator.post(page(job, "retry"), {"reason": "asked to"})
    assert Job.objects.count() == before, "it asks first"
    operator.post(page(job, "retry"), {"confirmed": "1", "reason": "asked to"})
    again = Job.objects.get(retry_of=job.pk)
    assert (again.status, again.operation, again.requested_model) == ("queued", job.operation, job.requested_model)
    operator.post(page(again, "cancel"), {"confirmed": "1", "reason": "not any more"})
    again.refresh_from_db()
    assert (again.status, again.cost_nano_usd) == ("cancelled", 0)
    connection.check_constraints()  # events get their place when a transaction commits, which a test's does not
    events = AuditEvent.objects.filter(event__startswith="job.").values_list("event", flat=True)
    assert {"job.tried_again", "job.cancelled"} <= set(events)
    assert CANARY.decode() not in str(list(AuditEvent.objects.values_list("data", flat=True)))


def test_what_is_over_is_not_cancelled_and_what_is_forgotten_not_tried(operator: Client, job: Job) -> None:
    operator.post(page(job, "cancel"), {"confirmed": "1"})
    Job.objects.filter(pk=job.pk).update(request="")
    answer = operator.post(page(job, "retry"), {"confirmed": "1"}, follow=True)
    assert "cannot be made again" in answer.content.decode()
    job.refresh_from_db()
    assert job.status == "failed" and not Job.objects.filter(retry_of=job.pk).exists()
    assert operator.post(page(Job(id="none"), "cancel"), {"confirmed": "1"}).status_code == 404
