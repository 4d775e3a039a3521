"""HTTP door of the sign-in room."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from aurora.db.pool import Pool
from aurora.db.transaction import PLATFORM, transaction
from aurora.features.sign_in import jobs, service
from aurora.features.sign_in.browser import (
    Site,
    clear_cookies,
    csrf_token,
    place_of,
    set_cookies,
    user_agent_family,
)
from aurora.features.sign_in.model import (
    MAX_EMAIL_CHARACTERS,
    MAX_TOKEN_CHARACTERS,
    LinkPurpose,
    Method,
    SessionUse,
    SignedIn,
)
from aurora.features.sign_in.passwords import MAX_BYTES
from aurora.integrations.http import NO_STORE, Caller, caller_of, pool_of

router = APIRouter(prefix="/v1", tags=["sign-in"])

MAX_EMAIL_SENT = MAX_EMAIL_CHARACTERS * 2
Email = Annotated[str, Field(min_length=1, max_length=MAX_EMAIL_SENT)]
Password = Annotated[str, Field(min_length=1, max_length=MAX_BYTES)]
Token = Annotated[str, Field(min_length=1, max_length=MAX_TOKEN_CHARACTERS)]


class PasswordSignIn(BaseModel):
    """Who one is, and the proof."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"email": "kari@hotel.example", "password": "four words make one"}]
        },
    )
    email: Email
    password: Password


class LinkAsked(BaseModel):
    """Where to send a one-time link, and what it is to open."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"email": "kari@hotel.example"}]}
    )
    email: Email
    purpose: LinkPurpose = "sign_in"


class LinkSent(BaseModel):
    """The same answer whether the address is known or not."""

    detail: str = "If the address is known here, a link is on its way to it."


class LinkOpened(BaseModel):
    """The token of a link: what stands behind `#token=`."""

    model_config = ConfigDict(extra="forbid")
    token: Token


class PasswordReset(BaseModel):
    """The token of a link for a new password, and the password."""

    model_config = ConfigDict(extra="forbid")
    token: Token
    new_password: Password


class PasswordChange(BaseModel):
    """The present password, where there is one, and the new one."""

    model_config = ConfigDict(extra="forbid")
    current_password: Password | None = None
    new_password: Password


class SessionOut(BaseModel):
    """A signed-in browser."""

    model_config = ConfigDict(from_attributes=True)
    id: UUID
    created_at: datetime
    method: Method
    user_agent_family: str
    last_seen_at: datetime
    expires_at: datetime


class ListedSession(SessionOut):
    """One of a person's sessions."""

    is_current: bool


class SessionList(BaseModel):
    """A person's living sessions, newest first."""

    items: list[ListedSession]


class SignedInOut(BaseModel):
    """A session just begun; the cookie came with it, and unsafe calls need the CSRF token."""

    session: SessionOut
    csrf_token: str


class MembershipOut(BaseModel):
    """An organization that one belongs to, and as what."""

    model_config = ConfigDict(from_attributes=True)
    organization_id: UUID
    name: str
    slug: str
    status: str
    role: str


class Me(BaseModel):
    """Who the credentials of this request belong to, and what they open."""

    kind: str
    name: str
    is_operator: bool
    scopes: list[str]
    organization_id: UUID | None = None
    auth_id: UUID | None = None
    email: str | None = None
    organizations: list[MembershipOut] = []
    csrf_token: str | None = None


def site_of(request: Request) -> Site:
    """Return where people reach this platform (a FastAPI dependency)."""
    site: Site = request.app.state.site
    return site


Who = Annotated[Caller, Depends(caller_of)]
Database = Annotated[Pool, Depends(pool_of)]
Where = Annotated[Site, Depends(site_of)]


def visitor_of(request: Request, site: Where) -> service.Visitor:
    """Return where an attempt comes from, having refused pages of other sites (a dependency)."""
    site.check_origin(request.headers.get("origin"))
    return service.Visitor(
        place=place_of(None if request.client is None else request.client.host),
        user_agent_family=user_agent_family(request.headers.get("user-agent")),
    )


Visitor = Annotated[service.Visitor, Depends(visitor_of)]


@router.post("/sign-in/password")
async def sign_in_with_password(
    body: PasswordSignIn, request: Request, response: Response, visitor: Visitor, pool: Database
) -> SignedInOut:
    """Sign in with a password; the session is a cookie."""
    made = await service.sign_in_with_password(
        pool, email=body.email, password=body.password, visitor=visitor
    )
    return await _welcome(made, request, response, pool)


