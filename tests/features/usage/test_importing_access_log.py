"""Access-log lines of many makes become the right events, and no line can stop the import."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aurora.features.usage.importing import (
    DEFAULT_ROUTES,
    Defaults,
    Parsed,
    Rejected,
    Route,
    parse_file,
)
from aurora.features.usage.importing.access_log import AccessLogParser
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent

FIRST, LAST = datetime(2000, 1, 1), datetime(2099, 1, 1)  # noqa: DTZ001 - hypothesis wants it
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:139.0) Gecko/20100101 Firefox/139.0"
NGINX = (
    '192.0.2.10 - - [14/Jan/2026:21:05:59 +0100] "GET /api/aurora/now?lat=69.65&lon=18.96 HTTP/2.0"'
    f' 200 512 "https://www.nordlys.example/en/lights?room=12#top" "{AGENT}"'
)


def parsed(raw: str | bytes, defaults: Defaults | None = None) -> Parsed:
    line = raw.encode() if isinstance(raw, str) else raw
    parser = AccessLogParser(defaults or Defaults(), Ordinals(), b"")
    ((_, _, result),) = list(parser.records(iter([(1, 0, line)])))
    return result


def event(raw: str | bytes, defaults: Defaults | None = None) -> UsageEvent:
    result = parsed(raw, defaults)
    assert isinstance(result, UsageEvent), result
    return result


def with_request(request: str, status: str = "200") -> str:
    return f'192.0.2.10 - - [14/Jan/2026:21:05:59 +0100] "{request}" {status} 5 "-" "curl/8.5.0"'


def test_a_combined_line_of_nginx_becomes_an_event() -> None:
    made = event(NGINX)
    assert made.timestamp == datetime(2026, 1, 14, 20, 5, 59, tzinfo=UTC)
    assert (made.method, made.endpoint, made.status_code) == ("GET", "/api/aurora/now", 200)
    assert made.ip_address == "192.0.2.10"
    assert made.user_agent == AGENT
    assert made.origin == "https://www.nordlys.example"
    assert made.metadata == {"referer": "https://www.nordlys.example/en/lights"}
    assert made.response_time_ms is None
    assert not made.cached


def test_nothing_of_a_query_string_or_a_user_name_is_kept() -> None:
    made = event(
        '192.0.2.1 - kari.nordmann [14/Jan/2026:21:05:59 +0000] "GET /p?email=hemmelig HTTP/1.1"'
        ' 200 5 "https://user:pass@h.example/x?token=hemmelig" "agent"'
    )
    everything = repr(made)
    for secret in ("hemmelig", "kari", "pass"):
        assert secret not in everything


def test_a_common_line_has_no_agent_and_no_referer() -> None:
    made = event('2001:db8::7 - - [14/Jan/2026:21:05:59 -0330] "POST /v1/x HTTP/1.1" 201 -')
    assert made.ip_address == "2001:db8::7"
    assert made.timestamp == datetime(2026, 1, 15, 0, 35, 59, tzinfo=UTC)
    assert (made.user_agent, made.origin, made.metadata) == (None, None, {})


def test_a_virtual_host_in_front_is_no_address() -> None:
    made = event("www.nordlys.example:443 " + NGINX)
    assert made.ip_address == "192.0.2.10"


def test_a_user_name_with_blanks_is_passed_over() -> None:
    made = event(NGINX.replace(" - - [", " - kari nord mann ["))
    assert (made.ip_address, made.endpoint) == ("192.0.2.10", "/api/aurora/now")


@pytest.mark.parametrize(
    ("tail", "duration_ms", "cached", "country", "address"),
    [
        ("", None, False, None, "192.0.2.10"),
        (" 0.123", 123, False, None, "192.0.2.10"),
        (' "-" 1.500', 1500, False, None, "192.0.2.10"),
        (" rt=0.034 uct=0.001 cs=HIT", 34, True, None, "192.0.2.10"),
        (" request_time=2", 2000, False, None, "192.0.2.10"),
        (' HIT "-" 0.001 country=NO', 1, True, "NO", "192.0.2.10"),
        (" MISS 0.010 0.009", 10, False, None, "192.0.2.10"),
        (' 17 "router" "http://10.0.0.2:80" 12ms', 12, False, None, "192.0.2.10"),
        (" 4711", None, False, None, "192.0.2.10"),
        (' "198.51.100.9"', None, False, None, "192.0.2.10"),
    ],
)
def test_fields_after_the_agent_are_understood(
    tail: str, duration_ms: int | None, cached: bool, country: str | None, address: str | None
) -> None:
    made = event(NGINX + tail)
    assert made.response_time_ms == duration_ms
    assert (made.cached, made.country_code, made.ip_address) == (cached, country, address)


def test_a_bare_number_is_a_duration_only_when_its_unit_is_told() -> None:
    assert event(NGINX + " 45678", Defaults(bare_duration_unit="us")).response_time_ms == 46
    assert event(NGINX + " 2", Defaults(bare_duration_unit="s")).response_time_ms == 2000


def test_forwarded_for_is_believed_only_from_a_proxy_of_ones_own() -> None:
    forwarded = ' "203.0.113.99, 198.51.100.9, 10.0.0.3"'
    behind = NGINX.replace("192.0.2.10", "10.0.0.1")
    assert event(behind + forwarded).ip_address == "198.51.100.9"
    assert event(NGINX + forwarded).ip_address == "192.0.2.10"
    assert event(behind + ' "junk"').ip_address == "10.0.0.1"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:0DB8:0:0::1", "2001:db8::1"),
        ("fe80::1%eth0", "fe80::1"),
        ("client.example", None),
        ("-", None),
        ("999.1.1.1", None),
        ("\x00\x00192.0.2.10", None),
    ],
)
def test_addresses_are_kept_in_one_form_or_not_at_all(written: str, kept: str | None) -> None:
    assert event(NGINX.replace("192.0.2.10", written)).ip_address == kept


@pytest.mark.parametrize(
    ("request_line", "method", "endpoint"),
    [
        (r"\x16\x03\x01\x02\x00\x01\x00\x01\xFC\x03\x03", "UNKNOWN", "-"),
        ("-", "UNKNOWN", "-"),
        ("", "UNKNOWN", "-"),
        ("GET", "UNKNOWN", "-"),
        ("GET /old", "GET", "/old"),
        ("GET /old?q=1", "GET", "/old"),
        (r"GET /a\"b?c=\"d\" HTTP/1.1", "GET", '/a"b'),
        (r"GET /s\xC3\xB8k HTTP/1.1", "GET", "/søk"),
        (r"GET /bad\xFF HTTP/1.1", "GET", "/bad\N{REPLACEMENT CHARACTER}"),
        (r"GET /nul\x00 HTTP/1.1", "GET", "/nul\N{REPLACEMENT CHARACTER}"),
        ("GET http://h.example/w/map?x=1 HTTP/1.1", "GET", "/w/map"),
        ("GET http://h.example HTTP/1.1", "GET", "/"),
        ("CONNECT h.example:443 HTTP/1.1", "CONNECT", "-"),
        ("OPTIONS * HTTP/1.1", "OPTIONS", "-"),
        ("get /lower HTTP/1.1", "UNKNOWN", "-"),
        ("SSH-2.0-Go", "UNKNOWN", "-"),
    ],
)
def test_strange_requests_are_still_events(request_line: str, method: str, endpoint: str) -> None:
    made = event(with_request(request_line, "400"))
    assert (made.method, made.endpoint, made.status_code) == (method, endpoint, 400)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("hello", "log_line_malformed"),
        (NGINX[:60], "log_line_malformed"),
        (NGINX.replace("14/Jan", "31/Feb"), "time_invalid"),
        (NGINX.replace("14/Jan", "14/Jul").replace("Jul", "Xyz"), "time_invalid"),
        (NGINX.replace('" 200', '" 000'), "status_invalid"),
        (NGINX.replace('" 200', '" 999'), "status_invalid"),
        (NGINX.replace('" 200', '" -'), "log_line_malformed"),
    ],
)
def test_a_bad_line_is_rejected_with_its_reason(line: str, code: str) -> None:
    result = parsed(line)
    assert isinstance(result, Rejected)
    assert result.code == code
    assert result.excerpt == line[:120]


@pytest.mark.parametrize(
    ("request_line", "widget_type", "impression"),
    [
        ("GET /v1/widgets/forecast/embed?k=1 HTTP/1.1", "forecast", False),
        ("GET /v1/widgets/map HTTP/1.1", "map", False),
        ("GET /w/chat.js HTTP/1.1", "chat", False),
        ("POST /v1/seen/forecast HTTP/1.1", "forecast", True),
        ("GET /v1/seen/forecast HTTP/1.1", None, False),
        ("GET /w/mapping HTTP/1.1", None, False),
        ("GET /x/w/map HTTP/1.1", None, False),
    ],
)
def test_paths_tell_widgets_and_impressions(
    request_line: str, widget_type: str | None, impression: bool
) -> None:
    made = event(with_request(request_line))
    assert (made.widget_type, made.widget_impression) == (widget_type, impression)


def test_path_rules_can_be_replaced() -> None:
    routes = (Route("GET", re.compile(r"/embed/(?P<type>\w+)/view"), impression=True),)
    line = with_request("GET /embed/map/view HTTP/1.1")
    assert event(line, Defaults(routes=routes)).widget_impression
    assert not event(line, Defaults(routes=DEFAULT_ROUTES)).widget_impression
    assert (
        event(with_request("GET /embed/radar/view HTTP/1.1"), Defaults(routes=routes)).widget_type
        is None
    )


def test_a_long_agent_is_cut_and_bad_utf_8_is_replaced() -> None:
    raw = NGINX.encode().replace(AGENT.encode(), b"caf\xe9 " + b"x" * 2000)
    made = event(raw)
    assert made.user_agent is not None
    assert made.user_agent.startswith("caf\N{REPLACEMENT CHARACTER} x")
    assert len(made.user_agent) == 512


def test_a_line_made_to_be_slow_is_not() -> None:
    began = time.process_time()
    for hostile in (b'"' * 200_000, b"\\" * 200_000, b"1 " * 100_000, b"[" * 200_000):
        parsed(b'192.0.2.1 - - [14/Jan/2026:21:05:59 +0000] "GET ' + hostile)
        parsed(hostile)
    assert time.process_time() - began < 2


segments = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=12)
agents = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)


def escaped(text: str) -> str:
    """Write text as nginx does: quotes, backslashes, control and non-ASCII bytes as \\xNN."""
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02X}"
        for byte in text.encode()
    )


@given(
    when=st.datetimes(FIRST, LAST),
    zone_minutes=st.integers(-12 * 60, 14 * 60),
    address=st.ip_addresses(),
    path=st.lists(segments, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)),
    query=st.none() | segments,
    status=st.integers(100, 599),
    agent=agents.filter(lambda text: text not in ("", "-")),
    duration_ms=st.none() | st.integers(0, 600_000),
)
def test_an_event_written_as_a_log_line_is_read_back(
    when: datetime,
    zone_minutes: int,
    address: IPv4Address | IPv6Address,
    path: str,
    query: str | None,
    status: int,
    agent: str,
    duration_ms: int | None,
) -> None:
    moment = when.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=zone_minutes)))
    target = path if query is None else f"{path}?q={query}"
    tail = "" if duration_ms is None else f" {duration_ms / 1000:.3f}"
    made = event(
        f'{address} - - [{moment:%d/%b/%Y:%H:%M:%S %z}] "GET {target} HTTP/1.1" {status} 12'
        f' "https://h.example{path}" "{escaped(agent)}"{tail}'
    )
    assert made.timestamp == moment
    assert (made.endpoint, made.status_code) == (path, status)
    assert made.user_agent == agent
    assert made.response_time_ms == duration_ms
    assert made.origin == "https://h.example"
    mapped = getattr(address, "ipv4_mapped", None)
    assert made.ip_address == str(mapped or address)


@given(st.binary(max_size=300))
def test_no_bytes_break_the_parser(junk: bytes) -> None:
    prefix = b'192.0.2.1 - - [14/Jan/2026:21:05:59 +0000] "'
    for raw in (junk, prefix + junk, prefix + junk + b'" 200 5 "' + junk + b'" "' + junk + b'"'):
        if raw:
            parsed(raw)


def test_line_numbers_count_blank_and_bad_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text(f"{NGINX}\n\nbad\r\n{NGINX}\r\n")
    first, bad, second = parse_file(path, defaults=Defaults())
    assert isinstance(first, UsageEvent)
    assert isinstance(bad, Rejected)
    assert (bad.line_number, bad.excerpt) == (3, "bad")
    assert isinstance(second, UsageEvent)
    assert second.id == first.id + "-2"
