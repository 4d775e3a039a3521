"""A file that a command writes is there whole, or not at all."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import typer

from aurora.integrations.terminal import printable, read_file, show, write_file

WHOLE = b"%PDF" + bytes(100_000)
LIMIT_BYTES = 4_096

# The kernel refuses what would make any file longer than so much, as a full disk would. The signal
# that comes with it is ignored by Python, so the write itself fails.
ON_A_FULL_DISK = """
import resource, sys
from pathlib import Path
import typer
from aurora.integrations.terminal import write_file
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    write_file(Path(sys.argv[1]), b"%PDF" + bytes(100_000))
except typer.Exit as end:
    sys.exit(end.exit_code)
"""


def write_on_a_full_disk(path: Path) -> subprocess.CompletedProcess[str]:
    """Write a document where there is room for less than it."""
    return subprocess.run(
        [sys.executable, "-c", ON_A_FULL_DISK, str(path), str(LIMIT_BYTES)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_full_disk_is_said_and_leaves_no_half_file(tmp_path: Path) -> None:
    path = tmp_path / "invoice.pdf"
    done = write_on_a_full_disk(path)
    assert done.returncode == 1
    assert "file_not_written" in done.stderr
    assert "File too large" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(b"the one of yesterday")
    assert write_on_a_full_disk(path).returncode == 1
    assert path.read_bytes() == b"the one of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_writing_in_place_would_leave_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "invoice.pdf"
    naive = f"""
import resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT_BYTES}, {LIMIT_BYTES}))
Path(sys.argv[1]).write_bytes(b"%PDF" + bytes(100_000))
"""
    done = subprocess.run(
        [sys.executable, "-c", naive, str(path)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert path.stat().st_size == LIMIT_BYTES


def test_a_whole_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "invoice.pdf"
    path.write_bytes(b"old")
    write_file(path, WHOLE)
    assert path.read_bytes() == WHOLE
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_is_not_there_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit):
        write_file(tmp_path / "missing" / "invoice.pdf", WHOLE)
    assert "file_not_written" in capsys.readouterr().err


def test_of_a_file_that_is_too_long_one_byte_more_is_read(tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    path.write_bytes(WHOLE)
    assert read_file(path, max_bytes=10) == WHOLE[:11]
    assert read_file(path, max_bytes=len(WHOLE)) == WHOLE
    with pytest.raises(typer.Exit):
        read_file(tmp_path / "missing.png", max_bytes=10)


def test_what_a_customer_sent_moves_nobodys_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    sent = {"endpoint": "/w/\x1b]0;owned\x07\x9b2J\x7f", "metadata": {"a": "\x1b[31m\x9b"}}
    for json in (True, False):
        show([sent], json=json)
        show(sent, json=json)
    assert all(each == "\n" or each.isprintable() for each in capsys.readouterr().out)
    assert msgspec.json.decode(printable(msgspec.json.encode(sent).decode())) == sent
