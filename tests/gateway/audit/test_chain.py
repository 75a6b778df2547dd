"""The chain: whoever changes it by SQL is found out, at the first event that does not hold; and it holds under load."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction

from gateway.audit.checks import check_chains
from gateway.audit.heads import HeadFileError, export_heads, read_heads
from gateway.audit.verification import Break, Place, verify
from gateway.models import AuditCheck
from tenants.audit import SYSTEM, Subject, record
from tenants.models import PLATFORM, AuditChain, AuditDraft, AuditEvent, Tenant
from tests import factories
from tests.engines import ROOT
from tests.live import until

ODD = 'a "quote", a \\ and\ta\u2028line \x7f é 🦔 </script>'


@pytest.fixture
def chains(committed: None) -> tuple[int, int]:
    """Two tenants' chains of eight events each. The platform has as many for each test."""
    first, second = factories.make_tenant().pk, factories.make_tenant().pk
    for number in range(8):
        for tenant in (first, None, second):
            told("thing.done", tenant, number=number, odd=ODD)
    assert broken(first, second) == []
    return first, second


def broken(*chains: int, anchors: dict[int, Place] | None = None) -> list[Break]:
    """What is found of these chains: those of other tests are as broken as these left them."""
    return [found for found in verify(anchors=anchors).breaks if found.chain in chains]


def told(event: str, tenant: int | None, **details: Any) -> None:
    record(event, by=SYSTEM, about=Subject(type="thing", id="1", name=ODD, tenant_id=tenant), details=details)


