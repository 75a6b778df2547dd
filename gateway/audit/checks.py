"""Verifying every chain and keeping what came of it, for the command, the nightly task and the admin."""

from __future__ import annotations

import datetime as dt
import logging
from collections.abc import Mapping

from django.utils import timezone

from gateway.audit.verification import Place, Verification, verify
from gateway.models import AuditCheck

logger = logging.getLogger(__name__)

KEPT = dt.timedelta(days=90)


def check_chains(anchors: Mapping[int, Place] | None = None) -> Verification:
    """Read every chain and keep the result. Not to be called inside a transaction."""
    found = verify(anchors=anchors)
    breaks = [{"chain": each.chain, "sequence": each.sequence, "says": each.says} for each in found.breaks]
    AuditCheck.objects.create(ok=not breaks, events=found.events, breaks=breaks)
    if breaks:
        logger.critical("audit.broken", extra={"breaks": [str(each) for each in found.breaks]})
    return found


def prune_audit_checks() -> int:
    """Delete results older than `KEPT`, but never the newest; returns how many."""
    newest = AuditCheck.objects.values("pk")[:1]
    return AuditCheck.objects.filter(at__lt=timezone.now() - KEPT).exclude(pk__in=newest).delete()[0]
