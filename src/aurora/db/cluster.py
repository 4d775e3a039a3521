"""The files of an embedded PostgreSQL: its data folder, settings, socket folder, and lock file."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aurora.core.errors import Unavailable
from aurora.db.binaries import ACCOUNT, Account, Binaries, ProgramFailed

LOG_NAME: Final = "postgres.log"
SETTINGS_NAME: Final = "aurora.conf"
PORT: Final = 5432
ANSWER_TIMEOUT_S: Final = 5.0
# The kernel's field holds 108 bytes on Linux and 104 on macOS, with the closing zero.
MAX_SOCKET_PATH_BYTES: Final = 100

# An eighth of the memory and not the quarter that a machine of its own would give: the API, the
# worker, and others live beside it, and the kernel caches what this does not.
MEMORY_SHARE: Final = 8
MIN_BUFFERS_MB: Final = 128
MAX_BUFFERS_MB: Final = 1024
_CONTAINERS_LIMITS: Final = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)

SETTINGS: Final[Mapping[str, str]] = {
    # So much is read again after a crash: 55 s for 3.5 GB of random keys on two busy cores.
    "max_wal_size": "3GB",
    "synchronous_commit": "on",
    "fsync": "on",
    "max_connections": "100",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "cluster_name": "aurora",
    # A client that hangs must not hold its locks for ever.
    "idle_in_transaction_session_timeout": "5min",
    # Nothing of what passes through may stand in the log: neither parameters, nor literals, nor
    # the `Failing row contains (…)` that a violated constraint adds as detail.
    "log_min_duration_statement": "-1",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
    "log_checkpoints": "off",
}

_SETTING_NAME: Final = re.compile(r"[a-z_][a-z0-9_]*(\.[a-z_][a-z0-9_]*)?")
# From version 17 on PostgreSQL has a C.UTF-8 of its own, the same on every system and for ever.
_FIRST_BUILTIN_LOCALE: Final = 17
_LINES_WHEN_READY: Final = 8
# The shortest question of the protocol (PostgreSQL 18, section 54.7): any answer is a living
# server's. A connection alone is taken by the kernel, also for a server that is just dying.
_SSL_REQUEST: Final = bytes([0, 0, 0, 8, 0x04, 0xD2, 0x16, 0x2F])


class HomeNotUsable(Unavailable):
    """AURORA_HOME cannot be written, reached, or belongs to somebody else."""

    code, title = "home_not_usable", "AURORA_HOME cannot be used"


class OtherMajorVersion(Unavailable):
    """The data folder was written by another major version of PostgreSQL."""

    code, title = "other_major_version", "The data are of another major version of PostgreSQL"


@dataclass(frozen=True, slots=True)
class Postmaster:
    """What a running server writes into its data folder."""

    pid: int
    port: int
    socket_folder: Path | None
    is_ready: bool

    def answers(self) -> bool:
        """Return whether it takes connections at this moment.

        Raises:
            PermissionError: Not from us.
        """
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(ANSWER_TIMEOUT_S)
            try:
                client.connect(f"{self.socket_folder}/.s.PGSQL.{self.port}")
                client.sendall(_SSL_REQUEST)
                return bool(client.recv(1))
            except (ConnectionError, FileNotFoundError, TimeoutError, BlockingIOError):
                return False


def read_postmaster(data: Path) -> Postmaster | None:
    """Return the running server of a data folder, or None when what is written there is stale.

    Raises:
        PermissionError: The folder is not ours.
    """
    try:
        lines = (data / "postmaster.pid").read_text().splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not lines or not lines[0].isdigit() or not _is_postmaster(int(lines[0]), data):
        return None
    ready = len(lines) >= _LINES_WHEN_READY and lines[7].strip() == "ready"
    return Postmaster(
        pid=int(lines[0]),
        port=int(lines[3]) if ready else 0,
        socket_folder=Path(lines[4]) if ready and lines[4] else None,
        is_ready=ready,
    )


def _is_postmaster(pid: int, data: Path) -> bool:
    """Return whether a process is the server of a data folder and not one that got its number.

    A server stays in its data folder. This also sees through a dead server that nobody reaped,
    which is what it becomes in a container whose first process is not an init.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # Its data folder can be read by its own user and root only, and we have just read it.
        return False
    if not Path("/proc/self/cwd").exists():
        return True
    try:
        return Path(f"/proc/{pid}/cwd").samefile(data)
    except OSError:
        return False


def discard_stale_locks(data: Path, sockets: Path) -> None:
    """Remove what a killed server left behind; only when `read_postmaster` found none.

    PostgreSQL does this itself unless the process number was given to somebody else meanwhile, or
    the file is empty. It still notices surviving children by the shared memory they hold, whose
    key is the data folder's inode (since version 12).
    """
    (data / "postmaster.pid").unlink(missing_ok=True)
    (sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)


