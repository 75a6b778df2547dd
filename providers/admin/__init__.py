"""Admin pages for the registry; importing this registers them all."""

from __future__ import annotations

from providers.admin import approvals, groups, models, offered_models, upstream

__all__ = ["approvals", "groups", "models", "offered_models", "upstream"]
