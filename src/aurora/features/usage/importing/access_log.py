r"""Access logs of nginx and Apache: common, combined, with a virtual host, with fields after.

    host ident user [time] "request" status bytes ["referer" "user agent" [fields]]

Apache log formats: https://httpd.apache.org/docs/2.4/mod/mod_log_config.html; nginx:
https://nginx.org/en/docs/http/ngx_http_log_module.html. Query strings are dropped: they hold
what people typed, and no two are alike. User names are dropped as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta

from aurora.features.usage.importing.access_fields import FieldCache, Remembered, parse_time
from aurora.features.usage.importing.formats import (
    Defaults,
    Record,
    Rejected,
    reject,
    reject_long_line,
)
from aurora.features.usage.importing.ordinals import Ordinals
from aurora.features.usage.model import UsageEvent
from aurora.integrations.textfiles import Line

# Of the usual form, 03/Mar/2025:18:30:59 +0000: all but the seconds names the minute.
_TIME_CHARS = 26
_SECONDS = {f"{second:02}".encode(): timedelta(seconds=second) for second in range(60)}

# Possessive quantifiers (*+) keep every line linear in its length, however it is made.
_QUOTED = rb'[^"\\]*+(?:\\.[^"\\]*+)*+'
_REST = (
    rb"\[([^\]]{19,40})\] "
    rb'"(?:([A-Z]{1,20} /[^ ?"\\#]*+)(?:[?#][^ "\\]*+)? HTTP/[0-9.]{1,3}|(' + _QUOTED + rb'))" '
    rb"([0-9]{3}) (?:[0-9]+|-)"
    rb'(?: "(' + _QUOTED + rb')" "(' + _QUOTED + rb')")?+'
    rb"( .*)?\Z"
)
_USUAL = re.compile(rb"(\S+) \S+ \S+ " + _REST, re.DOTALL)
# A virtual host in front (Apache's vhost_combined), or a user name with blanks in it.
_UNUSUAL = re.compile(rb"(?:[\w.*-]+:[0-9]{1,5} )?(\S+) \S+ [^\[\"]*?" + _REST, re.DOTALL)

_STATUS = {str(code).encode(): code for code in range(100, 600)}


def looks_like_access_log(raw: bytes) -> bool:
    """Tell whether a line has the shape of an access-log line."""
    return bool(_USUAL.match(raw) or _UNUSUAL.match(raw))


class AccessLogParser:
    """Turns access-log lines into events.

    Nearly all fields of a log repeat, so each is parsed once and remembered in a bounded cache.
    Measured on one core: 145,000 lines a second (combined), 135,000 with fields after the agent.
    """

    def __init__(self, defaults: Defaults, ordinals: Ordinals, head: bytes) -> None:  # noqa: ARG002
        """Take what the log does not say, and the source of ids; the head tells nothing more."""
        self._defaults = defaults
        self._ordinals = ordinals
        self._fields = FieldCache(defaults.routes, defaults.bare_duration_unit)
        self._times: Remembered[bytes, datetime | None] = Remembered(parse_time)

    def records(self, lines: Iterator[Line]) -> Iterator[Record]:
        """Yield an event or a rejection for each line that is not blank."""
        event_of = self._event
        for number, offset, raw in lines:
            if raw:
                yield number, offset, event_of(number, offset, raw)
            elif raw is None:
                yield number, offset, reject_long_line(number)

    def _event(self, number: int, offset: int, raw: bytes) -> UsageEvent | Rejected:
        found = _USUAL.match(raw) or _UNUSUAL.match(raw)
        if found is None:
            return reject(
                number, "log_line_malformed", "Not an access-log line (common or combined)", raw
            )
        host, when, usual, unusual, code, referer, agent, tail = found.groups()
        timestamp = self._moment(when)
        if timestamp is None:
            return reject(number, "time_invalid", "The time in brackets is not a date", raw)
        status = _STATUS.get(code)
        if status is None:
            return reject(number, "status_invalid", "The status is not between 100 and 599", raw)
        fields = self._fields
        if usual is None:
            method, endpoint, widget_type, impression = fields.unusual_request(unusual)
        else:
            method, endpoint, widget_type, impression = fields.requests[usual]
        origin, page = fields.referers[referer]
        ip_address = fields.addresses[host]
        duration_ms, cached, country = None, False, None
        if tail is not None:
            duration_ms, cached, country, forwarded = fields.tails[tail]
            if forwarded is not None and fields.is_proxy(ip_address):
                ip_address = forwarded
        return UsageEvent(
            id=self._ordinals.name(raw, int(timestamp.timestamp()), offset, number),
            timestamp=timestamp,
            endpoint=endpoint,
            status_code=status,
            api_key_id=self._defaults.api_key_id,
            organization_id=self._defaults.organization_id,
            method=method,
            response_time_ms=duration_ms,
            cached=cached,
            widget_type=widget_type,
            widget_impression=impression,
            origin=origin,
            user_agent=fields.agents[agent],
            ip_address=ip_address,
            country_code=country,
            metadata={} if page is None else {"referer": page},
        )

    def _moment(self, when: bytes) -> datetime | None:
        # A quiet log has a line a second, so seconds do not repeat, but minutes do.
        second = _SECONDS.get(when[18:20])
        if second is None or len(when) != _TIME_CHARS or when[2:3] != b"/":
            return self._times[when]
        minute = self._times[when[:18] + b"00" + when[20:]]
        return None if minute is None else minute + second
