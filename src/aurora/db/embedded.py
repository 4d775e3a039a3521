"""Runs a PostgreSQL of Aurora's own, out of a wheel, in a folder of the user's.

The wheel's Python layer is not used: it opens every folder above the data to the world, offers no
settings, and gives up after ten seconds. So initdb and pg_ctl are driven here. The server listens
on a Unix socket only; who may enter the socket's folder is who may log in (`trust`), and that is
the one user that runs it, or root and the account that root's server runs as.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

from aurora.core.errors import Unavailable
from aurora.db import cluster
from aurora.db.binaries import (
    Account,
    Binaries,
    NoPostgres,
    ProgramFailed,
    account_numbered,
    for_account,
    packaged_folder,
    service_account,
)
from aurora.db.cluster import HomeNotUsable, OtherMajorVersion

__all__ = [
    "DiskFull",
    "EmbeddedServer",
    "HomeNotUsable",
    "NoPostgres",
    "OtherMajorVersion",
    "ServerNotStarted",
]

DATABASE: Final = "aurora"
DATA_NAME: Final = "postgres"
START_TIMEOUT_S: Final = 120.0
"""Covers the recovery from a crash: at most max_wal_size has to be read again."""
STOP_TIMEOUT_S: Final = 60.0
TURN_TIMEOUT_S: Final = 270.0
"""The longest to wait while another process starts the same server."""
MAX_LOG_BYTES: Final = 16 * 1024 * 1024

_POLL_S: Final = 0.05
_NO_ROOM: Final = ("No space left on device", "Disk quota exceeded")
_TELLING: Final = ("FATAL", "PANIC", f'{cluster.SETTINGS_NAME}" line')
# What a start says while the children of a killed server have not noticed yet.
_NOT_GONE_YET: Final = ("pre-existing shared memory block", "Is another postmaster")


class DiskFull(Unavailable):
    """There is no room left where the data lie."""

    code, title = "disk_full", "The disk is full"


class ServerNotStarted(Unavailable):
    """PostgreSQL did not start; the detail says why as far as its log does."""

    code, title = "server_not_started", "PostgreSQL did not start"


@dataclass(frozen=True)
class EmbeddedServer:
    """A running PostgreSQL; `start` or `find_running` make one.

    Attributes:
        home: AURORA_HOME.
        data: The data folder.
        logfile: What PostgreSQL says.
        socket_folder: Where its socket lies.
        port: The number in the socket's name.
        pid: The postmaster's process id.
        started_with: The programs this object started it with; None when it found it running.
    """

    home: Path
    data: Path
    logfile: Path
    socket_folder: Path
    port: int
    pid: int
    started_with: Binaries | None = None

    @classmethod
    def start(
        cls,
        home: Path,
        *,
        settings: Mapping[str, str] | None = None,
        binaries: Path | None = None,
    ) -> EmbeddedServer:
        """Return the server of a home, started when it does not run, initialised when it is new.

        A server that another process started is returned as it is, without the settings.

        Args:
            home: AURORA_HOME; made when missing.
            settings: PostgreSQL's settings that differ from Aurora's.
            binaries: A folder with PostgreSQL's programs, instead of the wheel's.

        Raises:
            HomeNotUsable: The folder cannot be written or reached.
            DiskFull: There is no room.
            OtherMajorVersion: The data are another major version's.
            ServerNotStarted: It did not accept connections within START_TIMEOUT_S.
            NoPostgres: There are no programs that can be run here.
            ValueError: A setting that cannot stand in PostgreSQL's configuration.
        """
        home = home.expanduser().resolve()
        with _told_plainly(home):
            _make_home(home)
            with _turn(home):
                if running := _find(home, None):
                    return running
                return _start(home, settings or {}, binaries or packaged_folder())

    @classmethod
    def find_running(cls, home: Path) -> EmbeddedServer | None:
        """Return the server of a home when one runs; waits while it starts or stops.

        Raises:
            HomeNotUsable: The folder belongs to somebody else.
            ServerNotStarted: It did neither within START_TIMEOUT_S.
        """
        home = home.expanduser().resolve()
        with _told_plainly(home):
            return _find(home, None)

    def dsn(self, database: str = DATABASE, user: str = "postgres") -> str:
        """Return the URL of a database for psql, psycopg, and everything that uses libpq."""
        where = urlencode({"host": str(self.socket_folder), "port": self.port}, quote_via=quote)
        return f"postgresql://{quote(user, safe='')}@/{quote(database, safe='')}?{where}"

    def create_database(self, name: str) -> None:
        """Make a database when it is missing."""
        # The only synchronous connection: a server is started before any event loop runs.
        with psycopg.connect(self.dsn("postgres"), autocommit=True) as connection:
            found = connection.execute("select 1 from pg_database where datname = %s", (name,))
            if not found.fetchone():
                connection.execute(sql.SQL("create database {}").format(sql.Identifier(name)))

    def stop(self) -> None:
        """Stop the server when this object started it: open transactions are rolled back.

        Calling it again, or after the server ended otherwise, does nothing.

        Raises:
            ServerNotStarted: It is still there after twice STOP_TIMEOUT_S.
        """
        if not self.started_with or not self._is_running():
            return
        for mode in ("fast", "immediate"):
            # Immediate is what a power cut is: the next start recovers from the log.
            with contextlib.suppress(ProgramFailed):
                self.started_with.run(
                    "pg_ctl",
                    "stop",
                    f"--pgdata={self.data}",
                    f"--mode={mode}",
                    f"--timeout={STOP_TIMEOUT_S:.0f}",
                )
            if not self._is_running():
                return
        # pg_ctl itself may fail to start, where its folder or the temporary one is gone.
        _interrupt(self)
        if self._is_running():
            raise ServerNotStarted(
                f"PostgreSQL (process {self.pid}) does not stop; see {self.logfile}"
            )

    def _is_running(self) -> bool:
        """Tell whether it is still this server, and not one that somebody started after it."""
        postmaster = cluster.read_postmaster(self.data)
        return postmaster is not None and postmaster.pid == self.pid


@contextlib.contextmanager
def in_use(home: Path) -> Iterator[EmbeddedServer]:
    """Use the server of a home together with other processes: the last one that leaves stops it.

    Who uses it is told by a shared lock that the kernel gives back when a process dies, so the
    server of a killed process is not left over: the next one that leaves stops it.

    Raises:
        AuroraError: As `EmbeddedServer.start`.
    """
    home = home.expanduser().resolve()
    with _told_plainly(home):
        _make_home(home)
        users = os.open(home / "postgres.users", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Waits while somebody who was the last one stops the server.
        fcntl.flock(users, fcntl.LOCK_SH)
        server = EmbeddedServer.start(home)
        try:
            yield server
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _stop_whoever_started(server)
    finally:
        os.close(users)


def _stop_whoever_started(server: EmbeddedServer) -> None:
    if server.started_with:
        server.stop()
        return
    _interrupt(server)


def _interrupt(server: EmbeddedServer) -> None:
    """Ask the postmaster for a fast shutdown, as pg_ctl does, and wait for it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(server.pid, signal.SIGINT)
    deadline = time.monotonic() + STOP_TIMEOUT_S
    while cluster.read_postmaster(server.data) and time.monotonic() < deadline:
        time.sleep(_POLL_S)


