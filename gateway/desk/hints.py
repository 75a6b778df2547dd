"""What to do about an error: one sentence for each code that an operator can mend, and the page to mend it on."""

from __future__ import annotations

from django.urls import reverse

BOARD = "provider_board"
_HINTS = {
    "model_not_approved": ("Approve it for this tenant, or choose another.", "providers_tenantapproval_changelist"),
    "model_not_found": ("Choose one from the list, or add it to the registry.", "providers_model_changelist"),
    "capability_not_supported": ("Choose a model that can do it.", "providers_model_changelist"),
    "budget_exceeded": ("Raise the budget, allow more for now, or wait.", "billing_budget_changelist"),
    "price_unknown": ("A hard budget needs a price: give the model one.", "billing_price_changelist"),
    "rate_limited": ("Wait as long as Retry-After says, or raise the limit it names.", "tenants_ratelimit_changelist"),
    "invalid_api_key": ("The tenant's playground key was revoked or has expired.", "tenants_apikey_changelist"),
    "permission_denied": ("The tenant's playground key lacks this scope.", "tenants_apikey_changelist"),
    "tenant_suspended": ("Resume the tenant on its page.", "tenants_tenant_changelist"),
    "request_blocked": ("A hook of this tenant's blocked it.", "gateway_hookbinding_changelist"),
    "response_blocked": ("A hook of this tenant's blocked the answer.", "gateway_hookbinding_changelist"),
    "provider_error": ("The provider broke or refused: see how it is doing.", BOARD),
    "provider_timeout": ("The provider was too slow: see how it is doing.", BOARD),
    "provider_unavailable": ("Nobody could be asked: see breakers and deployments.", BOARD),
    "response_validation_failed": ("Ease the schema, or try another model.", "gateway_schematype_changelist"),
    "validation_error": ("Change the field it names.", ""),
    "unsupported_media": ("Send PNG, JPEG, WebP or GIF.", ""),
    "payload_too_large": ("Send less: a smaller picture, or fewer turns.", ""),
    "overloaded": ("Ask again in a moment.", ""),
    "request_cancelled": ("It was stopped; what was used is charged.", ""),
}  # fmt: skip


def hints() -> dict[str, dict[str, str]]:
    """By error code: `words`, and `url` where there is a page for it."""
    return {code: {"words": words, "url": _url(page)} for code, (words, page) in _HINTS.items()}


def _url(page: str) -> str:
    if not page:
        return ""
    return reverse(page if page == BOARD else f"admin:{page}")
