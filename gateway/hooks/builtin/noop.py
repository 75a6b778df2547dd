"""A hook that allows everything: for measuring what being asked costs."""

from __future__ import annotations

from gateway.hooks.base import Hook, NoSettings, Stage, Streams


class Noop(Hook[NoSettings]):
    name = "noop"
    description = "Allows everything. For measuring what a hook costs, and for trying out bindings."

    stages = frozenset({Stage.BEFORE, Stage.AFTER})
    streams = Streams.PASS
    waits = False


HOOK = Noop
