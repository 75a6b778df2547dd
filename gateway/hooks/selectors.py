"""The hooks of a tenant as the hot path holds them."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.hooks.base import Hook, NoSettings, Resources, SettingsError, Streams, Subject, Verdict, Window
from gateway.hooks.models import HookBinding, OnFailure, resources_of
from gateway.hooks.registry import AnyHook, build


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundHook:
    """A hook with where it applies and what holds when it fails."""

    name: str
    kind: str
    """Of the hook, in the registry."""
    hook: AnyHook
    project_id: int | None
    model: str
    timeout_seconds: float
    fail_open: bool


class Broken(Hook[NoSettings]):
    """Stands for a binding whose settings no longer hold: it fails each time, and the binding says what follows."""

    name = "broken"
    description = "A binding that cannot be read."
    streams = Streams.WINDOW  # it fails at once, and holds nothing back

    def __init__(self, problem: str) -> None:
        super().__init__(NoSettings(), Resources())
        self._problem = problem

    async def before_call(self, request: Subject) -> Verdict:
        raise SettingsError(self._problem)

    async def on_chunk(self, window: Window) -> Verdict:
        raise SettingsError(self._problem)

    async def after_call(self, answer: Subject) -> Verdict:
        raise SettingsError(self._problem)


class HookShelf:
    """The hooks of tenants as they were at one revision of the configuration: keys of one tenant share them."""

    def __init__(self) -> None:
        self._by_tenant: dict[int, tuple[BoundHook, ...]] = {}

    def of(self, tenant_id: int, project_id: int | None) -> tuple[BoundHook, ...]:
        """The enabled hooks for keys of a project, in their order. Up to two queries the first time."""
        bound = self._by_tenant.get(tenant_id)
        if bound is None:
            bound = self._by_tenant[tenant_id] = load_hooks(tenant_id)
        return tuple(one for one in bound if one.project_id in (None, project_id))


def load_hooks(tenant_id: int) -> tuple[BoundHook, ...]:
    """The tenant's enabled hooks in their order. One query for a tenant without any, else two."""
    rows = list(HookBinding.objects.filter(tenant=tenant_id, enabled=True).order_by("position", "pk"))
    if not rows:
        return ()
    resources = resources_of(tenant_id)
    return tuple(bind(row, resources) for row in rows)


def bind(row: HookBinding, resources: Resources) -> BoundHook:
    """A row as the runner takes it. One whose settings do not hold fails when it is asked."""
    try:
        hook = build(row.hook, row.settings, resources=resources)
    except SettingsError as error:
        hook = Broken(str(error))
    return BoundHook(
        name=row.name,
        kind=row.hook,
        hook=hook,
        project_id=row.project_id,
        model=row.model,
        timeout_seconds=row.timeout_ms / 1000,
        fail_open=row.on_failure == OnFailure.OPEN,
    )
