"""Making the database match a configuration file: all of it or nothing."""

from __future__ import annotations

import zlib

from django.db import connection, transaction

from gateway.configuration.apply_registry import apply_agent_type, apply_group, apply_models, apply_provider
from gateway.configuration.apply_tenants import apply_tenant
from gateway.configuration.document import Document
from gateway.configuration.pruning import prune
from gateway.configuration.report import Report
from gateway.configuration.types import apply_types

_LOCK = zlib.crc32(b"bursar configuration")


@transaction.atomic
def apply_document(document: Document, *, prune_unnamed: bool = False, dry_run: bool = False) -> Report:
    """Write what differs and report it; a second call with the same document writes nothing.

    `prune_unnamed` also takes away what the document does not name. `dry_run` reports what would be done and does
    nothing. Raises `ConfigurationError`, changing nothing, when the document does not fit the database.
    """
    lock_configuration()
    report = Report()
    for provider in document.providers or ():
        apply_provider(provider, report)
    apply_models(document.models or (), report)
    for group in document.groups or ():
        apply_group(group, report)
    for name, target in (document.agent_types or {}).items():
        apply_agent_type(name, target, report=report)
    apply_types(None, document.types or (), report=report)
    for tenant in document.tenants or ():
        apply_tenant(tenant, report)
    if prune_unnamed:
        prune(document, report)
    if dry_run:
        report.keys.clear()  # these keys will never exist
        report.webhook_secrets.clear()
        transaction.set_rollback(True)
    return report


def lock_configuration() -> None:
    """Wait for another `apply`, `export` or seeding to finish: until this transaction ends no other one begins."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