def tamper(*statements: str, **parameters: Any) -> None:
    """As somebody does who may do everything in the database: no trigger stops them."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        for statement in statements:
            cursor.execute(statement, parameters)


EVENT = "tenant_id = %(chain)s AND sequence"
TAMPERINGS: dict[str, tuple[list[str], int]] = {
    "edit the details": ([f"UPDATE tenants_auditevent SET data = '{{}}' WHERE {EVENT} = 4"], 4),
    "edit who did it": ([f"UPDATE tenants_auditevent SET actor = 'somebody else' WHERE {EVENT} = 5"], 5),
    "edit when it was": (
        [f"UPDATE tenants_auditevent SET happened_at = happened_at - interval '1 microsecond' WHERE {EVENT} = 1"], 1,
    ),
    "edit the address": ([f"UPDATE tenants_auditevent SET address = '192.0.2.1' WHERE {EVENT} = 8"], 8),
    "move it to another month": (
        [f"UPDATE tenants_auditevent SET created_at = created_at - interval '70 days' WHERE {EVENT} = 3"], 3,
    ),
    "delete one": ([f"DELETE FROM tenants_auditevent WHERE {EVENT} = 6"], 6),
    "delete the first": ([f"DELETE FROM tenants_auditevent WHERE {EVENT} = 1"], 1),
    "reorder": (
        [
            f"UPDATE tenants_auditevent SET sequence = -1 WHERE {EVENT} = 3",
            f"UPDATE tenants_auditevent SET sequence = 3 WHERE {EVENT} = 5",
            f"UPDATE tenants_auditevent SET sequence = 5 WHERE {EVENT} = -1",
        ],
        3,
    ),
    "close the gap": (
        [
            f"DELETE FROM tenants_auditevent WHERE {EVENT} = 2",
            f"UPDATE tenants_auditevent SET sequence = sequence - 1 WHERE {EVENT} > 2",
        ],
        2,
    ),
    "write one in": (
        [
            "INSERT INTO tenants_auditevent SELECT nextval('tenants_auditevent_id_seq'), 4, created_at, digest,"
            " tenant_id, happened_at, event, actor_kind, actor_id, actor, address, object_type, object_id, object_name,"
            f" data FROM tenants_auditevent WHERE {EVENT} = 4",
        ],
        4,
    ),
    "cut the tail": ([f"DELETE FROM tenants_auditevent WHERE {EVENT} > 6"], 7),
    "cut the front, as retention would": (
        [
            "UPDATE tenants_auditchain SET base_sequence = 3, base_digest = cut.digest FROM tenants_auditevent cut"
            " WHERE tenants_auditchain.chain = %(chain)s AND cut.tenant_id = %(chain)s AND cut.sequence = 3",
            f"DELETE FROM tenants_auditevent WHERE {EVENT} <= 3",
        ],
        4,
    ),
    "take the whole chain": (
        [
            "DELETE FROM tenants_auditevent WHERE tenant_id = %(chain)s",
        ],
        1,
    ),
}  # fmt: skip


@pytest.mark.parametrize("way", TAMPERINGS)
def test_the_first_bad_event_is_named(way: str, chains: tuple[int, int]) -> None:
    statements, first_bad = TAMPERINGS[way]
    tamper(*statements, chain=chains[0])
    (found,) = broken(*chains, PLATFORM)
    assert (found.chain, found.sequence) == (chains[0], first_bad), found
    assert verify(chain=chains[0]).breaks == [found] and verify(chain=chains[1]).breaks == []
    with pytest.raises(CommandError, match=f"tenant {chains[0]}, event {first_bad}: "):
        call_command("verify_audit", stdout=StringIO())


CUT = f"DELETE FROM tenants_auditevent WHERE {EVENT} > 6"
HEAD_BACK = (
    "UPDATE tenants_auditchain SET sequence = 6, digest = last.digest FROM tenants_auditevent last"
    " WHERE tenants_auditchain.chain = %(chain)s AND last.tenant_id = %(chain)s AND last.sequence = 6"
)


def test_a_cut_tail_whose_head_was_set_back_is_found_by_an_exported_head(
    chains: tuple[int, int], tmp_path: Path
) -> None:
    exported = tmp_path / "head.json"
    out = StringIO()
    call_command("export_audit_head", stdout=out)
    exported.write_text(out.getvalue())
    tamper(CUT, HEAD_BACK, chain=chains[0])
    assert broken(*chains) == [], "the control: inside the database nothing is left that knows"
    with pytest.raises(CommandError, match=f"tenant {chains[0]}, event 7: it is missing: the exported head is further"):
        call_command("verify_audit", "--head", str(exported), stdout=StringIO())
    told("thing.done", chains[0])
    told("thing.done", chains[0])  # as long as it was, and not the same
    with pytest.raises(CommandError, match=f"tenant {chains[0]}, event 8: it is not the one of the exported head"):
        call_command("verify_audit", "--head", str(exported), stdout=StringIO())


def test_a_whole_chain_that_was_written_anew_is_found_by_an_exported_head(chains: tuple[int, int]) -> None:
    anchors = read_heads(json.dumps(export_heads()))
    tamper(
        "DELETE FROM tenants_auditevent WHERE tenant_id = %(chain)s",
        "DELETE FROM tenants_auditchain WHERE chain = %(chain)s",
        chain=chains[0],
    )
    assert broken(*chains) == []
    (found,) = broken(*chains, anchors=anchors)
    assert (found.chain, found.sequence) == (chains[0], 1)


def test_every_break_is_kept_for_the_admin(chains: tuple[int, int]) -> None:
    for number, chain in enumerate(chains, start=2):
        tamper(f"DELETE FROM tenants_auditevent WHERE {EVENT} = {number}", chain=chain)
    check_chains()
    newest = AuditCheck.objects.first()
    assert newest is not None and not newest.ok
    assert [(each["chain"], each["sequence"]) for each in newest.breaks][-2:] == [(chains[0], 2), (chains[1], 3)]


def test_a_file_that_is_no_export(chains: tuple[int, int], tmp_path: Path) -> None:
    for text in ("", "[]", '{"heads": [{"chain": 1}]}', "null"):
        with pytest.raises(HeadFileError):
            read_heads(text)
    (tmp_path / "head").write_text("{}")
    with pytest.raises(CommandError, match="not what export_audit_head prints"):
        call_command("verify_audit", "--head", str(tmp_path / "head"))
    with pytest.raises(CommandError, match="cannot be read"):
        call_command("verify_audit", "--head", str(tmp_path / "none"))
    with pytest.raises(CommandError, match="no tenant 'nobody'"):
        call_command("verify_audit", "--tenant", "nobody")
    out = StringIO()
    call_command("verify_audit", "--tenant", Tenant.objects.get(pk=chains[1]).name, stdout=out)
    assert out.getvalue() == "Read 8 events in 1 chains.\nEvery chain is whole.\n"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE tenants_auditevent SET actor = 'x' WHERE sequence = 1",
        "DELETE FROM tenants_auditevent WHERE sequence = 8",
        "UPDATE tenants_auditchain SET sequence = sequence - 1",
        "UPDATE tenants_auditchain SET digest = 'x'",
        "DELETE FROM tenants_auditchain",
    ],
)
def test_without_switching_triggers_off_nothing_can_be_changed(statement: str, chains: tuple[int, int]) -> None:
    with pytest.raises(ProgrammingError, match=r"only grows|only forward"), connection.cursor() as cursor:
        cursor.execute(statement)
    assert broken(*chains) == []


def test_what_is_hashed_can_be_written_by_anybody(chains: tuple[int, int]) -> None:
    """The recipe of docs/how-to/prove-the-audit-log.md, over one event."""
    first, second = AuditEvent.objects.filter(tenant=chains[0]).order_by("sequence")[:2]
    micros = [round(moment.timestamp() * 1_000_000) for moment in (second.created_at, second.happened_at)]
    form = json.dumps(
        [
            first.digest, second.tenant_id, second.sequence, *micros, second.event, second.actor_kind, second.actor_id,
            second.actor, second.address, second.object_type, second.object_id, second.object_name, second.data,
        ],
        ensure_ascii=False,
    )  # fmt: skip
    assert hashlib.sha256(form.encode()).hexdigest() == second.digest


# Transactions ---------------------------------------------------------------------------------------------------------


def test_an_event_is_there_exactly_if_its_transaction_is(committed: None) -> None:
    tenant = factories.make_tenant().pk
    events = AuditEvent.objects.filter(tenant=tenant)
    with pytest.raises(RuntimeError), transaction.atomic():
        told("thing.undone", tenant)
        raise RuntimeError
    with transaction.atomic():
        told("thing.done", tenant, number=1)
        told("thing.done", tenant, number=2)
        assert not events.exists()
    assert [event.details for event in events.order_by("sequence")] == [{"number": 1}, {"number": 2}]
    assert not AuditDraft.objects.exists() and broken(tenant) == []


APPENDER = """
import sys
import psycopg
conninfo, first, second, batches = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
one = '{"tenant_id": %d, "happened_at": "2026-01-01T00:00:00Z", "event": "thing.done", "actor_kind": "system", ' \\
    '"actor_id": null, "actor": "", "address": "", "object_type": "t", "object_id": "1", "object_name": "", "data": {}}'