@router.post("/sign-in/links", status_code=202)
async def ask_for_link(
    body: LinkAsked, response: Response, visitor: Visitor, site: Where, pool: Database
) -> LinkSent:
    """Ask for a one-time link by e-mail; the answer is the same for every address."""
    async with transaction(pool, PLATFORM) as conn:
        address = await service.admit_link_request(conn, email=body.email, visitor=visitor)
        await jobs.enqueue_link(conn, jobs.LinkRequest(address, body.purpose, site.url))
    response.headers.update(NO_STORE)
    return LinkSent()


@router.post("/sign-in/links/open")
async def open_link(
    body: LinkOpened, request: Request, response: Response, visitor: Visitor, pool: Database
) -> SignedInOut:
    """Sign in with a one-time link."""
    made = await service.sign_in_with_link(pool, token=body.token, visitor=visitor)
    return await _welcome(made, request, response, pool)


@router.post("/sign-in/password-reset")
async def reset_password(
    body: PasswordReset, request: Request, response: Response, visitor: Visitor, pool: Database
) -> SignedInOut:
    """Set a new password with a one-time link, sign in, and end all earlier sessions."""
    made = await service.reset_password(
        pool, token=body.token, new_password=body.new_password, visitor=visitor
    )
    return await _welcome(made, request, response, pool)


@router.post("/sign-out", status_code=204)
async def sign_out(who: Who, site: Where, pool: Database) -> Response:
    """End this session."""
    session = _session(who)
    async with transaction(pool, PLATFORM) as conn:
        await service.end_session(conn, session.auth_id, session.id)
    return _goodbye(site)


@router.post("/sign-out/everywhere", status_code=204)
async def sign_out_everywhere(who: Who, site: Where, pool: Database) -> Response:
    """End every session of this person."""
    session = _session(who)
    async with transaction(pool, PLATFORM) as conn:
        await service.end_all_sessions(conn, session.auth_id)
    return _goodbye(site)


@router.get("/sessions")
async def list_sessions(who: Who, pool: Database) -> SessionList:
    """List the person's living sessions, newest first."""
    session = _session(who)
    async with transaction(pool, PLATFORM, read_only=True) as conn:
        found = await service.list_sessions(conn, session.auth_id)
    return SessionList(
        items=[
            ListedSession(
                **SessionOut.model_validate(each).model_dump(), is_current=each.id == session.id
            )
            for each in found
        ]
    )


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, who: Who, pool: Database) -> Response:
    """End one of the person's sessions."""
    session = _session(who)
    async with transaction(pool, PLATFORM) as conn:
        await service.end_session(conn, session.auth_id, session_id)
    return Response(status_code=204, headers=NO_STORE)


@router.put("/me/password", status_code=204)
async def change_password(body: PasswordChange, who: Who, pool: Database) -> Response:
    """Set another password; the person's other sessions end."""
    await service.change_password(
        pool,
        who=_session(who),
        current_password=body.current_password,
        new_password=body.new_password,
    )
    return Response(status_code=204, headers=NO_STORE)


@router.get("/me")
async def get_me(request: Request, who: Who, site: Where, pool: Database) -> Me:
    """Say whose credentials these are, and what they open."""
    organizations = []
    if who.person_id is not None:
        organizations = [
            MembershipOut.model_validate(each)
            for each in await service.list_memberships(pool, who.person_id)
        ]
    cookie = request.cookies.get(site.session_cookie) if who.session_id is not None else None
    return Me(
        kind=who.kind,
        name=who.name,
        is_operator=who.acts_as_platform,
        scopes=sorted(who.scopes),
        organization_id=who.organization_id,
        auth_id=who.person_id,
        email=who.email,
        organizations=organizations,
        csrf_token=None if cookie is None else csrf_token(cookie),
    )


def _session(who: Caller) -> SessionUse:
    """Return the session a request came with.

    Raises:
        SessionNeeded: It came with something else.
    """
    auth_id, session_id = who.must_have_session()
    return SessionUse(
        id=session_id, auth_id=auth_id, email=who.email or "", is_operator=who.is_operator
    )


async def _welcome(made: SignedIn, request: Request, response: Response, pool: Pool) -> SignedInOut:
    """Give the new cookie; the session that the browser had until now ends."""
    site = site_of(request)
    before = request.cookies.get(site.session_cookie)
    if before:
        async with transaction(pool, PLATFORM) as conn:
            old = await service.find_session(conn, before)
            if old is not None:
                await service.end_session(conn, old.auth_id, old.id)
    set_cookies(response, site, made.token)
    response.headers.update(NO_STORE)
    return SignedInOut(
        session=SessionOut.model_validate(made.session), csrf_token=csrf_token(made.token)
    )


def _goodbye(site: Site) -> Response:
    response = Response(status_code=204, headers={**NO_STORE, "clear-site-data": '"cache"'})
    clear_cookies(response, site)
    return response
