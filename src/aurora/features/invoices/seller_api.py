"""HTTP door to the seller's logo."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.invoices import service
from aurora.features.organizations.model import LogoOut, NewLogo
from aurora.features.organizations.service import draw_logo
from aurora.integrations.http import Caller, caller_of, picture_response, pool_of

router = APIRouter(tags=["invoices"])
LOGO = "/v1/seller/logo"

Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]


@router.put(LOGO)
async def set_seller_logo(body: NewLogo, who: Who, pool: Database) -> LogoOut:
    """Set the logo that the next documents show of the seller (operators)."""
    who.must_be_operator()
    picture = await draw_logo(body.content)
    async with transaction(pool, PLATFORM) as conn:
        await service.set_seller_logo(conn, picture)
        return LogoOut.model_validate(await service.get_seller_logo(conn))


@router.get(
    LOGO,
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The logo, as it is printed"}},
)
async def get_seller_logo(who: Who, pool: Database) -> Response:
    """Return the seller's logo as PNG (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        return picture_response((await service.get_seller_logo(conn)).content)


@router.delete(LOGO, status_code=204)
async def remove_seller_logo(who: Who, pool: Database) -> None:
    """Take the seller's logo away; documents that were made keep the one they show (operators)."""
    who.must_be_operator()
    async with transaction(pool, PLATFORM) as conn:
        await service.set_seller_logo(conn, None)
