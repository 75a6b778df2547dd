"""What each operator role may do, answered to Django's permission checks.

Roles stand in one table here instead of in permission rows, so a new model needs no migration to be governed.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth.backends import ModelBackend

from tenants.models import Role
from tenants.scoping import may_member_view

OWNER_ONLY_MODELS = frozenset({"operator", "credential", "adjustment", "markup", "membership"})
"""An operator who could edit these could make themselves an owner, send a provider's key elsewhere, move money,
change what tenants pay, or say who sees which tenant."""

OPERATOR_ACTIONS = frozenset({"view", "add", "change"})

MEMBER_ACTIONS = frozenset({"tenants.rotate_apikey"})
"""What a tenant's member may do besides looking at what `tenants.scoping` lists."""


def role_allows(role: str, permission: str) -> bool:
    """Say whether a role holds a permission such as `tenants.change_tenant`."""
    if role == Role.OWNER:
        return True
    app, _, codename = permission.rpartition(".")
    action, _, model = codename.partition("_")
    if role == Role.MEMBER:
        return permission in MEMBER_ACTIONS or (action == "view" and may_member_view(f"{app}.{model}"))
    if action == "view":
        return True
    return role == Role.OPERATOR and action in OPERATOR_ACTIONS and model not in OWNER_ONLY_MODELS


class RoleBackend(ModelBackend):
    """Password login as Django does it; permissions from the operator's role."""

    def has_perm(self, user_obj: Any, perm: str, obj: object | None = None) -> bool:
        return bool(user_obj.is_active and not user_obj.is_anonymous and role_allows(user_obj.role, perm))

    def has_module_perms(self, user_obj: Any, app_label: str) -> bool:
        return bool(user_obj.is_active and not user_obj.is_anonymous)
