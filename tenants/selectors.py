"""Questions about tenants, answered from the database."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass

from django.db.models import Q

from tenants.models import LIMIT_FIELDS, ApiKey, ConfigRevision, LimitScope, RateLimit, Scope, TenantStatus

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who is calling: one key with its tenant, as the hot path holds it."""

    key_id: int
    key_name: str
    tenant_id: int
    tenant_name: str
    tenant_active: bool
    timezone: str
    project_id: int | None
    project_name: str
    user: str
    scopes: frozenset[str]
    networks: tuple[IpNetwork, ...]
    expires_at: dt.datetime | None
    keep_text_days: int = 0
    """For how long the tenant keeps prompts and answers; 0 is not at all."""

    def may(self, scope: Scope) -> bool:
        """Say whether the key may call what the scope names; no scopes means all of them."""
        return not self.scopes or scope in self.scopes


def find_principal(digest: bytes) -> Principal | None:
    """Look up a key by its digest; revoked and unknown keys are both None. One query.

    The text that a rotation has replaced is found too, and ends when that says.
    """
    by_text = Q(digest=digest) | Q(previous_digest=digest)
    key = ApiKey.objects.select_related("tenant", "project").filter(by_text, revoked_at=None).first()
    if key is None:
        return None
    ends = [key.expires_at] if bytes(key.digest) == digest else [key.expires_at, key.previous_until]
    return Principal(
        key_id=key.pk,
        key_name=key.name,
        tenant_id=key.tenant_id,
        tenant_name=key.tenant.name,
        tenant_active=key.tenant.status == TenantStatus.ACTIVE,
        timezone=key.tenant.timezone,
        project_id=key.project_id,
        project_name=key.project.name if key.project is not None else "",
        user=key.user,
        scopes=frozenset(key.scopes),
        networks=tuple(ipaddress.ip_network(network) for network in key.ip_allow_list),
        expires_at=min((end for end in ends if end is not None), default=None),
        keep_text_days=key.tenant.keep_text_days,
    )


def digest_of_key(key_id: int) -> bytes | None:
    """The digest that a key is looked up by; None for one that is revoked or gone. One query."""
    digest = ApiKey.objects.filter(pk=key_id, revoked_at=None).values_list("digest", flat=True).first()
    return bytes(digest) if digest is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RateLimitRule:
    """A rate limit as the hot path holds it; None is unlimited."""

    id: int
    scope: str
    subject: str
    requests_per_minute: int | None
    requests_per_day: int | None
    tokens_per_minute: int | None
    tokens_per_day: int | None
    concurrency: int | None

    def subject_of(self, principal: Principal, *, user: str) -> str | None:
        """Under which name a call of this key and end user is counted; None where the rule is not about it."""
        if self.scope == LimitScope.TENANT:
            return ""
        names = {"project": principal.project_name, "user": user, "key": principal.key_name}
        name = names[self.scope]
        return name if name and self.subject in ("", name) else None


def rate_limit_rules(tenant_id: int) -> tuple[RateLimitRule, ...]:
    """The tenant's enabled rate limits. One query."""
    rows = RateLimit.objects.filter(tenant=tenant_id, enabled=True).order_by("pk")
    return tuple(RateLimitRule(**row) for row in rows.values("id", "scope", "subject", *LIMIT_FIELDS))


def config_revisions() -> dict[str, int]:
    """A number for each topic of configuration that differs after every change. One query."""
    return dict(ConfigRevision.objects.values_list("topic", "value"))
