"""Keys as the limiter sees them."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID, uuid4


@dataclass(frozen=True, slots=True, kw_only=True)
class AKey:
    """A key with its limits; each is another one."""

    id: UUID = field(default_factory=uuid4)
    organization_id: UUID = field(default_factory=uuid4)
    rate_limit_per_hour: int = 100
    burst_per_second: int | None = None