with psycopg.connect(conninfo, autocommit=True) as connection:
    for number in range(batches):
        order = (first, second) if number % 2 else (second, first)
        batch = "[" + ",".join(one % tenant for tenant in order * 5) + "]"
        connection.execute(sys.argv[5], [batch])
"""


def append_from_processes(*tenants: int, statement: str, processes: int = 4, batches: int = 40) -> list[str]:
    """Append to two chains from several processes, in turn in one order and the other; what each complained of."""
    conninfo = connection.get_connection_params()
    text = " ".join(f"{name}={value}" for name, value in conninfo.items() if name in ("host", "port", "dbname", "user"))
    command = [sys.executable, "-c", APPENDER, text, *map(str, tenants), str(batches), statement]
    running = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ) for _ in range(processes)
    ]
    return [process.communicate(timeout=120)[1] for process in running]


def test_processes_write_one_chain(committed: None) -> None:
    tenants = factories.make_tenant().pk, factories.make_tenant().pk
    complaints = append_from_processes(*tenants, statement="SELECT audit_append(%s::json)")
    assert complaints == [""] * 4
    assert broken(*tenants) == []
    assert {head.sequence for head in AuditChain.objects.filter(chain__in=tenants)} == {4 * 40 * 5}


def test_control_without_the_lock_the_chain_breaks(committed: None) -> None:
    """The same processes and a function that does not lock the head it goes on from."""
    tenants = factories.make_tenant().pk, factories.make_tenant().pk
    told("thing.done", tenants[0])
    told("thing.done", tenants[1])
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_get_functiondef('audit_append'::regproc)")
        (source,) = cursor.fetchone()
        assert source.count("FOR UPDATE") == 2
        cursor.execute(source.replace("FOR UPDATE", "").replace("audit_append(", "audit_append_unlocked(", 1))
        cursor.execute("ALTER TABLE tenants_auditchain DISABLE TRIGGER tenants_auditchain_only_forward")
        try:
            until(lambda: breaks_unlocked(*tenants), seconds=60, what="two processes at one head")
        finally:
            cursor.execute("ALTER TABLE tenants_auditchain ENABLE TRIGGER tenants_auditchain_only_forward")
            cursor.execute("DROP FUNCTION audit_append_unlocked")


def breaks_unlocked(*tenants: int) -> bool:
    append_from_processes(*tenants, statement="SELECT audit_append_unlocked(%s::json)")
    return broken(*tenants) != []


def test_a_break_reads_well() -> None:
    assert str(Break(PLATFORM, 3, "it is missing")) == "the platform, event 3: it is missing"
