"""Rules that tell from a request line whether a widget was loaded or seen."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast, get_args

from aurora.features.usage.model import WidgetType

_TYPES = "|".join(get_args(WidgetType))


@dataclass(frozen=True, slots=True)
class Route:
    """One rule: a method, a pattern for the path, and whether a match is an impression.

    The pattern is searched from the start of the path without its query; its group `type` must
    match a widget type, or the rule says nothing.
    """

    method: str
    pattern: re.Pattern[str]
    impression: bool = False


Routes = tuple[Route, ...]

DEFAULT_ROUTES: Routes = (
    Route("GET", re.compile(rf"/v1/widgets/(?P<type>{_TYPES})(?:[/.]|$)")),
    Route("GET", re.compile(rf"/w/(?P<type>{_TYPES})(?:[/.]|$)")),
    Route("POST", re.compile(rf"/v1/seen/(?P<type>{_TYPES})(?:/|$)"), impression=True),
)


def widget_of(method: str, path: str, routes: Routes) -> tuple[WidgetType | None, bool]:
    """Return the widget type of a request and whether it is an impression: the first rule wins."""
    for route in routes:
        if route.method == method and (found := route.pattern.match(path)):
            kind = found["type"]
            if kind in get_args(WidgetType):
                return cast("WidgetType", kind), route.impression
    return None, False
