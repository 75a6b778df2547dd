"""What a worker process of the statement tests does. Its parent names the database in the environment."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from multiprocessing.synchronize import Event as EventType

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "gateway.settings")
django.setup()

from billing.statements.nightly import make_due_statements  # noqa: E402 -- Django first

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.billing.statement_worker"])


def make_all(tenant_ids: list[int], go: EventType) -> None:
    """Wait for the word, then make the tenants' statements one after another."""
    go.wait()
    for tenant_id in tenant_ids:
        make_due_statements(tenant_id)


def start_worker(tenant_ids: list[int]) -> tuple[ForkServerProcess, Callable[[], None]]:
    """A process of its own that is ready, and what sets it going."""
    go = _context.Event()
    process = _context.Process(target=make_all, args=(tenant_ids, go))
    process.start()
    return process, go.set
