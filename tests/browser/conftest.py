"""A server with the public pages and a stub API, and a Chromium that notes every complaint."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Protocol

import httpx
import pytest
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from playwright.async_api import Browser, Page, Route, async_playwright

from aurora.apps.api.pages import page_routes

NOON = datetime(2026, 3, 14, 12, 0, 5, tzinfo=UTC)
DEMO_PREFIX = "tro_test_aurora"
START_SECONDS = 10
Key = HTTPBearer(description="An API key, or the service token.")
Caller = Annotated[HTTPAuthorizationCredentials, Depends(Key)]
BROWSER_ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
NOTE_VIOLATIONS = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (violation) => {
  window.violations.push(`${violation.effectiveDirective} ${violation.blockedURI}`);
});
"""


@dataclass
class Site:
    """The running server: where it is, whether it says it is ready, and what it was sent."""

    address: str
    ready: bool = True
    received: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Visit:
    """One open page with everything the browser complained about."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    foreign_requests: list[str] = field(default_factory=list)

    async def violations(self) -> list[str]:
        """What the content security policy blocked on this page."""
        found: list[str] = await self.page.evaluate("window.violations")
        return found


class Opener(Protocol):
    """Opens a path of the site in a fresh browser context."""

    def __call__(self, path: str, **context: Any) -> AbstractAsyncContextManager[Visit]: ...


def stub_application(site: Site) -> FastAPI:
    """The pages under test, and an API that only notes what it is sent."""
    application = FastAPI(title="Aurora", docs_url=None, redoc_url=None)
    application.router.routes.extend(
        page_routes(now=lambda: NOON, demo_key_prefix=DEMO_PREFIX),
    )

    def note(request: Request, body: object = None) -> dict[str, Any]:
        sent = {
            "path": request.url.path,
            "query": request.url.query,
            "authorization": request.headers.get("authorization"),
            "body": body,
        }
        site.received.append(sent)
        return sent

    @application.post("/v1/keys/verify", tags=["keys"], summary="Verify a key")
    async def verify(request: Request, body: dict[str, str]) -> dict[str, Any]:
        return note(request, body)

    @application.post("/v1/usage/events", tags=["usage"], summary="Record usage events")
    async def record(request: Request, _: Caller, events: list[dict[str, Any]]) -> dict[str, Any]:
        return note(request, events)

    @application.get("/v1/usage/summary", tags=["usage"], summary="Summarise usage")
    async def summarise(request: Request, _: Caller, group_by: str = "month") -> dict[str, Any]:
        return note(request)

    @application.get("/healthz", tags=["health"], summary="Is the process alive?")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @application.get("/readyz", tags=["health"], summary="Can it serve?")
    async def readyz(response: Response) -> dict[str, str]:
        response.status_code = 200 if site.ready else 503
        return {"status": "ready" if site.ready else "starting"}

    return application


@pytest.fixture(scope="session")
def running_site() -> Iterator[Site]:
    """The server in a thread of its own, on a free loopback port."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    site = Site(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(stub_application(site), ws="none", log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
    thread.start()
    transport = httpx.HTTPTransport(retries=START_SECONDS)
    with httpx.Client(transport=transport, timeout=START_SECONDS) as client:
        client.get(f"{site.address}/healthz").raise_for_status()
    yield site
    server.should_exit = True
    thread.join(START_SECONDS)
    listener.close()
    assert not thread.is_alive()


@pytest.fixture
def site(running_site: Site) -> Site:
    """The running server as every test expects to find it."""
    running_site.ready = True
    running_site.received.clear()
    return running_site


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    """Debian's Chromium; without it an ordinary user's run skips and root's run fails."""
    executable = shutil.which("chromium")
    if executable is None:
        (pytest.fail if os.geteuid() == 0 else pytest.skip)("apt-get install chromium")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=executable, args=BROWSER_ARGUMENTS
        )
        yield browser
        await browser.close()
        # Let the driver's pipes close before the loop does.
        await asyncio.sleep(0)


@pytest.fixture
def opened(site: Site, chromium: Browser) -> Opener:
    """Open a page and note console errors, exceptions, policy violations, and foreign requests."""

    @asynccontextmanager
    async def opener(path: str, **context: Any) -> AsyncIterator[Visit]:
        browsing = await chromium.new_context(**{"locale": "en-GB", **context})
        page = await browsing.new_page()
        visit = Visit(page)

        async def stay_home(route: Route) -> None:
            if route.request.url.startswith((f"{site.address}/", "data:")):
                await route.continue_()
            else:
                visit.foreign_requests.append(route.request.url)
                await route.abort()

        await browsing.route("**/*", stay_home)
        await page.add_init_script(NOTE_VIOLATIONS)
        page.on(
            "console",
            lambda message: (
                visit.complaints.append(message.text)
                if message.type in {"error", "warning"}
                else None
            ),
        )
        page.on("pageerror", lambda error: visit.complaints.append(str(error)))
        try:
            await page.goto(f"{site.address}{path}", wait_until="networkidle")
            await page.locator("h1:visible").first.wait_for()
            yield visit
        finally:
            await browsing.close()

    return opener
