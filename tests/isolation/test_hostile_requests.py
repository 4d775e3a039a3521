"""Whatever stands in a path, a query, or a body of any route: a refusal that helps, never a 500."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote

import httpx
from tests.isolation.conftest import Client
from tests.isolation.routes import Attempt, attempts

from aurora.integrations.http import PROBLEM_JSON

# JSON as it is sent: some of it no encoder would write.
VALUES: Final = (
    *("null", "true", "-1", "1.5", "NaN", "1e999", "9" * 5_000, "[]", "{}", '""', '"\\u0000"'),
    *(
        '"\\ud800"',
        '"\\u202e\\ufeff"',
        '"\u212a"',
        '"' + "x" * 70_000 + '"',
        "[" * 3_000 + "]" * 3_000,
    ),
    *('"2026-02-30"', '"0001-01-01T00:00:00Z"', '"9999-12-31T23:59:59Z"', '"infinity"'),
    *('"%s%n"', '"\'; drop table users; --"', '"../../etc/passwd"', '{"a": {"b": [null, {}]}}'),
)
# Percent-encoded, as it stands in an address.
TEXTS: Final = (
    *("%00", "%ff%fe", "%ed%a0%80", "-1", "9" * 400, "NaN", "x" * 3_000, "%D9%A1%D9%A2", "%"),
    *("2026-02-30", "0001-01-01", "9999-12-31", "infinity", "%F0%9F%90%89", "..%2f..", "%27%3B--"),
)


def bodies(example: Any) -> Iterator[str]:
    """Yield bodies in which one field is hostile, and some that are no body at all."""
    yield from ("", "null", "[]", "{", "[" * 100_000, '"text"', "{}", '{"no_such_field": 1}')
    if isinstance(example, dict):
        for field in example:
            for value in VALUES:
                written = json.dumps({**example, field: "\0"})
                yield written.replace(json.dumps("\0"), value)


def addresses(attempt: Attempt) -> Iterator[str]:
    """Yield the attempt's address with one part, or one parameter, replaced."""
    parts = attempt.url.split("/")
    for place, part in enumerate(parts):
        if part.startswith("aaaaaaaa"):
            yield from ("/".join([*parts[:place], text, *parts[place + 1 :]]) for text in TEXTS)
    names = (*attempt.query, "organization_id", "cursor", "limit", "from", "to", "group_by")
    for name in dict.fromkeys((*names, "language", "as_of", "action")):
        yield from (f"{attempt.url}?{quote(name)}={text}" for text in TEXTS)


def fault_of(answer: httpx.Response) -> str | None:
    """Return what is wrong with an answer to a hostile request, or None."""
    if answer.status_code >= 500:
        return f"{answer.status_code} {answer.text[:200]}"
    if answer.status_code >= 400:
        problem = answer.json()
        is_helpful = problem["code"] and problem["title"] and problem["detail"]
        if answer.headers["content-type"] != PROBLEM_JSON or not is_helpful:
            return f"{answer.status_code} that does not help: {answer.text[:200]}"
    return None


async def test_no_route_is_brought_down(client: Client) -> None:
    headers = {**client.headers["operator"], "content-type": "application/json"}
    wrong, asked = [], 0
    for attempt in attempts(client.document):
        if attempt.whose != "A":
            continue
        for url in addresses(attempt) if attempt.method == "GET" else ():
            answer = await client.http.request(attempt.method, url, headers=headers)
            asked += 1
            if fault := fault_of(answer):
                wrong.append(f"{attempt.method} {url[:200]}: {fault}")
        for body in bodies(attempt.body) if attempt.body is not None else ():
            answer = await client.http.request(
                attempt.method, attempt.url, content=body.encode(), headers=headers
            )
            asked += 1
            if fault := fault_of(answer):
                wrong.append(f"{attempt.method} {attempt.url}: {body[:100]!r}: {fault}")
    assert not wrong, "\n".join(wrong)
    assert asked > 2_000


async def test_an_unknown_field_is_refused_and_named(client: Client) -> None:
    wrong = []
    for attempt in attempts(client.document):
        if attempt.whose == "A" and isinstance(attempt.body, dict):
            answer = await client.http.request(
                attempt.method,
                attempt.url,
                json={**attempt.body, "no_such_field": 1},
                headers=client.headers["operator"],
            )
            if answer.status_code != 422 or "no_such_field" not in answer.text:
                wrong.append(f"{attempt.method} {attempt.url}: {answer.status_code} {answer.text}")
    assert not wrong, "\n".join(wrong)


def test_a_refusal_that_does_not_help_is_seen() -> None:
    problem = {"code": "x", "title": "X", "detail": "Why."}
    json_type = {"content-type": PROBLEM_JSON}
    assert fault_of(httpx.Response(422, json=problem, headers=json_type)) is None
    assert fault_of(httpx.Response(200)) is None
    for status, sent, headers in (
        (500, problem, json_type),
        (422, problem | {"detail": ""}, json_type),
        (422, problem, {}),
    ):
        assert fault_of(httpx.Response(status, json=sent, headers=headers))
