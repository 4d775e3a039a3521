"""The matrix holds behind a PgBouncer that lends one server connection from client to client."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from tests.isolation.conftest import LOGIN
from tests.isolation.matrix import MIN_CASES, run
from tests.isolation.test_mutants import with_session_settings

from aurora.db.pool import open_pool

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
START_TIMEOUT_S = 10.0
# PgBouncer refuses to run as root. Whoever runs the server may enter its socket's folder.
ACCOUNT = "postgres"

CONFIG = """
[databases]
isolation = {target}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 1
max_client_conn = 100
client_login_timeout = 5
server_login_retry = 1
logfile = {folder}/log
"""

if PGBOUNCER is None and os.geteuid() != 0:
    pytest.skip("pgbouncer is not installed, and only root could", allow_module_level=True)


def _free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def bouncer(world: str) -> Iterator[str]:
    """The DSN of the world by way of PgBouncer."""
    assert PGBOUNCER, "pgbouncer is missing: run scripts/debian-packages"
    folder = Path(tempfile.mkdtemp(prefix="aurora-bouncer-"))
    port = _free_port()
    parts = {k: v for k, v in conninfo_to_dict(world).items() if k in ("host", "port", "dbname")}
    target = make_conninfo("", **parts, user=LOGIN)
    config = folder / "pgbouncer.ini"
    config.write_text(CONFIG.format(target=target, port=port, folder=folder))
    account = _account(parts)
    if account:
        os.chown(folder, account["user"], account["group"])
    config.chmod(0o644)
    process = subprocess.Popen(
        [PGBOUNCER, "--quiet", str(config)], stderr=subprocess.DEVNULL, **account
    )
    try:
        dsn = f"host=127.0.0.1 port={port} dbname=isolation user={LOGIN} connect_timeout=5"
        _wait(dsn, process, folder / "log")
        yield dsn
    finally:
        process.terminate()
        process.wait(START_TIMEOUT_S)
        shutil.rmtree(folder)


def _account(parts: dict[str, Any]) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    host = str(parts.get("host", ""))
    if host.startswith("/"):
        found = (Path(host) / f".s.PGSQL.{parts.get('port', 5432)}").stat()
        # Under root the embedded server's folder of sockets is open to its group alone.
        return {"user": found.st_uid, "group": Path(host).stat().st_gid, "extra_groups": []}
    entry = pwd.getpwnam(ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _wait(dsn: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            psycopg.connect(dsn).close()
        except psycopg.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            return


async def test_nobody_reaches_what_is_not_theirs_behind_pgbouncer(world: str, bouncer: str) -> None:
    # Several clients of one server connection: what one leaves behind, another would find.
    pool = await open_pool(bouncer, min_size=3, max_size=3, name="bounced")
    verdict = await run(world, pool)
    await pool.close()

    assert not verdict.breaches, "\n".join(map(str, verdict.breaches))
    assert verdict.cases >= MIN_CASES


async def test_a_setting_that_reaches_the_next_client_is_caught(world: str, bouncer: str) -> None:
    pool = await open_pool(bouncer, min_size=3, max_size=3, name="bounced")
    verdict = await run(world, pool, with_session_settings)
    await pool.close()

    assert verdict.names("nobody: SELECT public.invoices of A", "must not, but did")
