"""Seeding the demo: a tenant to call with, models to call, and an operator to log in as.

It runs at every start of `make run` and only adds what is not there yet. What is there belongs to the operators: nobody
wants a key back that they revoked, a price that they changed or a tenant that they suspended. The two exceptions are
what the mock can do, which the release decides, and a vendor's API key, which the environment does.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from gateway.configuration.apply import apply_document, lock_configuration
from gateway.configuration.export import Form, export_document
from gateway.configuration.parsing import parse
from gateway.demo import CLI, KEY, MOCK, OPERATOR, PROJECT, TENANT, VENDORS, Vendor, demo_document, ollama_url
from gateway.local_secrets import kept_text
from gateway.settings import environment_secret
from providers.registry import ADAPTERS
from tenants.keys import ALPHABET, digest_key, generate_key
from tenants.models import ApiKey, Operator, Role
from tenants.services import set_secret

_PASSWORD_LENGTH = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoAccess:
    """How the first caller gets in. A secret that an operator has taken out of use is None and `note` says so."""

    base_url: str
    api_key: str | None
    admin_url: str
    admin_user: str
    admin_password: str | None
    pid: int
    note: str | None = None

    def as_json(self) -> dict[str, Any]:
        """The members of demo.json; `note` only where there is something to note."""
        form = asdict(self)
        if self.note is None:
            del form["note"]
        return form


@transaction.atomic
def seed_demo(base_url: str, pid: int) -> DemoAccess:
    """Create the demo, or add what is missing, and return how to use it.

    `base_url` is the platform's address, with or without `/v1`; `pid` is the process to stop it by. The key and the
    password are made once and kept in the data folder, because the database has only their digests.
    """
    lock_configuration()
    data_dir: Path = settings.DATA_DIR
    api_key = _demo_key(kept_text(data_dir, "demo_api_key", make=generate_key))
    apply_document(parse(json.dumps(_additions(export_document(), api_key))))
    password = _admin_password(kept_text(data_dir, "demo_admin_password", make=_make_password))
    notes = [
        f"The key {TENANT}/{KEY} was revoked: make another in the admin." if api_key is None else "",
        f"The password of {OPERATOR} was changed, or the account closed, by an operator." if password is None else "",
        "LLM_BACKEND=cli needs LLM_CLI_COMMAND; without it there is no CLI provider."
        if _wants_cli() and not settings.LLM_CLI_COMMAND
        else "",
    ]
    root = base_url.rstrip("/").removesuffix("/v1")
    return DemoAccess(
        base_url=f"{root}/v1",
        api_key=api_key,
        admin_url=f"{root}/admin/",
        admin_user=OPERATOR,
        admin_password=password,
        pid=pid,
        note=" ".join(note for note in notes if note) or None,
    )


def _demo_key(text: str) -> str | None:
    """The demo key's text, or None when it was revoked."""
    key = ApiKey.objects.filter(tenant__name=TENANT, name=KEY).first()
    if key is None:
        return text
    if key.revoked_at is not None:
        return None
    if bytes(key.digest) != digest_key(text, settings.API_KEY_PEPPER):
        # The data folder is a new one, and so is the pepper in it: no key of this database works any more.
        set_secret(key, text)
        key.save(update_fields=["digest", "hint"])
    return text


def _additions(present: Form, api_key: str | None) -> Form:
    """The part of the demo that is not there yet, as a document. `present` is the exported configuration."""
    given = {vendor.name: environment_secret(vendor.environment_variable) for vendor in VENDORS}
    vendors = [vendor for vendor in VENDORS if vendor.kind in ADAPTERS and given[vendor.name]]
    demo = demo_document(
        vendors,
        addresses={vendor.name: ollama_url(given[vendor.name] or "") for vendor in vendors if vendor.address_env},
        mock_first=settings.LLM_BACKEND == MOCK,
        now=timezone.now(),
        with_cli=_wants_cli() and bool(settings.LLM_CLI_COMMAND),
    )
    providers, models, groups = (_by_name(present[section]) for section in ("providers", "models", "groups"))
    backend_came = any(entry["name"] not in providers for entry in demo["providers"] if entry["name"] != MOCK)
    new_models = [model for model in demo["models"] if model["name"] not in models]
    return {
        "providers": _providers(demo, providers, vendors=vendors),
        "models": [*new_models, *_mock_updates(demo, models)],
        "groups": [group for group in demo["groups"] if group["name"] not in groups or backend_came],
        "agent_types": {name: to for name, to in demo["agent_types"].items() if name not in present["agent_types"]},
        "tenants": [_tenant(demo, present, api_key=api_key)],
    }


def _wants_cli() -> bool:
    return bool(settings.LLM_BACKEND == CLI)


def _providers(demo: Form, present: dict[str, Form], *, vendors: list[Vendor]) -> list[Form]:
    new = [provider for provider in demo["providers"] if provider["name"] not in present]
    known_vendors = [vendor for vendor in vendors if vendor.name in present and vendor.api_key_env]
    return [*new, *({**present[vendor.name], "api_key_env": vendor.api_key_env} for vendor in known_vendors)]


def _mock_updates(demo: Form, present: dict[str, Form]) -> list[Form]:
    mocks = [model for model in demo["models"] if model["deployments"][0]["provider"] == MOCK]
    return [
        {**present[mock["name"]], "capabilities": mock["capabilities"]} for mock in mocks if mock["name"] in present
    ]


def _tenant(demo: Form, present: Form, *, api_key: str | None) -> Form:
    """The demo's tenant: all of it when it is new, else with the approval of what is new."""
    tenant: Form = demo["tenants"][0]
    keys = [{"name": KEY, "project": PROJECT, "secret": api_key}] if api_key else []
    existing = _by_name(present["tenants"]).get(TENANT)
    if existing is None:
        return {**tenant, "keys": keys}
    known = {item["name"] for item in (*present["models"], *present["groups"])}
    has_key = ApiKey.objects.filter(tenant__name=TENANT, name=KEY).exists()
    return {
        **existing,
        "approved": [name for name in tenant["approved"] if name not in known],
        "keys": [] if has_key else keys,
    }


def _by_name(section: list[Form]) -> dict[str, Form]:
    return {entry["name"]: entry for entry in section}


def _admin_password(password: str) -> str | None:
    """The demo operator's password, making the operator first if need be; None when it is another one by now."""
    operator = Operator.objects.filter(username=OPERATOR).first()
    if operator is None:
        Operator.objects.create_user(OPERATOR, password=password, role=Role.OWNER, is_staff=True)
        return password
    return password if operator.is_active and operator.check_password(password) else None


def _make_password() -> str:
    return "".join(secrets.choice(ALPHABET) for _ in range(_PASSWORD_LENGTH))
