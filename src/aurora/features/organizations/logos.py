"""Logos of organizations: drawn anew, kept by their digest, shown on documents and pages."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from aurora.db.transaction import Connection
from aurora.features.organizations import store
from aurora.features.organizations.model import Logo, LogoNotFound
from aurora.integrations.pictures import Picture, redraw

LOGO_WIDTH: Final = 840
LOGO_HEIGHT: Final = 320
"""Pixels that a logo is drawn into: 356 to the inch in the widest place that a document has."""


async def draw_logo(content: bytes) -> Picture:
    """Return an uploaded logo as what is kept; hold no connection meanwhile.

    Args:
        content: A PNG, JPEG, or SVG file.

    Raises:
        PictureInvalid, PictureTooLarge, DrawingBusy: As `aurora.integrations.pictures.redraw`.
    """
    return await redraw(content, max_width=LOGO_WIDTH, max_height=LOGO_HEIGHT)


async def set_logo(conn: Connection, organization_id: UUID, picture: Picture | None) -> str | None:
    """Give an organization a logo, or none; documents that were made keep the one they show.

    Args:
        conn: An open transaction of the platform.
        organization_id: Whose.
        picture: What `draw_logo` returned; None takes the logo away.

    Returns:
        The SHA-256 by which documents name it.

    Raises:
        OrganizationNotFound: There is none, or it was deleted.
    """
    return await store.set_logo(conn, organization_id, picture)


async def get_logo(conn: Connection, organization_id: UUID) -> Logo:
    """Return the logo that an organization has now.

    Raises:
        LogoNotFound: It has none, or the caller may not see it.
    """
    found = await store.find_logo(conn, organization_id)
    if found is None:
        raise LogoNotFound
    return found
