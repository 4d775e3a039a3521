"""The commands that read usage, watch it, and take it over, as somebody types them."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from tests.builders import a_slug, an_event, moment
from tests.journeys.conftest import PROGRAM, Aurora, sign_up, slug_of

from aurora.core import clock

TAILED_S = 8


@pytest.fixture
def slug(aurora: Aurora) -> str:
    name = a_slug()
    aurora.json("org", "create", "--name", "Hotel", "--slug", name, "--email", "post@hotel.example")
    return name


def imported(aurora: Aurora, slug: str, file: Path, *events: dict[str, Any], key: str = "") -> Any:
    file.write_text("\n".join(json.dumps(event) for event in events))
    more = ("--key", key) if key else ()
    return aurora.json("usage", "import", str(file), "--org", slug, "--reason", "a test", *more)


def test_an_import_says_in_the_audit_that_it_began_and_what_it_brought(
    aurora: Aurora, slug: str, tmp_path: Path
) -> None:
    old = [an_event(timestamp=f"2025-0{month}-15T12:00:00Z") for month in (3, 1)]
    imported(aurora, slug, tmp_path / "old.ndjson", *old)
    imported(aurora, slug, tmp_path / "old.ndjson", *old)
    audited = {each["action"]: each for each in aurora.json("audit", "list", "--org", slug)}
    assert audited["usage.import_began"]["after"] == {"reason": "a test", "file": "old.ndjson"}
    assert audited["usage.backfilled"]["after"] == {
        "reason": "a test", "events": 2, "first_day": "2025-01-15", "last_day": "2025-03-15",
    }  # fmt: skip


def test_origins_and_months_of_impressions(aurora: Aurora, slug: str, tmp_path: Path) -> None:
    day = str(clock.now().date() - timedelta(days=3))
    aurora.json("subscription", "start", "--org", slug, "--plan", "basic", "--at", day)
    key = aurora.json("key", "create", "--org", slug, "--name", "Website")["key_prefix"]
    shown = [an_event(origin="https://a.example") for _ in range(2)]
    imported(aurora, slug, tmp_path / "new.ndjson", *shown, an_event(), key=key)
    origins = aurora.json("usage", "origins", "--org", slug, "--limit", "1")
    assert [(each["origin"], each["requests"], each["origins"]) for each in origins] == [
        ("https://a.example", 2, 2)
    ]
    (month,) = aurora.json("usage", "impressions", "--org", slug)
    assert (month["billable"], month["overage"], month["billed_amount"]) == (3, 0, None)
    (month,) = aurora.json(
        "usage", "impressions", "--org", slug, "--by", "calendar_month", "--months", "1"
    )
    assert (month["billable"], month["usage_amount"]) == (3, None)


def test_a_recount_ends_with_1_where_a_sum_differs(
    aurora: Aurora, slug: str, tmp_path: Path
) -> None:
    imported(aurora, slug, tmp_path / "new.ndjson", an_event(), an_event())
    aurora.json("usage", "fold")
    assert aurora.json("usage", "verify", "--org", slug) == []
    with psycopg.connect(aurora.owner_dsn) as owner:
        owner.execute("update usage_daily set requests = 7 where dimension = 'country'")
    ran = aurora.cli("usage", "verify", "--org", slug, "--json")
    assert ran.code == 1
    (difference,) = json.loads(ran.out)
    told = (difference["dimension"], difference["stored"], difference["recounted"])
    assert told == ("country", 7, 2)


def test_who_brings_rows_that_the_night_drops_is_told_how_to_keep_them(
    aurora: Aurora, slug: str, tmp_path: Path
) -> None:
    def said(age: timedelta) -> str:
        file = tmp_path / f"{age.days}.ndjson"
        at = clock.now() - age
        file.write_text(json.dumps(an_event(timestamp=at.isoformat())))
        return aurora.cli("usage", "import", str(file), "--org", slug).err

    assert "older than" not in said(timedelta(days=24 * 30))
    assert "1 months of raw rows are older than the 25" in said(timedelta(days=27 * 31))
    aurora.json("usage", "retention", "--months", "40")
    assert "older than" not in said(timedelta(days=28 * 31))


@contextmanager
def tailing(aurora: Aurora, slug: str) -> Iterator[subprocess.Popen[str]]:
    command = [PROGRAM, "usage", "tail", "--org", slug, "--seconds", str(TAILED_S), "--json"]
    with subprocess.Popen(
        command, env=dict(aurora.environment), stdout=subprocess.PIPE, text=True
    ) as tail:
        yield tail
        tail.terminate()


def test_a_tail_prints_what_comes_and_ends(aurora: Aurora, slug: str, tmp_path: Path) -> None:
    began_s = time.monotonic()
    with tailing(aurora, slug) as tail:
        number = 0
        # It shows what comes after its first look, whenever that is.
        while tail.poll() is None and time.monotonic() - began_s < TAILED_S * 4:
            number += 1
            event = an_event(endpoint=f"/[bold]{number}")
            imported(aurora, slug, tmp_path / f"{number}.ndjson", event)
        printed = tail.communicate(timeout=60)[0].splitlines()
    seen = [json.loads(line)["endpoint"] for line in printed]
    assert tail.returncode == 0
    assert seen
    assert all(endpoint.startswith("/[bold]") for endpoint in seen)
    assert len(seen) == len(set(seen))


async def test_a_replay_says_what_stays_in_quarantine_and_a_drop_empties_it(
    server: Aurora,
) -> None:
    customer = await sign_up(server)
    slug = await slug_of(server, customer)
    now = clock.now()
    late, early = (moment(now + timedelta(days=days)) for days in (-50, 10))
    batch = [an_event(timestamp=late), an_event(id="clock", timestamp=early)]
    async with server.client(customer.key) as sender:
        receipt = (await sender.post("/v1/usage/events", json=batch)).json()
    assert len(receipt["quarantined"]) == 2
    reason = ("--org", slug, "--reason", "a clock was wrong")
    ran = server.cli("usage", "quarantine", "replay", *reason, "--json")
    (kept,) = json.loads(ran.out).pop("kept")
    assert (ran.code, json.loads(ran.out)["accepted"]) == (1, 1)
    assert (kept["id"], kept["code"]) == ("clock", "timestamp_out_of_range")
    again = server.cli("usage", "quarantine", "replay", *reason)
    assert again.code == 1
    assert "timestamp_out_of_range" in again.out
    assert server.json("usage", "quarantine", "drop", *reason) == {"dropped": 1}
    done = server.json("usage", "quarantine", "replay", *reason)
    assert done == {"accepted": 0, "duplicates": 0, "kept": []}


def test_what_cannot_be_shown_or_written_is_one_line(
    aurora: Aurora, slug: str, tmp_path: Path
) -> None:
    there = tmp_path / "there.csv"
    there.write_text("kept")
    export = ("usage", "export", "--org", slug)
    days = ("--from", "2026-11-02", "--to", "2026-11-01")
    for code, arguments in (
        ("subscription_not_found", ("usage", "impressions", "--org", slug)),
        ("file_not_written", (*export, str(there))),
        ("file_not_written", (*export, str(tmp_path / "nowhere" / "a.csv"))),
        ("date_range_invalid", (*export, str(tmp_path / "new.csv"), *days)),
    ):
        ran = aurora.cli(*arguments)
        assert (ran.code, ran.err.count("\n")) == (1, 1), ran.err
        assert code in ran.err
    assert there.read_text() == "kept"


def test_a_table_in_the_founding_shape_is_taken_over(aurora: Aurora, slug: str) -> None:
    organization = aurora.json("org", "show", slug)["id"]
    key = aurora.json("key", "create", "--org", slug, "--name", "Website")["id"]
    with psycopg.connect(aurora.owner_dsn) as owner:
        owner.execute(
            "create table old_usage as select n::bigint as id, %s::uuid as organization_id,"
            " now() - interval '1 day' * n as timestamp, %s::uuid as api_key_id, '/x' as endpoint,"
            " 'GET' as method, case n when 3 then 99999 else 200 end as status_code,"
            " 1 as response_time_ms, false as cached, null::text as widget_type,"
            " true as widget_impression, null::text as origin, null::text as user_agent,"
            " null::inet as ip_address, 'NO' as country_code, '{}'::jsonb as metadata"
            " from generate_series(1, 50) n",
            (organization, key),
        )  # fmt: skip
        owner.execute("alter table old_usage add primary key (id)")
    command = ("usage", "adopt", "public.old_usage", "--batch", "7")
    ran = aurora.cli(*command, "--json")
    assert ran.code == 1, "a row was refused"
    assert json.loads(ran.out) == {"accepted": 49, "known": 0, "refused": 1}
    again = aurora.cli(*command, "--json")
    assert json.loads(again.out)["accepted"] == 0
    (month,) = aurora.json("usage", "impressions", "--org", slug, "--by", "calendar_month",
                           "--months", "1")  # fmt: skip
    assert month["billable"] > 0
    assert aurora.cli("usage", "adopt", "public.nothing").code == 1
