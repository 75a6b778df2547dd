"""Provider secrets at rest: unreadable elsewhere, rotated as a whole, refused when moved."""

from __future__ import annotations

import os
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from gateway.audit.kept_texts import read
from gateway.models import KeptText
from providers.credentials import CredentialError, decrypt_secret, store_credential
from providers.models import Credential, Provider
from providers.selectors import load_catalogue
from tenants.models import WebhookEndpoint
from tenants.sealing import seal
from tenants.webhooks import create_endpoint, rotate_secret, signing_secrets
from tests import factories

pytestmark = pytest.mark.django_db

SECRET = "sk-live-abcdefgh-1234"


@pytest.fixture
def provider() -> Provider:
    return factories.make_provider("https://api.example.com/v1")


def test_only_the_last_four_are_readable(provider: Provider) -> None:
    row = store_credential(provider, SECRET)
    row.refresh_from_db()
    assert decrypt_secret(row) == SECRET
    assert row.last_four == "1234" and SECRET[:8] not in row.ciphertext
    assert store_credential(provider, "short").last_four == "", "four of five would say nearly all"


def test_a_ciphertext_moved_to_another_row_is_refused(provider: Provider) -> None:
    mine = store_credential(provider, SECRET)
    other = store_credential(factories.make_provider("https://other.example.com/v1"), "sk-other-000000000000")
    Credential.objects.filter(pk=other.pk).update(ciphertext=mine.ciphertext)
    other.refresh_from_db()
    with pytest.raises(CredentialError, match="not written for this row"):
        decrypt_secret(other)


def test_rotation(provider: Provider, settings: Any) -> None:
    row = store_credential(provider, SECRET)
    old, new = settings.ENCRYPTION_KEYS[0], os.urandom(32)
    settings.ENCRYPTION_KEYS = [new, old]
    call_command("rotate_encryption_key", stdout=StringIO())
    settings.ENCRYPTION_KEYS = [new]
    row.refresh_from_db()
    assert decrypt_secret(row) == SECRET


def test_rotation_has_the_kept_texts_too(db: None, settings: Any) -> None:
    tenant, now = factories.make_tenant(), timezone.now()
    asked = {"tenant": tenant, "created_at": now, "expires_at": now}
    for number in range(3):
        sealed = seal(bytes(16) + b"what is it?", bound_to=f"text:{tenant.pk}:req_{number}".encode())
        KeptText.objects.create(request_id=f"req_{number}", request=sealed, answer=sealed, **asked)
    KeptText.objects.create(request_id="elsewhere", request=sealed, answer=sealed, **asked)
    settings.ENCRYPTION_KEYS = [new := os.urandom(32), settings.ENCRYPTION_KEYS[0]]
    said = StringIO()
    with pytest.raises(CommandError, match="1 kept texts cannot be opened"):
        call_command("rotate_encryption_key", stdout=said)
    assert "3 kept texts were encrypted" in said.getvalue()
    settings.ENCRYPTION_KEYS = [new]
    assert {read(row).request for row in KeptText.objects.exclude(request_id="elsewhere")} == {"what is it?"}


def test_a_lost_key_is_said_and_takes_only_its_own_deployments_away(provider: Provider, settings: Any) -> None:
    row = store_credential(provider, SECRET)
    model = factories.make_model(provider, factories.make_provider("https://open.example.com/v1"))
    pinned = model.deployments.get(provider=provider)
    pinned.credential = row
    pinned.save()
    settings.ENCRYPTION_KEYS = [os.urandom(32)]
    with pytest.raises(CredentialError, match="ENCRYPTION_KEYS"):
        decrypt_secret(row)
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("rotate_encryption_key")
    assert len(load_catalogue().models[model.name].deployments) == 1


def test_rotation_has_the_webhooks_too(provider: Provider, settings: Any) -> None:
    endpoint = WebhookEndpoint(tenant=factories.make_tenant(), url="https://hooks.example.com/")
    old_secret = create_endpoint(endpoint)
    new_secret = rotate_secret(endpoint)
    settings.ENCRYPTION_KEYS = [new := os.urandom(32), settings.ENCRYPTION_KEYS[0]]
    call_command("rotate_encryption_key", stdout=StringIO())
    settings.ENCRYPTION_KEYS = [new]
    endpoint.refresh_from_db()
    assert signing_secrets(endpoint, timezone.now()) == [new_secret, old_secret]

    # Where no key opens it, nothing at all is sealed anew.
    row = store_credential(provider, SECRET)
    settings.ENCRYPTION_KEYS = [os.urandom(32), new]
    WebhookEndpoint.objects.update(ciphertext=row.ciphertext)
    with pytest.raises(CommandError, match="Nothing was changed"):
        call_command("rotate_encryption_key")
    assert Credential.objects.get().ciphertext == row.ciphertext
