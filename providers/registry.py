"""The adapters there are: every module of `providers.adapters` that defines `ADAPTER`."""

from __future__ import annotations

import importlib
import pkgutil

from providers import adapters
from providers.asynchronous import AsynchronousAdapter
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


def _discover_asynchronous() -> dict[tuple[str, str], AsynchronousAdapter]:
    found: dict[tuple[str, str], AsynchronousAdapter] = {}
    for module_info in pkgutil.iter_modules(adapters.__path__, prefix="providers.adapters."):
        for adapter in getattr(importlib.import_module(module_info.name), "ASYNCHRONOUS", ()):
            found.update({(adapter.kind, operation): adapter for operation in adapter.operations})
    return found


_ASYNCHRONOUS = _discover_asynchronous()
ASYNCHRONOUS_OPERATIONS = frozenset(operation for _, operation in _ASYNCHRONOUS)
"""What providers work on by themselves: a call of these is always a job."""


def asynchronous_adapter(kind: str, operation: str) -> AsynchronousAdapter | None:
    """The adapter by which a provider of this kind is given such work; None where its answer is waited for."""
    return _ASYNCHRONOUS.get((kind, operation))


def operations_of(kind: str) -> frozenset[str]:
    """All that a protocol can be asked for."""
    return adapter_for(kind).operations | {operation for own, operation in _ASYNCHRONOUS if own == kind}


def capabilities_of(kind: str, operation: str) -> frozenset[str]:
    """What a protocol can carry in such a call."""
    adapter = asynchronous_adapter(kind, operation)
    return adapter.capabilities if adapter is not None else adapter_for(kind).capabilities


def kind_choices() -> list[tuple[str, str]]:
    """Choices for `Provider.kind`; a callable, so that a new adapter needs no migration."""
    return [(kind, kind.replace("_", " ")) for kind in sorted(ADAPTERS)]
