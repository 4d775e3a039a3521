"""What every HTTP door to a change of a subscription shares: who may, and what is asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, Connection, transaction
from aurora.features.organizations.model import Role
from aurora.features.organizations.service import place_of
from aurora.features.plans.model import QuotaMode
from aurora.features.subscriptions.model import BillingPeriod, ChangeTime
from aurora.integrations.http import Caller, OperatorOnly

Price = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=2)]
Rate = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=4)]


class AgreedTerms(BaseModel):
    """Terms in place of the plan's, which only operators agree to."""

    model_config = ConfigDict(extra="forbid")
    price_monthly: Price | None = None
    price_yearly: Price | None = None
    included_impressions: int | None = Field(None, ge=0, lt=2**63)
    overage_rate: Rate | None = None
    overage_model: Literal["per_begun_1000", "pro_rata"] | None = None
    price_model: dict[str, Any] | None = None
    quota_mode: QuotaMode | None = None


class PlanChange(BaseModel):
    """A plan to move to, in its present version."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"plan": "premium"}]})
    plan: str = Field(min_length=1, max_length=63)
    billing_period: BillingPeriod | None = Field(None, description="As it is when absent.")
    when: ChangeTime = Field("auto", description="auto: a dearer plan at once.")
    on: date | None = Field(None, description="First day; today when absent. Operators only.")
    agreed: AgreedTerms | None = Field(None, description="Operators only.")

    def asked(self, who: Caller) -> dict[str, Any]:
        """Return the change as the service takes it.

        Raises:
            OperatorOnly: Somebody else names terms of their own, a day, or a moment of their own.
        """
        if not who.acts_as_platform and (
            self.on is not None or self.agreed is not None or self.when == "now"
        ):
            raise OperatorOnly("The terms, and from when they hold, are the plan's to say.")
        overrides = None if self.agreed is None else self.agreed.model_dump(exclude_none=True)
        return {
            "plan_id": self.plan,
            "billing_period": self.billing_period,
            "when": self.when,
            "on_day": self.on,
            "overrides": overrides,
        }


@asynccontextmanager
async def acting(
    pool: Pool, who: Caller, organization_id: UUID, role: Role
) -> AsyncIterator[Connection]:
    """Open the platform's transaction for somebody whose role in the organization is high enough.

    What a change gives back and asks for is computed by the platform: no person has rights in the
    tables behind it, and the role is asked for in the transaction in which the change is made.

    Raises:
        RoleForbidden, OrganizationNotFound, OperatorOnly: As `place_of` and the role say.
    """
    async with transaction(pool, PLATFORM) as conn:
        (await place_of(conn, who, organization_id)).must_be(role)
        yield conn
