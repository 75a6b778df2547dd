"""The hooks there are: every module of `gateway.hooks.builtin` that defines `HOOK`; and building one from a row."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.hooks import builtin
from gateway.hooks.base import Hook, Resources, SettingsError

AnyHook = Hook[Any]


def _discover() -> tuple[dict[str, type[AnyHook]], dict[str, str]]:
    found: dict[str, type[AnyHook]] = {}
    absent: dict[str, str] = {}
    for module_info in pkgutil.iter_modules(builtin.__path__, prefix="gateway.hooks.builtin."):
        module = importlib.import_module(module_info.name)
        hook = getattr(module, "HOOK", None)
        if hook is not None:
            found[hook.name] = hook
        elif hasattr(module, "ABSENT"):
            absent[module.NAME] = module.ABSENT
    return found, absent


HOOKS, ABSENT = _discover()
"""The hooks by name; and those that need something that is not installed, with what to do about it."""


def hook_choices() -> list[tuple[str, str]]:
    """Choices for a binding; a callable, so that a new hook needs no migration."""
    return [(name, name.replace("_", " ")) for name in sorted(HOOKS)]


def build(name: str, settings: Mapping[str, Any], *, resources: Resources) -> AnyHook:
    """A hook that is ready to be asked. Raises `SettingsError`."""
    kind = HOOKS.get(name)
    if kind is None and name in ABSENT:
        raise SettingsError(ABSENT[name])
    if kind is None:
        raise SettingsError(f"There is no hook called {name!r}; there is {', '.join(sorted(HOOKS))}.")
    try:
        read = msgspec.convert(settings, kind.settings_type)
    except msgspec.ValidationError as error:
        problem, _, place = str(error).partition(" - at `")
        field = place.rstrip("`").removeprefix("$").removeprefix(".")
        name_of_field = field.partition(".")[0].partition("[")[0]
        raise SettingsError(f"{field}: {problem}" if field else problem, name_of_field) from error
    return kind(read, resources)
