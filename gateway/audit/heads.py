"""Where each chain ends: exported and kept elsewhere, it proves later that nothing was cut off or written anew.

Whoever can change the database can also compute every digest again; what they cannot do is to make it end in the same
one. Keep an export where they cannot reach it.
"""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone

from gateway.audit.verification import Place
from tenants.models import AuditChain, Tenant


class HeadFileError(ValueError):
    """A file that is no export of heads; the text says why."""


def export_heads() -> dict[str, Any]:
    """Every chain with its last event's place and digest."""
    names = dict(Tenant.objects.values_list("pk", "name"))
    heads = [
        {"chain": head.chain, "tenant": names.get(head.chain), "sequence": head.sequence, "digest": head.digest}
        for head in AuditChain.objects.all()
    ]
    return {"exported_at": timezone.now().isoformat(), "heads": heads}


def read_heads(text: str) -> dict[int, Place]:
    """What `export_heads` wrote, by chain. Raises `HeadFileError`."""
    try:
        heads = json.loads(text)["heads"]
        return {int(head["chain"]): Place(int(head["sequence"]), str(head["digest"])) for head in heads}
    except (ValueError, KeyError, TypeError) as error:
        raise HeadFileError("This is not what export_audit_head prints.") from error
