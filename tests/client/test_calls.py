"""What the client does without a server: patience, secrets, and unreadable answers."""

from __future__ import annotations

import traceback
from datetime import timedelta
from email.utils import format_datetime

import httpx
import pytest

from aurora.client import AnswerUnreadable, Aurora, Limited, Retrying, ServerFailed, Unreachable
from aurora.client.calls import Call
from aurora.client.errors import CallFailed
from aurora.client.exchange import request_of
from aurora.client.model import NewKey
from aurora.client.retrying import retry_after_s
from aurora.core import clock
from aurora.core.secrets import generate_api_key, generate_service_token

TOKEN = generate_service_token()


def answering(*answers: httpx.Response | Exception) -> tuple[httpx.MockTransport, list[str]]:
    """A network of given answers, and what was asked of it."""
    left = list(answers)
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        found = left.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    return httpx.MockTransport(answer), asked


def a_client(transport: httpx.BaseTransport) -> Aurora:
    retrying = Retrying(first_wait_s=0.001)
    return Aurora("https://aurora.example", TOKEN, transport=transport, retrying=retrying)


GOOD = {"valid": False, "code": "NOT_FOUND", "a_member_of_tomorrow": 1}


def test_members_of_a_later_release_are_ignored() -> None:
    network, _ = answering(httpx.Response(200, json=GOOD))
    assert a_client(network).keys.verify("x").code == "NOT_FOUND"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_passes_is_tried_again(status: int) -> None:
    network, asked = answering(httpx.Response(status), httpx.Response(200, json=GOOD))
    assert a_client(network).keys.verify("x").code == "NOT_FOUND"
    assert len(asked) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 500, 501])
def test_what_stays_is_not(status: int) -> None:
    network, asked = answering(httpx.Response(status))
    with pytest.raises(CallFailed) as failed:
        a_client(network).keys.verify("x")
    assert failed.value.code == f"http_{status}"
    assert len(asked) == 1


def test_a_longer_wait_than_allowed_is_the_callers_business() -> None:
    network, asked = answering(httpx.Response(429, headers={"retry-after": "3600"}))
    with pytest.raises(Limited) as limited:
        a_client(network).keys.verify("x")
    assert limited.value.retry_after_s == 3600
    assert len(asked) == 1


def test_aurora_is_asked_again_no_sooner_than_it_asks() -> None:
    error = ServerFailed("x", status=503, retry_after_s=7.0)
    waits = [Retrying().wait_s(error, 1) for _ in range(100)]
    assert all(wait is not None and wait >= 7.0 for wait in waits)


def test_waits_are_spread_and_bounded() -> None:
    retrying = Retrying(max_attempts=20, first_wait_s=1.0, max_wait_s=8.0)
    waits = [retrying.wait_s(Unreachable("x"), attempt) for attempt in range(1, 20)]
    assert all(wait is not None and wait <= 8.0 for wait in waits)
    assert len(set(waits)) == len(waits)
    assert retrying.wait_s(Unreachable("x"), 20) is None


def test_a_date_is_a_retry_after_too() -> None:
    with clock.freeze(clock.now().replace(microsecond=0)) as frozen:
        assert retry_after_s(format_datetime(frozen.at + timedelta(seconds=90))) == 90
        assert retry_after_s(format_datetime(frozen.at - timedelta(seconds=90))) == 0
    for odd in ("", "soon", "-5", "1e9", "9" * 40, "Wed, 99 Foo", "٣"):
        assert retry_after_s(odd) is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"[" * 100_000, b"\xff"])
def test_what_does_not_speak_as_aurora_is_told(body: bytes) -> None:
    network, _ = answering(httpx.Response(200, content=body))
    with pytest.raises(AnswerUnreadable):
        a_client(network).keys.verify("x")


def test_no_secret_is_in_a_repr_or_a_traceback() -> None:
    key = generate_api_key("test").key
    network, _ = answering(*[httpx.ReadError("lost")] * 4)
    aurora = a_client(network)
    with pytest.raises(Unreachable) as failed:
        aurora.keys.verify(key)
    told = "".join(
        traceback.TracebackException.from_exception(
            failed.value, capture_locals=False, compact=True
        ).format()
    )
    for text in (told, repr(aurora), repr(failed.value), str(failed.value)):
        assert TOKEN not in text
        assert key not in text
    assert failed.value.__cause__ is None


def test_a_made_key_shows_itself_only_when_asked() -> None:
    fields = {
        name: ""
        for name in NewKey.__struct_fields__
        if name not in NewKey.__struct_defaults__ and name != "key"
    }
    made = NewKey(**{**fields, "key": "tro_test_SECRET"})  # type: ignore[arg-type]
    assert "SECRET" not in repr(made)
    assert "SECRET" not in f"{[made]}"


@pytest.mark.parametrize("url", ["aurora.example", "ftp://x", "https://", "https://me:pw@x"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Aurora(url, TOKEN)


def test_the_token_follows_no_redirect() -> None:
    away = httpx.Response(307, headers={"location": "https://evil.example/"})
    network, asked = answering(away)
    with pytest.raises(AnswerUnreadable):
        a_client(network).keys.verify("x")
    assert len(asked) == 1


@pytest.mark.parametrize("path", ["/v1/keys/verify", "/v1/organizations/a%2Fb%3F/keys"])
@pytest.mark.parametrize(
    "base", ["http://h:1", "http://h:1/", "https://h/behind", "https://h/behind/this/"]
)
def test_a_call_goes_where_httpx_itself_would_send_it(base: str, path: str) -> None:
    with httpx.Client(base_url=base) as client:
        theirs = client.build_request("GET", path).url
    ours = request_of(Call("GET", path, bytes), base)["url"]
    assert (ours, ours.raw_path) == (theirs, theirs.raw_path)
    # The wrong version: a path is not a reference, which would leave out what stands before it.
    assert (httpx.URL(base).join(path) == theirs) == ("behind" not in base)
