"""Every code of a verdict has a status, and the guide and the client say the same one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

from aurora.client.backend import STATUS_OF
from aurora.features.gate.model import HTTP_STATUS, Code

GUIDE = Path(__file__).resolve().parents[3] / "docs" / "guide" / "gate.md"
ROW = re.compile(r"^\| `([A-Z_]+)` \| (\d{3}) \|", re.MULTILINE)


def told(text: str) -> dict[str, int]:
    """Return the status that a document tells for each code."""
    return {code: int(status) for code, status in ROW.findall(text)}


def test_every_code_is_documented_with_its_status() -> None:
    assert set(HTTP_STATUS) == set(get_args(Code))
    assert told(GUIDE.read_text("utf-8")) == HTTP_STATUS


def test_the_client_knows_every_refusal_by_the_same_status() -> None:
    assert {**STATUS_OF, "VALID": 200} == HTTP_STATUS


def test_a_guide_that_leaves_a_code_out_or_tells_another_status_is_found() -> None:
    guide = GUIDE.read_text("utf-8")
    assert told(guide.replace("| `REVOKED` | 401 |", "| `REVOKED` | 403 |")) != HTTP_STATUS
    assert told(guide.replace("| `NOT_YET` |", "| NOT_YET |")) != HTTP_STATUS
