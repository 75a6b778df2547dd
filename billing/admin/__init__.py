"""Admin pages for money; importing this registers them all."""

from __future__ import annotations

from billing.admin import prices, usage

__all__ = ["prices", "usage"]