def initialise(data: Path, binaries: Binaries, settings: Mapping[str, str]) -> None:
    """Make the data folder unless there is one.

    It is made beside its place and moved there, so a killed initdb leaves nothing that counts.

    Raises:
        HomeNotUsable: Something else lies in its place.
        OtherMajorVersion: It is another major version's.
        ProgramFailed: initdb failed.
        OSError: The folder could not be written.
    """
    version = data / "PG_VERSION"
    if version.exists():
        major = version.read_text().strip()
        if major != str(binaries.major):
            raise OtherMajorVersion(
                f"{data} was written by PostgreSQL {major} and this is {binaries.version}; "
                "dump it with the old release, or choose another AURORA_HOME"
            )
        return
    if data.exists() and any(data.iterdir()):
        raise HomeNotUsable(f"{data} holds something other than PostgreSQL's data")
    unfinished = data.with_name(f"{data.name}.new")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if binaries.account:
        os.chown(unfinished, binaries.account.uid, binaries.account.gid)
    options = ["--username=postgres", "--encoding=UTF8", "--data-checksums", "--no-instructions"]
    # Should somebody open a TCP port by a setting, it must ask for a password.
    options += ["--auth-local=trust", "--auth-host=scram-sha-256"]
    if binaries.major >= _FIRST_BUILTIN_LOCALE:
        options += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    else:
        options += ["--locale=C.UTF-8"]
    if settings.get("fsync") == "off":
        options.append("--no-sync")
    # By its name within the home: programs of PostgreSQL pass the path on to a shell.
    binaries.run("initdb", f"--pgdata={unfinished.name}", *options, cwd=data.parent)
    with (unfinished / "postgresql.conf").open("a") as file:
        file.write(f"\ninclude_if_exists = '{SETTINGS_NAME}'\n")
    unfinished.rename(data)


def write_settings(
    data: Path, binaries: Binaries, sockets: Path, settings: Mapping[str, str]
) -> None:
    """Write the settings of the next start; `settings` override Aurora's.

    Raises:
        ValueError: A name or value that cannot stand in the file.
    """
    chosen = {
        "listen_addresses": "",
        "port": str(PORT),
        "unix_socket_directories": f'"{sockets}"',
        **SETTINGS,
        **settings,
    }
    if "shared_buffers" not in chosen:
        chosen["shared_buffers"] = f"{buffers_mb(memory_bytes())}MB"
    if "wal_compression" not in chosen:
        # The only other way packs so slowly that random keys, as those of events, cost half as much
        # again (docs/decisions/0050).
        chosen["wal_compression"] = "lz4" if _has_lz4(data, binaries) else "off"
    lines = ["# Written at every start; put your own settings below the include in postgresql.conf"]
    for name, value in chosen.items():
        if not _SETTING_NAME.fullmatch(name) or not value.isprintable():
            raise ValueError(f"not a setting of PostgreSQL: {name} = {value!r}")
        quoted = value.replace("\\", "\\\\").replace("'", "''")
        lines.append(f"{name} = '{quoted}'")
    file = data / SETTINGS_NAME
    file.write_text("\n".join(lines) + "\n")
    file.chmod(0o600)
    if binaries.account:
        os.chown(file, binaries.account.uid, binaries.account.gid)


def buffers_mb(memory: int) -> int:
    """Return how much of so many bytes of memory PostgreSQL keeps pages in, in megabytes."""
    return min(max(memory // MEMORY_SHARE // 2**20, MIN_BUFFERS_MB), MAX_BUFFERS_MB)


def memory_bytes(limits: Iterable[Path] = _CONTAINERS_LIMITS) -> int:
    """Return the machine's memory, or a container's limit where that is less.

    Args:
        limits: Files of which one may say it; a word in place of a number is none.
    """
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    for file in limits:
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text("ascii")))
    return min(found)


def _has_lz4(data: Path, binaries: Binaries) -> bool:
    """Ask the server itself: builds differ, and a value it does not know stops it."""
    try:
        binaries.run(
            "postgres", "-C", "wal_compression", "-c", "wal_compression=lz4", "-D", str(data)
        )
    except ProgramFailed:
        return False
    return True


def socket_folder(home: Path, account: Account | None) -> Path:
    """Return the folder for the socket, made so that only those may enter who may log in.

    That is ourselves, or under root: root and the account that PostgreSQL runs as.

    Raises:
        HomeNotUsable: Somebody else has made the short folder that a long home needs.
    """
    folder = home / "run"
    # libpq reads a comma as the end of a host.
    fits = len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= MAX_SOCKET_PATH_BYTES
    if not fits or "," in str(folder) or '"' in str(folder):
        digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"aurora-{os.geteuid()}-{digest}"
    folder.mkdir(mode=0o700, exist_ok=True)
    # In the common temporary folder anybody may have been first.
    ours = {os.geteuid(), account.uid} if account else {os.geteuid()}
    if folder.is_symlink() or folder.lstat().st_uid not in ours:
        raise HomeNotUsable(f"{folder} belongs to somebody else")
    if account and account.name == ACCOUNT:
        # Its group has no other member. Root keeps the folder, so nobody else can open it.
        os.chown(folder, 0, account.gid)
        folder.chmod(0o770)
    elif account:
        os.chown(folder, account.uid, account.gid)
        folder.chmod(0o700)
    else:
        folder.chmod(0o700)
    return folder


def open_log(home: Path, account: Account | None, max_bytes: int) -> Path:
    """Return the log file, ready for the server to append to; a large one is put aside.

    One predecessor is kept, so the log never takes much more than twice `max_bytes`.
    """
    log = home / LOG_NAME
    if log.exists() and log.stat().st_size > max_bytes:
        log.replace(log.with_name(f"{LOG_NAME}.1"))
    log.touch(mode=0o600)
    if account:
        os.chown(log, account.uid, account.gid)
    return log
