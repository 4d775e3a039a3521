"""Who may do what in an organization: the place of the caller, and the places that calls need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.organizations import store
from aurora.features.organizations.model import OrganizationNotFound, Role, RoleForbidden
from aurora.integrations.http import Caller, OperatorOnly

_ORDER: Final[tuple[Role, ...]] = ("viewer", "member", "admin", "owner")


@dataclass(frozen=True, slots=True)
class Place:
    """What somebody is in one organization.

    Attributes:
        role: None for an operator, who may do everything.
        user_id: The membership of a person.
    """

    role: Role | None
    user_id: UUID | None = None

    def is_at_least(self, role: Role) -> bool:
        """Say whether the place is as high as this role."""
        return self.role is None or _ORDER.index(self.role) >= _ORDER.index(role)

    def must_be(self, role: Role) -> None:
        """Refuse whoever is lower.

        Raises:
            RoleForbidden: The role is too low.
        """
        if not self.is_at_least(role):
            raise RoleForbidden(f"This needs the role {role}; yours is {self.role}.")

    def must_be_operator(self) -> None:
        """Refuse everybody but operators.

        Raises:
            OperatorOnly: It is a person of the organization.
        """
        if self.role is not None:
            raise OperatorOnly


OPERATOR: Final = Place(None)


async def place_of(conn: Connection, who: Caller, organization_id: UUID) -> Place:
    """Return what the caller is in an organization.

    A foreign organization looks exactly like a missing one, to keys and to people.

    Raises:
        NotFound: The organization is not the key's, or the person has no active membership in it.
        OperatorOnly: A key of the organization: keys read, people and operators manage.
        ScopeMissing: A service token that is not an operator's.
    """
    if who.acts_as_platform:
        return OPERATOR
    if who.kind == "key":
        if organization_id != who.organization_id:
            raise OrganizationNotFound(f"There is no organization {organization_id}.")
        raise OperatorOnly("An API key cannot do this; a person of the organization can.")
    if who.person_id is None:
        who.must_be_operator()
        return OPERATOR
    user = await store.find_user_by_auth_id(conn, organization_id, who.person_id)
    if user is None:
        raise OrganizationNotFound(f"There is no organization {organization_id}.")
    return Place(user.role, user.id)
