"""Reading types from the database."""

from __future__ import annotations

import logging

from gateway.schemas.catalogue import TypeCatalogue, TypeEntry
from gateway.schemas.documents import SchemaError, read_document
from gateway.schemas.models import SchemaType, TypeState

logger = logging.getLogger(__name__)


def load_types() -> TypeCatalogue:
    """Every published or withdrawn type. One query."""
    rows = SchemaType.objects.exclude(state=TypeState.DRAFT)
    return TypeCatalogue(entry for row in rows if (entry := _entry(row)) is not None)


def published_types(tenant_id: int | None) -> TypeCatalogue:
    """What a type of this owner's may refer to: its own and every tenant's. One query."""
    rows = SchemaType.objects.exclude(state=TypeState.DRAFT).filter(tenant_id__isnull=True)
    if tenant_id is not None:
        rows |= SchemaType.objects.exclude(state=TypeState.DRAFT).filter(tenant_id=tenant_id)
    return TypeCatalogue(entry for row in rows if (entry := _entry(row)) is not None)


def _entry(row: SchemaType) -> TypeEntry | None:
    """None for a row that only SQL can have written: one such must not take all others with it."""
    try:
        schema = read_document(row.schema)
    except SchemaError as error:
        logger.error("types.row_unreadable", extra={"type": row.reference, "reason": str(error)})
        return None
    return TypeEntry(
        tenant_id=row.tenant_id,
        name=row.name,
        version=row.version,
        description=row.description,
        schema=schema,
        is_withdrawn=row.state == TypeState.WITHDRAWN,
        published_at=row.published_at or row.created_at,
    )