def _start(home: Path, settings: Mapping[str, str], folder: Path) -> EmbeddedServer:
    data = home / DATA_NAME
    account = _account(data)
    if account and not account.may_enter(home):
        raise HomeNotUsable(
            f"PostgreSQL runs as the user {account.name}, who may not enter {home}; "
            "choose another AURORA_HOME"
        )
    binaries = for_account(Binaries.at(folder), account, home)
    cluster.initialise(data, binaries, settings)
    sockets = cluster.socket_folder(home, account)
    cluster.discard_stale_locks(data, sockets)
    cluster.write_settings(data, binaries, sockets, settings)
    log = cluster.open_log(home, account, MAX_LOG_BYTES)
    _run_until_ready(data, binaries, log)
    server = _find(home, binaries)
    if not server:
        raise _not_started(log, log.stat().st_size)
    try:
        server.create_database(DATABASE)
    except BaseException:
        server.stop()
        raise
    return server


def _find(home: Path, started_with: Binaries | None) -> EmbeddedServer | None:
    """Return the server of a home once it is ready, or None when there is none."""
    data, log = home / DATA_NAME, home / cluster.LOG_NAME
    deadline = time.monotonic() + START_TIMEOUT_S
    while postmaster := cluster.read_postmaster(data):
        # A process that has just been killed is still there for a moment, but does not answer.
        if postmaster.is_ready and postmaster.socket_folder and postmaster.answers():
            sockets, port, pid = postmaster.socket_folder, postmaster.port, postmaster.pid
            return EmbeddedServer(home, data, log, sockets, port, pid, started_with)
        if time.monotonic() > deadline:
            raise ServerNotStarted(
                f"PostgreSQL has been starting for {START_TIMEOUT_S:.0f} s, perhaps recovering "
                f"from a crash; try again later, and see {log}"
            )
        time.sleep(_POLL_S)
    return None


