"""The eight identities that try everything, and the two organizations they try it on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aurora.db.transaction import Actor, person, tenant

ORGANIZATIONS: Final = {"A": UUID("aaaaaaaa-0000-4000-8000-000000000000"),
                        "B": UUID("bbbbbbbb-0000-4000-8000-000000000000")}  # fmt: skip
# The last digit of a person's auth_id in world.sql, which is that of the membership too.
PLACES: Final = {"viewer": 1, "member": 2, "admin": 3, "owner": 4}
OPERATOR_AUTH_ID: Final = UUID("cccccccc-0000-4000-8000-000000000009")


def thing_of(organization: str, number: int) -> UUID:
    """Return the id of a row of world.sql: an organization's letter, and the row's number."""
    return UUID(f"{organization.lower() * 8}-0000-4000-8000-{number:012}")


@dataclass(frozen=True)
class Identity:
    """Who tries; an identity belongs to organization A, to both (the operator), or to none."""

    name: str
    actor: Actor


# The order matters: whoever has nothing follows somebody who has, on the same connection.
IDENTITIES: Final = (
    *(Identity(place, person(thing_of("A", number))) for place, number in PLACES.items()),
    Identity("nobody", Actor("authenticated")),
    Identity("operator", person(OPERATOR_AUTH_ID)),
    Identity("anon", Actor("anon")),
    Identity("tenant", tenant(ORGANIZATIONS["A"])),
)

Who = frozenset[str]
NONE: Final[Who] = frozenset()
OPERATOR: Final[Who] = frozenset({"operator"})
TENANT: Final[Who] = frozenset({"tenant"})
OWNERS: Final[Who] = OPERATOR | {"owner"}
ADMINS: Final[Who] = OWNERS | {"admin"}
MEMBERS: Final[Who] = ADMINS | {"member"}
VIEWERS: Final[Who] = MEMBERS | {"viewer"}
