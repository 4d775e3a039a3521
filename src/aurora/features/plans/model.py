"""A plan of the catalogue."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

from aurora.core.errors import NotFound

OverageModel = Literal["per_begun_1000", "pro_rata"]
QuotaMode = Literal["soft", "hard"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What can be bought; prices are in major units of `currency`, None means by agreement."""

    id: str
    name: str
    price_monthly: Decimal | None
    price_yearly: Decimal | None
    currency: str
    included_impressions: int | None
    overage_rate: Decimal | None
    overage_model: OverageModel
    quota_mode: QuotaMode
    rate_limit_tier: str
    rate_limit_per_hour: int
    features: dict[str, Any]


class PlanNotFound(NotFound):
    """The catalogue has no such plan."""

    code, title = "plan_not_found", "There is no such plan"
    constraints = ("subscriptions_plan_id_fkey",)
