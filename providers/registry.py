"""The adapters there are: every module of `providers.adapters` that defines `ADAPTER`."""

from __future__ import annotations

import importlib
import pkgutil

from providers import adapters
from providers.types import Adapter


def _discover() -> dict[str, Adapter]:
    found: dict[str, Adapter] = {}
    for module_info in pkgutil.iter_modules(adapters.__path__, prefix="providers.adapters."):
        adapter = getattr(importlib.import_module(module_info.name), "ADAPTER", None)
        if adapter is not None:
            found[adapter.kind] = adapter
    return found


ADAPTERS = _discover()


def adapter_for(kind: str) -> Adapter:
    """The adapter that speaks this protocol. Raises KeyError for a kind no file provides."""
    return ADAPTERS[kind]


def kind_choices() -> list[tuple[str, str]]:
    """Choices for `Provider.kind`; a callable, so that a new adapter needs no migration."""
    return [(kind, kind.replace("_", " ")) for kind in sorted(ADAPTERS)]