def _run_until_ready(data: Path, binaries: Binaries, log: Path) -> None:
    """Start the server; try again while a killed predecessor's children have not ended."""
    deadline = time.monotonic() + START_TIMEOUT_S
    # By their names within the home: pg_ctl passes them on to a shell.
    options = [f"--pgdata={data.name}", f"--log={log.name}", f"--timeout={START_TIMEOUT_S:.0f}"]
    while True:
        said_before = log.stat().st_size
        try:
            binaries.run("pg_ctl", "start", *options, cwd=data.parent)
        except ProgramFailed as error:
            failure = _not_started(log, said_before)
            if cluster.read_postmaster(data):
                return
            passes = any(sign in failure.detail for sign in _NOT_GONE_YET)
            if not passes or time.monotonic() > deadline:
                raise failure from error
            time.sleep(_POLL_S)
        else:
            return


def _not_started(log: Path, said_before: int) -> Unavailable:
    """Return the error that the log means, read from byte `said_before` on."""
    with log.open("rb") as file:
        file.seek(said_before)
        lines = file.read(MAX_LOG_BYTES).decode(errors="replace").splitlines()
    if any(sign in line for line in lines for sign in _NO_ROOM):
        return DiskFull(f"There is no room left in {log.parent}")
    telling = [line for line in lines if any(sign in line for sign in _TELLING)] or lines[-1:]
    return ServerNotStarted(f"{' '.join(telling) or 'It said nothing'}; see {log}")


def _account(data: Path) -> Account | None:
    """Return whom the server must run as; None for ourselves."""
    if os.geteuid() != 0:
        return None
    if not (data / "PG_VERSION").exists():
        return service_account()
    # Data that a user made stay theirs when root looks after them once.
    owner = data.stat().st_uid
    try:
        if owner != 0:
            return account_numbered(owner)
    except KeyError:
        pass
    raise HomeNotUsable(f"{data} belongs to user {owner}, as whom PostgreSQL cannot run")


def _make_home(home: Path) -> None:
    if home.is_dir():
        return
    home.mkdir(parents=True, exist_ok=True)
    # Under root PostgreSQL's account must pass through it, and only that.
    home.chmod(0o711 if os.geteuid() == 0 else 0o700)


@contextlib.contextmanager
def _turn(home: Path) -> Iterator[None]:
    """Hold the lock that lets one process at a time start the server of a home."""
    deadline = time.monotonic() + TURN_TIMEOUT_S
    file = os.open(home / "postgres.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise ServerNotStarted(
                        f"Another process has been starting {home} for {TURN_TIMEOUT_S:.0f} s"
                    ) from None
                time.sleep(_POLL_S)
        yield
    finally:
        os.close(file)


@contextlib.contextmanager
def _told_plainly(home: Path) -> Iterator[None]:
    """Turn what the operating system and the programs say into one clear line."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"There is no room left in {home}") from error
        raise HomeNotUsable(f"{error.filename or home}: {error.strerror or error}") from error
    except ProgramFailed as error:
        said = str(error)
        if any(sign in said for sign in _NO_ROOM):
            raise DiskFull(f"There is no room left in {home}") from error
        raise ServerNotStarted(f"initdb in {home}: {said.splitlines()[-1]}") from error
    except psycopg.Error as error:
        if error.sqlstate == psycopg.errors.DiskFull.sqlstate:
            raise DiskFull(f"There is no room left in {home}") from error
        raise ServerNotStarted(f"PostgreSQL in {home} refuses: {error}") from error
