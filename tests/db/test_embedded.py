"""The embedded server: starts, survives, is shared, and says plainly when it cannot."""

from __future__ import annotations

import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from aurora.db import binaries, cluster, embedded
from aurora.db.binaries import ACCOUNT, Binaries, NoPostgres, packaged_folder
from aurora.db.embedded import (
    DiskFull,
    EmbeddedServer,
    HomeNotUsable,
    OtherMajorVersion,
    ServerNotStarted,
)

FAST = {"fsync": "off", "shared_buffers": "16MB"}
AS_ROOT = os.geteuid() == 0
START = """
import sys, time
from pathlib import Path
from aurora.db.embedded import EmbeddedServer
server = EmbeddedServer.start(Path(sys.argv[1]), settings={"fsync": "off"})
print(server.pid, server.started_with is not None, flush=True)
sys.stdin.readline()
server.stop()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A home that PostgreSQL's account may enter, which pytest's own folders are not under root."""
    folder = Path(tempfile.mkdtemp(prefix="aurora-home-"))
    folder.chmod(0o711)
    home = folder / "home"
    yield home
    postmaster = cluster.read_postmaster(home / "postgres")
    if postmaster:
        kill(postmaster.pid, home, signal.SIGQUIT)
    shutil.rmtree(folder)


def kill(pid: int, home: Path, sign: signal.Signals) -> None:
    os.kill(pid, sign)
    while cluster.read_postmaster(home / "postgres"):
        time.sleep(0.01)


def ask(server: EmbeddedServer, query: str) -> object:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    return row and row[0]


def do(server: EmbeddedServer, *statements: str) -> None:
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement)


def test_a_new_home_becomes_a_server_and_keeps_its_data(home: Path) -> None:
    server = EmbeddedServer.start(home, settings=FAST)
    do(server, "create table t (n int)", "insert into t values (7)")
    assert ask(server, "show listen_addresses") == ""
    assert ask(server, "show server_encoding") == "UTF8"
    assert ask(server, "select 'Å' < 'ä' and upper('æøå') = 'ÆØÅ'") is True
    assert ask(server, "show synchronous_commit") == "on"
    assert ask(server, "show jit") == "off"
    assert ask(server, "show shared_buffers") == "16MB"
    server.stop()
    server.stop()
    assert EmbeddedServer.find_running(home) is None
    started = time.monotonic()
    server = EmbeddedServer.start(home, settings=FAST)
    assert time.monotonic() - started < 2
    assert ask(server, "select n from t") == 7
    server.stop()


def test_a_killed_server_starts_again_with_what_was_committed(home: Path) -> None:
    server = EmbeddedServer.start(home, settings=FAST)
    do(server, "create table t (n int)", "insert into t values (7)")
    busy = psycopg.connect(server.dsn(), autocommit=True)
    # A busy child notices only at its end that its parent is gone, and keeps the memory until then.
    busy.pgconn.send_query(b"select count(*) from generate_series(1, 8000000)")
    os.kill(server.pid, signal.SIGKILL)
    again = EmbeddedServer.start(home, settings=FAST)
    busy.close()
    assert "pre-existing shared memory block" in again.logfile.read_text()
    assert again.pid != server.pid
    assert ask(again, "select n from t") == 7
    server.stop()
    assert ask(again, "select n from t") == 7
    again.stop()


def test_a_lock_file_whose_process_number_is_taken_is_stale(home: Path) -> None:
    server = EmbeddedServer.start(home, settings=FAST)
    written = (home / "postgres/postmaster.pid").read_text()
    kill(server.pid, home, signal.SIGKILL)
    # The number now belongs to us: alive, and no server of this folder.
    theirs = written.replace(str(server.pid), str(os.getpid()), 1)
    (home / "postgres/postmaster.pid").write_text(theirs)
    assert EmbeddedServer.find_running(home) is None
    again = EmbeddedServer.start(home, settings=FAST)
    assert ask(again, "select 1") == 1
    again.stop()


