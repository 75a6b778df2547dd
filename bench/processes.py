"""CPU, memory and cores of process trees, as the kernel accounts them in /proc (proc_pid_stat(5))."""

import contextlib
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Cores:
    """Which cores who may use: the server being measured has one to itself, everything else shares the others."""

    server: frozenset[int]
    others: frozenset[int]


@dataclass(frozen=True)
class Account:
    """What one process has used so far; `cpu_seconds` includes the children it has buried."""

    parent_pid: int
    cpu_seconds: float
    resident_bytes: int


def split_cores() -> Cores | None:
    """The split of the cores we may use; None when there is only one, and then nothing is pinned."""
    cores = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(cores[:1]), frozenset(cores[1:])) if len(cores) > 1 else None


def pin(root_pid: int, cores: frozenset[int]) -> None:
    """Keep every thread of the tree to these cores; threads and children started later inherit it."""
    for pid in _tree(root_pid):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
            for thread in (PROC / str(pid) / "task").iterdir():
                os.sched_setaffinity(int(thread.name), cores)


def is_running(pid: int) -> bool:
    """Whether there is a process of this id."""
    return (PROC / str(pid)).exists()


def cpu_seconds(root_pid: int) -> float:
    """User and system seconds used so far by the tree."""
    return sum(account.cpu_seconds for account in _tree(root_pid).values())


def resident_bytes(root_pid: int) -> int:
    """Resident memory of the tree. Pages that its processes share count once for each."""
    return sum(account.resident_bytes for account in _tree(root_pid).values())


def machine_cpu_seconds() -> float:
    """Seconds the machine's cores have been busy since boot, whoever used them."""
    user, nice, system, _idle, _iowait, irq, softirq = map(int, (PROC / "stat").read_text().split()[1:8])
    return (user + nice + system + irq + softirq) / TICKS_PER_SECOND


def _tree(root_pid: int) -> dict[int, Account]:
    accounts: dict[int, Account] = {}
    children = defaultdict(list)
    for entry in PROC.iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                accounts[int(entry.name)] = account = _read_account(entry)
                children[account.parent_pid].append(int(entry.name))
    tree: dict[int, Account] = {}
    waiting = [root_pid] if root_pid in accounts else []
    while waiting:
        pid = waiting.pop()
        tree[pid] = accounts[pid]
        waiting += children[pid]
    return tree


def _read_account(entry: Path) -> Account:
    # The name, second field, may hold spaces and parentheses: what follows its last ")" starts with field 3.
    fields = (entry / "stat").read_text().rpartition(")")[2].split()
    ticks = sum(map(int, fields[11:15]))  # utime, stime, cutime, cstime
    return Account(int(fields[1]), ticks / TICKS_PER_SECOND, int(fields[21]) * PAGE_BYTES)
