"""Making tenants, their projects, approvals and keys match the file."""

from __future__ import annotations

from django.conf import settings
from django.core.exceptions import ValidationError

from gateway.configuration.budgets import apply_budgets
from gateway.configuration.caching import apply_cache
from gateway.configuration.document import KeyEntry, TenantEntry
from gateway.configuration.errors import ConfigurationError, suggest
from gateway.configuration.hooks import apply_hooks
from gateway.configuration.limits import apply_limits
from gateway.configuration.report import NewKey, Report
from gateway.configuration.rows import blame, put
from gateway.configuration.source import Value
from gateway.configuration.types import apply_types
from gateway.configuration.webhooks import apply_webhooks
from providers.models import ApprovalState, Model, ModelGroup, TenantApproval
from providers.services import approve_for_tenant
from tenants.keys import digest_key, is_well_formed
from tenants.models import ApiKey, Project, Tenant
from tenants.services import KeySettings, create_key, set_secret


def apply_tenant(entry: TenantEntry, report: Report) -> None:
    """Create or change a tenant and what belongs to it."""
    tenant = Tenant.objects.filter(name=entry.name).first() or Tenant(name=entry.name)
    wanted: dict[str, object] = {"status": entry.status, "timezone": entry.timezone, "currency": entry.currency}
    if entry.notify_emails is not None:
        wanted["notify_emails"] = entry.notify_emails
    put(tenant, wanted, source=entry.source, subject=f"tenant {tenant.name}", report=report)
    for project in entry.projects or ():
        _project(tenant, project, report=report)
    if entry.approved:
        _approve(tenant, entry.approved, report=report)
    for key in entry.keys or ():
        _apply_key(tenant, key, report=report)
    apply_limits(tenant, entry.limits or (), report=report)
    apply_budgets(tenant, entry.budgets or (), report=report)
    apply_webhooks(tenant, entry.webhooks or (), report=report)
    apply_types(tenant, entry.types or (), report=report)
    apply_hooks(tenant, entry.hooks or (), report=report)
    apply_cache(tenant, entry.cache or (), report=report)


def _project(tenant: Tenant, name: Value, *, report: Report) -> Project:
    """The tenant's project, made when it is not there: a key may name one that no list has."""
    project = Project.objects.filter(tenant=tenant, name=name.text()).first()
    if project is None:
        project = Project(tenant=tenant, name=name.text())
        put(project, {}, source=name, subject=f"project {project}", report=report)
    return project


def _approve(tenant: Tenant, names: tuple[Value, ...], *, report: Report) -> None:
    """Approve what the file lists, also where an operator had rejected or suspended it: the file was written later."""
    approvals = TenantApproval.objects.filter(tenant=tenant).select_related("model", "group")
    states = {approval.target_name: approval.state for approval in approvals}
    for name in names:
        state = states.get(name.text())
        if state == ApprovalState.APPROVED:
            continue
        approve_for_tenant(tenant, _target(name), by=None)
        subject = approval_subject(tenant, name.text())
        if state is None:
            report.created(subject)
        else:
            report.changed(subject, ["state"])


def approval_subject(tenant: Tenant, target_name: str) -> str:
    """How a report names an approval."""
    return f"approval of {target_name} for {tenant.name}"


def _target(name: Value) -> Model | ModelGroup:
    text = name.text()
    target = Model.objects.filter(name=text).first() or ModelGroup.objects.filter(name=text).first()
    if target is None:
        known = {*Model.objects.values_list("name", flat=True), *ModelGroup.objects.values_list("name", flat=True)}
        raise name.refuse(f"no model or group is called {text!r}{suggest(text, known)}")
    return target


def _apply_key(tenant: Tenant, entry: KeyEntry, *, report: Report) -> None:
    project = _project(tenant, entry.source.need("project"), report=report) if entry.project else None
    subject = key_subject(tenant, entry.name)
    key = ApiKey.objects.filter(tenant=tenant, name=entry.name).first()
    if entry.secret is not None:
        _check_secret(tenant, entry, secret=entry.secret)
    if key is None:
        _create_key(tenant, entry, project=project, report=report)
        report.created(subject)
        return
    if key.revoked_at is not None:
        raise ConfigurationError(
            f"{subject} was revoked on {key.revoked_at:%Y-%m-%d} and stays so; give the new key another name.",
            entry.source.place_of("name"),
        )
    wanted = {
        "project": project,
        "user": entry.user,
        "scopes": entry.scopes,
        "ip_allow_list": entry.ip_allow_list,
        "expires_at": entry.expires_at,
    }
    put(key, wanted, source=entry.source, subject=subject, report=report)
    if entry.secret is not None and bytes(key.digest) != _digest(entry.secret):
        set_secret(key, entry.secret)
        key.save(update_fields=["digest", "hint"])
        report.changed(subject, ["secret"])


def key_subject(tenant: Tenant, name: str) -> str:
    """How a report names a key."""
    return f"key {tenant.name}/{name}"


def _check_secret(tenant: Tenant, entry: KeyEntry, *, secret: str) -> None:
    place = entry.source.place_of("secret_env" if entry.source.get("secret_env") else "secret")
    if not is_well_formed(secret):
        raise ConfigurationError(
            "a key is bsr_live_ followed by 30 letters or digits and their 6-character checksum; "
            "leave the secret out and one is made.",
            place,
        )
    if ApiKey.objects.filter(digest=_digest(secret)).exclude(tenant=tenant, name=entry.name).exists():
        raise ConfigurationError("another API key has this secret already; use a different one.", place)


def _create_key(tenant: Tenant, entry: KeyEntry, *, project: Project | None, report: Report) -> None:
    """Store a key; only one that was made here is reported with its text, as a given one is known already."""
    allowed = KeySettings(
        project=project,
        user=entry.user,
        scopes=tuple(entry.scopes),
        ip_allow_list=tuple(entry.ip_allow_list),
        expires_at=entry.expires_at,
    )
    try:
        key, text = create_key(tenant, entry.name, allowed=allowed, secret=entry.secret)
    except ValidationError as error:
        raise blame(error, entry.source) from error
    if entry.secret is None:
        report.keys.append(NewKey(tenant.name, key.name, text))


def _digest(secret: str) -> bytes:
    return digest_key(secret, settings.API_KEY_PEPPER)
