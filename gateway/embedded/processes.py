"""Child processes that never outlive us, and the search for those that once did.

Two nets keep a `kill -9` of the parent from leaving servers behind. On Linux the kernel itself sends each child its
stop signal when the parent dies (PR_SET_PDEATHSIG, prctl(2)). Everywhere, the next start looks for what the last run
left and stops it first; what counts as "ours" is the caller's test, made on the live process.
"""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
_LOG_TAIL_BYTES = 16_384


class EngineError(Exception):
    """A server could not be started; the text is one sentence meant for the person at the terminal."""


@dataclass(frozen=True)
class Account:
    """The operating system user a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, kw_only=True)
class Launch:
    """All it takes to start one child; `stop_signal` is what makes it end in good order."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    working_folder: Path
    log_path: Path
    stop_signal: signal.Signals = signal.SIGTERM
    stop_timeout_seconds: float = 5.0
    account: Account | None = None


class SupervisedProcess:
    """One running child in a process group of its own, so that Ctrl-C reaches it through us and in our order."""

    def __init__(self, launch: Launch) -> None:
        """Start it. The log of the run before is kept beside the new one as `NAME.log.1`."""
        self.launch = launch
        with _fresh_log(launch.log_path) as log:
            self._popen = subprocess.Popen(  # noqa: S603 - the caller's own command
                launch.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=launch.working_folder,
                env=dict(launch.environment),
                process_group=0,
                preexec_fn=die_with_parent(launch.stop_signal),
                user=launch.account.uid if launch.account else None,
                group=launch.account.gid if launch.account else None,
                extra_groups=[] if launch.account else None,
            )

    @property
    def pid(self) -> int:
        """Process id, which is also the id of its process group."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._popen.poll()

    def stop(self) -> None:
        """End it and whatever it started; returns when it is gone, after `stop_timeout_seconds` by force."""
        if self._popen.poll() is None:
            self._popen.send_signal(self.launch.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(self.launch.stop_timeout_seconds)
        # The group may hold members that outlived their leader, for example web workers.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def last_log_lines(self, count: int = 15) -> list[str]:
        """The end of its log, at most `count` lines."""
        with self.launch.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(0, size - _LOG_TAIL_BYTES))
            return log.read().decode(errors="replace").splitlines()[-count:]

    def wait_until(self, is_ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Poll until ready. Raises EngineError when it dies first or takes too long, with the end of its log."""
        deadline = time.monotonic() + timeout_seconds
        while not is_ready():
            if self.exit_code is not None:
                raise EngineError(self.obituary())
            if time.monotonic() > deadline:
                late = f"{self.launch.name} was not ready within {timeout_seconds:g} s."
                raise EngineError(f"{late} {self._log_excerpt()}")
            time.sleep(0.02)

    def obituary(self) -> str:
        """What to tell when it ended although nobody asked it to."""
        return f"{self.launch.name} ended by itself (exit code {self.exit_code}). {self._log_excerpt()}"

    def _log_excerpt(self) -> str:
        return "\n    ".join([f"The end of {self.launch.log_path}:", *self.last_log_lines()])


def stop_orphans(
    is_ours: Callable[[psutil.Process], bool], stop_signal: signal.Signals, *, timeout_seconds: float
) -> int:
    """Stop every process for which `is_ours` holds, parents first by signal, the rest by force; returns how many."""
    orphans = {process.pid: process for process in psutil.process_iter() if _holds(is_ours, process)}
    orphans.pop(os.getpid(), None)
    for process in orphans.values():
        with contextlib.suppress(psutil.Error):
            if process.ppid() not in orphans:
                process.send_signal(stop_signal)
    for process in _wait_until_gone(list(orphans.values()), timeout_seconds):
        with contextlib.suppress(psutil.Error):
            process.kill()
    _wait_until_gone(list(orphans.values()), timeout_seconds)
    return len(orphans)


def works_in(folder: Path, *names: str) -> Callable[[psutil.Process], bool]:
    """A test for `stop_orphans`: the program is called one of `names` and its working directory is `folder`.

    The working directory says more than a pid file: a server changes into its data folder and stays there, whereas a
    pid written down before a reboot may by now belong to somebody's editor.
    """
    resolved = str(folder.resolve())
    return lambda process: process.name() in names and process.cwd() == resolved


def _wait_until_gone(processes: list[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Returns those still running in the end."""
    deadline = time.monotonic() + timeout_seconds
    while True:
        processes = [process for process in processes if _holds(psutil.Process.is_running, process)]
        if not processes or time.monotonic() > deadline:
            return processes
        time.sleep(0.02)


def _holds(is_ours: Callable[[psutil.Process], bool], process: psutil.Process) -> bool:
    try:
        # A dead process that its new parent has not collected yet (init of a container may never do so) counts as gone.
        return process.status() != psutil.STATUS_ZOMBIE and is_ours(process)
    except psutil.Error:  # gone meanwhile, or another user's and therefore not ours
        return False


def _fresh_log(path: Path) -> BinaryIO:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.exists():
        path.replace(path.with_name(f"{path.name}.1"))
    return open(path, "xb", opener=lambda name, flags: os.open(name, flags, 0o600))


def die_with_parent(stop_signal: signal.Signals) -> Callable[[], None] | None:
    """What a new process calls to be sent `stop_signal` when the thread that made it is gone; None but on Linux."""
    if _LIBC is None:
        return None
    set_process_option, parent_pid = _LIBC.prctl, os.getpid()

    def ask_the_kernel() -> None:
        set_process_option(_PR_SET_PDEATHSIG, int(stop_signal))
        if os.getppid() != parent_pid:  # the parent died before the request was in place
            os._exit(1)

    return ask_the_kernel
