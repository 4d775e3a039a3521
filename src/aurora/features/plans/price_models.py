"""Price models as people write them, turned into the one form that app.rate() takes."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, DecimalException
from typing import Any, Final

from aurora.features.plans.model import PriceModelInvalid, TiersGap, TiersOverlap, UnitsInvalid

MAX_TIERS: Final = 100
MAX_EVENT_AMOUNTS: Final = 10_000

_SAME: Final[Mapping[str, str]] = {
    "unit": "unit_price",
    "price_per_unit": "unit_price",
    "flat": "flat_fee",
    "included": "free_units",
    "included_impressions": "free_units",
    "minimum_amount": "minimum",
}
_BLOCKS: Final[Mapping[str, str]] = {
    "blocks_all_tiers": "all_tiers",
    "blocks_top_tier": "top_tier",
}


def price_model(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a price model in the form of app.rate(): its name in `model`, numbers as text.

    Besides that form it understands `per_begun_1000` and `pro_rata` with a `rate` per 1000,
    `ranges` with `from` and `to` in place of `tiers` with `up_to`, and the short names `unit`,
    `flat`, and `included`. What a model holds is checked where it is applied, in SQL.

    Args:
        given: The model as JSON was read, without units.

    Raises:
        PriceModelInvalid, TiersOverlap, TiersGap: As they say.
    """
    fields = {_SAME.get(name, name): value for name, value in given.items() if value is not None}
    nested = fields.get("model")
    if isinstance(nested, Mapping):
        # {"model": {"model": "package", …}, "units": …}: the model as an object of its own.
        return price_model({**nested, **{k: v for k, v in fields.items() if k != "model"}})
    name = str(fields.get("model"))
    if name in {"per_begun_1000", "pro_rata"}:
        fields = _from_rate(name, fields)
    elif name in _BLOCKS:
        fields |= {"model": "blocks", "mode": _BLOCKS[name]}
    if "ranges" in fields:
        fields["tiers"] = _from_ranges(fields.pop("ranges"))
    if isinstance(fields.get("tiers"), list):
        fields["tiers"] = [_tier(tier) for tier in fields["tiers"]]
    fields.pop("adjacent", None)
    return {name: _plain(value) for name, value in fields.items()}


def number(value: object) -> Decimal:
    """Return a number as JSON or a command line wrote it.

    Raises:
        UnitsInvalid: It is none, or not finite.
    """
    try:
        found = Decimal(str(value))
    except DecimalException:
        raise UnitsInvalid(f"{value!r:.40} is not a number.") from None
    if isinstance(value, bool) or not found.is_finite() or abs(found.adjusted()) > MAX_TIERS:
        raise UnitsInvalid(f"{value!r:.40} is not a number that can be rated.")
    return found


def _from_rate(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    rate = fields.pop("rate", fields.pop("overage_rate", None))
    if name == "per_begun_1000":
        return fields | {"model": "package", "package_size": 1000, "package_amount": rate}
    return fields | {"model": "standard", "unit_price": rate, "per": 1000}


def _from_ranges(ranges: object) -> list[dict[str, Any]]:
    """Turn ranges into tiers; each begins where the one before ended, or with the next unit."""
    if not isinstance(ranges, list) or not 1 <= len(ranges) <= MAX_TIERS:
        raise PriceModelInvalid(f"ranges is a list of 1 to {MAX_TIERS}.")
    tiers: list[dict[str, Any]] = []
    reached = Decimal(0)
    for place, each in enumerate(ranges):
        if not isinstance(each, Mapping):
            raise PriceModelInvalid(f"Range {place + 1} is no object.")
        start = number(each.get("from", 0))
        if place and start < reached:
            raise TiersOverlap(f"Range {place + 1} begins at {start}, before {reached} is reached.")
        if start not in {reached, reached + 1}:
            raise TiersGap(f"Range {place + 1} begins at {start}, after {reached}.")
        tier = {name: value for name, value in each.items() if name not in {"from", "to"}}
        if each.get("to") is not None:
            reached = number(each["to"])
            tier["up_to"] = each["to"]
            if reached < start:
                raise TiersOverlap(f"Range {place + 1} ends before it begins.")
        elif place + 1 < len(ranges):
            raise TiersOverlap(f"Range {place + 1} is open, and another one follows.")
        tiers.append(tier)
    return tiers


def _tier(tier: object) -> dict[str, Any]:
    if not isinstance(tier, Mapping):
        raise PriceModelInvalid("A tier is an object.")
    return {_SAME.get(k, k): _plain(v) for k, v in tier.items() if v is not None}


def _plain(value: Any) -> Any:
    """Return numbers as text, so that none passes through a binary fraction."""
    if isinstance(value, bool | str | list | dict):
        return value
    return format(number(value), "f")
