"""Admin pages for people, and for what they are told; importing this registers them all, and watches who logs in."""

from __future__ import annotations

from tenants import sign_ins
from tenants.admin import keys, members, notifications, people

__all__ = ["keys", "members", "notifications", "people", "sign_ins"]
