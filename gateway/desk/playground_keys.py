"""The key that the playground calls with as a tenant: a row like any other, whose text nobody has ever had.

So it is limited, budgeted, listed and revoked like the tenant's own keys, under a name that says what it is.
"""

from __future__ import annotations

from django.db import IntegrityError, transaction

from tenants.models import ApiKey, Operator, Tenant
from tenants.services import create_key

NAME = "bursar-playground"
"""Set a budget or a rate limit of scope key for this name to cap what playing may cost."""


class NoPlaygroundError(Exception):
    """The tenant's playground key was revoked, so nobody may play as it."""


def playground_key(tenant: Tenant, *, by: Operator) -> ApiKey:
    """The tenant's, made when it is first needed. Raises `NoPlaygroundError`."""
    key = ApiKey.objects.filter(tenant=tenant, name=NAME).first()
    if key is None:
        try:
            with transaction.atomic():
                key, _ = create_key(tenant, NAME, created_by=by)
        except IntegrityError:  # somebody else made it in the same moment
            key = ApiKey.objects.get(tenant=tenant, name=NAME)
    if key.revoked_at is not None:
        raise NoPlaygroundError(f"The key {key} was revoked, so nobody may play as this tenant.")
    return key
