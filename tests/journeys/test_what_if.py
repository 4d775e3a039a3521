"""Questions that people ask before they trust a number: rate, periods, prorate."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.journeys.conftest import Aurora, Ran, run_aurora

TIERS = [{"from": "0", "to": "10", "unit": "10", "flat": "2"}, {"from": "11", "unit": "5"}]


def asked(aurora: Aurora, command: str, question: Any) -> Ran:
    text = question if isinstance(question, str) else json.dumps(question)
    return run_aurora("billing", command, "--json", environment=aurora.environment, asked=text)


def test_units_are_rated_line_by_line(aurora: Aurora) -> None:
    found = asked(aurora, "rate", {"model": "graduated", "units": "12", "ranges": TIERS}).json
    assert (found["amount"], found["total"]) == ("112", "112.00")
    assert [line["amount"] for line in found["lines"]] == ["100", "2", "10"]


def test_begun_thousands_beyond_the_included_ones_are_whole(aurora: Aurora) -> None:
    question = {"model": "per_begun_1000", "rate": "50", "included": 50_000, "units": 60_001}
    assert asked(aurora, "rate", question).json["amount"] == "550"
    assert asked(aurora, "rate", question | {"model": "pro_rata"}).json["amount"] == "500.05"


@pytest.mark.parametrize(
    ("code", "question"),
    [
        ("question_unreadable", "[1]"),
        ("question_unreadable", "{"),
        ("units_invalid", {"model": "standard", "unit": "1", "units": "-1"}),
        ("units_invalid", {"model": "standard", "unit": "1", "units": "many"}),
        ("price_model_invalid", {"model": "standard", "unit": "-1", "units": "1"}),
        ("price_model_invalid", {"model": "auction", "units": "1"}),
        ("currency_unknown", {"model": "standard", "unit": "1", "units": "1", "currency": "XXX"}),
        (
            "tiers_overlap",
            {"model": "volume", "units": "1", "tiers": [{"up_to": "5"}, {"up_to": "5"}, {}]},
        ),
        (
            "tiers_overlap",
            {"model": "volume", "units": "1", "ranges": [{"from": 0, "to": 5}, {"from": 3}]},
        ),
        (
            "tiers_gap",
            {"model": "volume", "units": "1", "ranges": [{"from": 0, "to": 5}, {"from": 9}]},
        ),
        ("tiers_end", {"model": "volume", "units": "1", "tiers": [{"up_to": "5", "unit": "1"}]}),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    aurora: Aurora, code: str, question: Any
) -> None:
    assert f"({code})" in asked(aurora, "rate", question).refusal


def test_periods_keep_the_anchor_over_short_months(aurora: Aurora) -> None:
    found = aurora.json("billing", "periods", "--anchor", "2026-01-31", "--count", "3")
    assert [(p["from"], p["to"], p["days"]) for p in found] == [
        ("2026-01-31", "2026-02-28", 28),
        ("2026-02-28", "2026-03-31", 31),
        ("2026-03-31", "2026-04-30", 30),
    ]
    assert found[2]["period_start"] == "2026-03-30T22:00:00Z"
    leap = aurora.json(
        *("billing", "periods", "--anchor", "2024-02-29", "--interval", "year", "--count", "1")
    )
    assert (leap[0]["to"], leap[0]["days"]) == ("2025-02-28", 365)


@pytest.mark.parametrize(
    ("code", "arguments"),
    [
        ("periods_invalid", ("--anchor", "31.01.2026")),
        ("periods_invalid", ("--anchor", "2026-01-31", "--count", "0")),
        ("periods_invalid", ("--anchor", "9990-01-31", "--count", "1200")),
        ("time_zone_unknown", ("--anchor", "2026-01-31", "--time-zone", "Europe/Nowhere")),
    ],
)
def test_periods_that_make_no_sense_are_refused(
    aurora: Aurora, code: str, arguments: tuple[str, ...]
) -> None:
    assert f"({code})" in aurora.cli("billing", "periods", *arguments).refusal


def test_a_price_is_prorated_from_options_and_from_json_alike(aurora: Aurora) -> None:
    whole = ("--period-start", "2026-11-01", "--period-end", "2026-12-01")
    found = aurora.json("billing", "prorate", "--price", "3500", *whole, "--from", "2026-11-11")
    assert (found["days"], found["of_days"], found["amount"]) == (20, 30, "2333.33")
    same = {"price": "3500", "days": 20, "of_days": 30}
    assert asked(aurora, "prorate", same).json == found
    for wrong in ({"price": "1", "days": 31, "of_days": 30}, {"price": "1"}, {"days": 1}):
        assert "(proration_invalid)" in asked(aurora, "prorate", wrong).refusal