def test_what_another_process_started_is_used_and_not_stopped(home: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", START, str(home)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as other:  # fmt: skip
        assert other.stdout
        pid = int(other.stdout.readline().split()[0])
        for server in (EmbeddedServer.find_running(home), EmbeddedServer.start(home)):
            assert server
            assert server.pid == pid
            server.stop()
            assert ask(server, "select 1") == 1
        other.communicate("\n", timeout=30)
    assert EmbeddedServer.find_running(home) is None


def test_of_several_that_start_at_once_one_does(home: Path) -> None:
    others = [
        subprocess.Popen(
            [sys.executable, "-c", START, str(home)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    said = [other.stdout.readline().split() for other in others if other.stdout]
    assert len({pid for pid, _ in said}) == 1
    assert sorted(started for _, started in said) == ["False", "False", "False", "True"]
    for other in others:
        other.communicate("\n", timeout=30)
        assert other.returncode == 0


def test_only_its_user_gets_in(home: Path) -> None:
    server = EmbeddedServer.start(home, settings=FAST)
    data, sockets = server.data.stat(), server.socket_folder.stat()
    assert stat.S_IMODE(data.st_mode) == 0o700
    assert stat.S_IMODE(server.logfile.stat().st_mode) == 0o600
    if AS_ROOT:
        account = binaries.account_named(ACCOUNT)
        assert data.st_uid == account.uid
        assert (sockets.st_uid, sockets.st_gid) == (0, account.gid)
        assert stat.S_IMODE(sockets.st_mode) == 0o770
        assert stat.S_IMODE(home.stat().st_mode) == 0o711
        path = str(server.socket_folder / ".s.PGSQL.5432")
        stranger = subprocess.run(
            ["/bin/sh", "-c", 'cat "$1"; ls "$2"', "sh", path, str(server.socket_folder)],
            user=65534, group=65534, extra_groups=[], cwd="/", check=False,
            capture_output=True, text=True,
        )  # fmt: skip
        assert stranger.stderr.count("Permission denied") == 2
    else:
        assert stat.S_IMODE(sockets.st_mode) == 0o700
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
    server.stop()


def test_no_secret_reaches_the_log(home: Path) -> None:
    server = EmbeddedServer.start(home, settings=FAST)
    do(server, "create table t (secret text unique check (secret <> 'tro_live_bad'))")
    with psycopg.connect(server.dsn(), autocommit=True) as connection:
        for statement, parameters in [
            ("insert into t values ('tro_live_literal'), ('tro_live_literal')", None),
            ("insert into t values ('tro_live_bad')", None),
            ("select tro_live_syntax from", None),
            ("insert into t select %s from generate_series(1, 2)", ("tro_live_parameter",)),
            ("select %s::int", ("tro_live_cast",)),
        ]:
            with pytest.raises(psycopg.Error):
                connection.execute(statement, parameters)
    server.stop()
    said = server.logfile.read_text()
    assert "duplicate key" in said
    assert re.findall(r"tro_live_(?:literal|parameter|bad)\b", said) == []


def test_a_large_log_is_put_aside_once(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "MAX_LOG_BYTES", 100)
    for _ in range(3):
        EmbeddedServer.start(home, settings=FAST).stop()
    assert sorted(file.name for file in home.glob("postgres.log*")) == [
        "postgres.log",
        "postgres.log.1",
    ]


@pytest.mark.parametrize("name", ["x" * 120, "a,b", 'say "hi" & æ %', "$(exit 1)`'"])
def test_a_home_of_any_name_has_a_socket(home: Path, name: str) -> None:
    home = home.with_name(name)
    server = EmbeddedServer.start(home, settings=FAST)
    try:
        assert ask(server, "select 1") == 1
        found = EmbeddedServer.find_running(home)
        assert found
        assert found.dsn() == server.dsn()
    finally:
        server.stop()
        if not server.socket_folder.is_relative_to(home):
            server.socket_folder.rmdir()


def test_an_interrupted_initdb_leaves_nothing_that_counts(home: Path) -> None:
    (home / "postgres.new").mkdir(parents=True)
    (home / "postgres.new/PG_VERSION").write_text("18\n")
    home.chmod(0o711)
    server = EmbeddedServer.start(home, settings=FAST)
    assert ask(server, "select 1") == 1
    server.stop()
    assert not (home / "postgres.new").exists()


def test_data_of_another_major_version_are_left_alone(home: Path) -> None:
    data = home / "postgres"
    data.mkdir(parents=True)
    home.chmod(0o711)
    (data / "PG_VERSION").write_text("12\n")
    if AS_ROOT:
        account = binaries.service_account()
        os.chown(data, account.uid, account.gid)
    with pytest.raises(OtherMajorVersion, match="written by PostgreSQL 12 and this is 18"):
        EmbeddedServer.start(home)
    assert [file.name for file in data.iterdir()] == ["PG_VERSION"]


def test_a_folder_with_other_files_is_left_alone(home: Path) -> None:
    (home / "postgres").mkdir(parents=True)
    home.chmod(0o711)
    (home / "postgres/thesis.txt").write_text("x")
    with pytest.raises(HomeNotUsable, match="something other than PostgreSQL's data"):
        EmbeddedServer.start(home)


def test_a_home_that_is_a_file_is_one_clear_line(home: Path) -> None:
    home.write_text("x")
    with pytest.raises(HomeNotUsable) as refusal:
        EmbeddedServer.start(home)
    assert "\n" not in refusal.value.detail
    assert str(home) in refusal.value.detail
    home.unlink()


@pytest.mark.skipif(not AS_ROOT, reason="only root runs it as somebody else")
def test_a_home_closed_to_the_account_is_not_opened(home: Path) -> None:
    home.parent.chmod(0o700)
    with pytest.raises(HomeNotUsable, match=f"{ACCOUNT}, who may not enter"):
        EmbeddedServer.start(home)
    assert stat.S_IMODE(home.parent.stat().st_mode) == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="only root runs it as somebody else")
def test_programs_closed_to_the_account_are_copied_and_not_opened(home: Path) -> None:
    wheel = packaged_folder().parent.parent
    closed = home.parent / "closed"
    shutil.copytree(wheel / "pginstall18", closed / wheel.name / "pginstall18", symlinks=True)
    shutil.copytree(
        wheel.with_name(f"{wheel.name}.libs"), closed / f"{wheel.name}.libs", symlinks=True
    )
    closed.chmod(0o700)
    folder = closed / wheel.name / "pginstall18/bin"
    for _ in range(2):
        server = EmbeddedServer.start(home, settings=FAST, binaries=folder)
        assert ask(server, "select 1") == 1
        assert server.started_with
        assert server.started_with.folder.is_relative_to(home)
        server.stop()
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.skipif(not AS_ROOT, reason="only root may look after another user's data")
def test_root_runs_a_users_data_as_that_user(home: Path) -> None:
    EmbeddedServer.start(home, settings=FAST).stop()
    nobody = binaries.account_numbered(65534)
    for path in [home / "postgres", *(home / "postgres").rglob("*"), home / "run"]:
        os.chown(path, nobody.uid, nobody.gid)
    server = EmbeddedServer.start(home, settings=FAST)
    assert ask(server, "select 1") == 1
    assert Path(f"/proc/{server.pid}").stat().st_uid == nobody.uid
    assert stat.S_IMODE(server.socket_folder.stat().st_mode) == 0o700
    server.stop()


def test_a_full_disk_is_one_clear_line(home: Path) -> None:
    """A folder of programs that do what initdb does on a full disk, word for word."""
    folder = home.parent / "bin"
    folder.mkdir()
    for name, text in {
        "postgres": 'echo "postgres (PostgreSQL) 18.4"',
        "initdb": '[ "$1" = --version ] && exit 0\n'
        'echo "initdb: error: could not write file: No space left on device"; exit 1',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    with pytest.raises(DiskFull, match="There is no room left in"):
        EmbeddedServer.start(home, binaries=folder)
    assert not (home / "postgres").exists()


def test_a_setting_that_postgresql_refuses_is_named(home: Path) -> None:
    with pytest.raises(ServerNotStarted, match="unrecognized configuration parameter"):
        EmbeddedServer.start(home, settings={**FAST, "no_such_setting": "1"})
    EmbeddedServer.start(home, settings=FAST).stop()


@pytest.mark.parametrize("setting", [("a b", "1"), ("work_mem", "1MB\nfsync = off")])
def test_a_setting_cannot_smuggle_in_another(home: Path, setting: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="not a setting"):
        EmbeddedServer.start(home, settings={**FAST, **dict([setting])})


def test_a_folder_without_programs_says_so(home: Path) -> None:
    with pytest.raises(NoPostgres, match="No PostgreSQL in"):
        EmbeddedServer.start(home, binaries=Path("/nowhere"))


def test_the_wheel_holds_postgresql_18() -> None:
    assert Binaries.at(packaged_folder()).major == 18
