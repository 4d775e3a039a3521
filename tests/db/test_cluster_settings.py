"""What an embedded PostgreSQL is told of the machine that it runs on."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.db.test_embedded import FAST, ask
from tests.db.test_embedded import home as home  # noqa: PLC0414 - a fixture

from aurora.db import cluster
from aurora.db.embedded import EmbeddedServer

GIB = 2**30


@pytest.mark.parametrize(
    ("memory", "expected_mb"),
    [(0, 128), (GIB, 128), (2 * GIB, 256), (8 * GIB, 1024), (2**45, 1024)],
)
def test_buffers_are_an_eighth_of_the_memory_within_bounds(memory: int, expected_mb: int) -> None:
    assert cluster.buffers_mb(memory) == expected_mb


def test_a_containers_limit_counts_where_it_is_less(tmp_path: Path) -> None:
    machine = cluster.memory_bytes([])
    assert machine > 2**26
    files = {name: tmp_path / name for name in ("limit", "none", "huge", "missing")}
    files["limit"].write_text(f"{2**26}\n")
    files["none"].write_text("max\n")
    files["huge"].write_text(f"{2**63 - 4096}\n")
    assert cluster.memory_bytes(files.values()) == 2**26
    assert cluster.memory_bytes([files["none"], files["huge"], files["missing"]]) == machine


def test_a_server_has_them_and_packs_no_pages_slowly(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "memory_bytes", lambda: 2 * GIB)
    server = EmbeddedServer.start(home, settings={"fsync": FAST["fsync"]})
    try:
        assert ask(server, "show shared_buffers") == "256MB"
        assert ask(server, "show wal_compression") in {"lz4", "off"}
    finally:
        server.stop()
