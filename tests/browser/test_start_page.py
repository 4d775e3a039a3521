"""The public pages in a real browser: what a visitor sees, can reach, and is protected from."""

from __future__ import annotations

import base64
import json
import subprocess
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.async_playwright import Axe  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from playwright.async_api import expect
from starlette.requests import Request
from tests.browser.conftest import DEMO_PREFIX, NOON, Opener, Site

from aurora.apps.api import pages
from aurora.apps.api.pages import (
    FALLBACK_BASE_URL,
    curl_commands,
    negotiated_language,
    page_routes,
    printable_base_url,
)

PAGES = ("/", "/?lang=nb", "/docs")
SCHEMES = ("light", "dark")
PHONE = {"width": 360, "height": 740}
KEY = "tro_test_0123456789abcdefghijABCDEF012345"
MAX_TAB_STOPS = 60

# The worst contrast (WCAG 2.2, 1.4.3) of a colour with any pixel of a picture.
WORST_CONTRAST = """
async ([picture, colour]) => {
  const image = new Image();
  image.src = `data:image/png;base64,${picture}`;
  await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const { data } = canvas.getImageData(0, 0, image.width, image.height);
  const linear = (byte) =>
    byte <= 10 ? byte / 255 / 12.92 : ((byte / 255 + 0.055) / 1.055) ** 2.4;
  const luminance = (r, g, b) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const text = luminance(...colour);
  let worst = 21;
  for (let at = 0; at < data.length; at += 4) {
    const ground = luminance(data[at], data[at + 1], data[at + 2]);
    const [low, high] = text < ground ? [text, ground] : [ground, text];
    worst = Math.min(worst, (high + 0.05) / (low + 0.05));
  }
  return worst;
}
"""


def luminance_of(colour: str) -> float:
    """A rough lightness, 0 to 1, of a computed `rgb(…)` colour."""
    red, green, blue = (int(part) for part in colour[4:-1].split(","))
    return (0.3 * red + 0.6 * green + 0.1 * blue) / 255


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES)
async def test_a_page_loads_without_complaint_and_asks_nobody_else(
    opened: Opener, path: str, scheme: str
) -> None:
    async with opened(path, color_scheme=scheme) as visit:
        assert visit.complaints == []
        assert await visit.violations() == []
        assert visit.foreign_requests == []


async def test_the_policy_blocks_what_a_smuggled_script_would_do(opened: Opener) -> None:
    async with opened("/") as visit:
        await visit.page.evaluate(
            """() => {
              const script = document.createElement("script");
              script.textContent = "document.title = 'owned'";
              document.body.append(script);
              document.body.setAttribute("style", "display: none");
              return fetch("https://elsewhere.example/").catch(() => null);
            }"""
        )
        assert await visit.page.title() != "owned"
        blocked = {violation.split()[0] for violation in await visit.violations()}
        assert blocked >= {"script-src-elem", "connect-src"}


@pytest.mark.parametrize("path", PAGES)
async def test_nothing_scrolls_sideways_on_a_phone(opened: Opener, path: str) -> None:
    async with opened(path, viewport=PHONE) as visit:
        width = await visit.page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"]


@pytest.mark.parametrize("path", PAGES)
async def test_the_pages_are_dark_at_night_and_light_by_day(opened: Opener, path: str) -> None:
    for scheme in SCHEMES:
        async with opened(path, color_scheme=scheme) as visit:
            ground, text = await visit.page.evaluate(
                """[getComputedStyle(document.body).backgroundColor,
                    getComputedStyle(document.querySelector("h1")).color]"""
            )
        if scheme == "dark":
            ground, text = text, ground
        assert luminance_of(text) < 0.2
        assert luminance_of(ground) > 0.8


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [360, 1280])
async def test_the_words_stay_readable_on_the_sky(opened: Opener, scheme: str, width: int) -> None:
    view = {"width": width, "height": 800}
    async with opened(
        "/?lang=nb", color_scheme=scheme, viewport=view, reduced_motion="reduce"
    ) as visit:
        # A star is finer than the stroke of a letter and cannot hide one.
        await visit.page.evaluate("document.querySelector('.stars').remove()")
        for words in (visit.page.locator("h1"), visit.page.locator(".lead")):
            colour = await words.evaluate(
                "(element) => getComputedStyle(element).color.match(/[0-9]+/g).map(Number)"
            )
            await words.evaluate("(element) => { element.style.color = 'transparent'; }")
            picture = base64.b64encode(await words.screenshot()).decode()
            assert await visit.page.evaluate(WORST_CONTRAST, [picture, colour]) >= 4.5


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("path", PAGES)
async def test_axe_finds_nothing(opened: Opener, path: str, scheme: str) -> None:
    async with opened(path, color_scheme=scheme, reduced_motion="reduce") as visit:
        for operation in await visit.page.locator(".opblock-summary-control").all():
            await operation.click()
        if path == "/docs":
            await expect(visit.page.locator("textarea").first).to_be_visible()
        report = await Axe().run(visit.page)
        assert report.response["passes"]
        assert report.violations_count == 0, report.generate_report()


@pytest.mark.parametrize("path", PAGES)
async def test_the_keyboard_reaches_everything_and_shows_where_it_is(
    opened: Opener, path: str
) -> None:
    async with opened(path) as visit:
        stops: list[dict[str, Any]] = []
        for _ in range(MAX_TAB_STOPS):
            await visit.page.keyboard.press("Tab")
            stop = await visit.page.evaluate(
                """() => {
                  const at = document.activeElement;
                  if (at === document.body) return null;
                  const { outlineStyle, outlineWidth } = getComputedStyle(at);
                  return { name: at.ariaLabel || at.textContent.trim() || at.placeholder,
                           outline: outlineStyle === "none" ? 0 : parseFloat(outlineWidth) };
                }"""
            )
            if stop is None:
                break
            stops.append(stop)
        else:
            pytest.fail("the focus never leaves the page")
        assert stops[0]["name"] in {"Skip to the content", "Gå til innholdet"}
        assert [stop for stop in stops if stop["outline"] < 2] == []
        controls = await visit.page.locator("a[href]:visible, button:visible").count()
        assert len(stops) >= controls


async def test_the_skip_link_moves_the_focus_to_the_content(opened: Opener) -> None:
    async with opened("/") as visit:
        await visit.page.keyboard.press("Tab")
        await visit.page.keyboard.press("Enter")
        assert await visit.page.evaluate("document.activeElement.id") == "content"


async def test_a_copy_button_copies_exactly_its_command_and_says_so(
    opened: Opener, site: Site
) -> None:
    permissions = ["clipboard-read", "clipboard-write"]
    async with opened("/", permissions=permissions) as visit:
        for command in curl_commands(site.address, NOON):
            button = visit.page.locator(f"[data-copies={command.name}]")
            await button.click()
            await expect(button).to_have_text("Copied")
            assert await visit.page.evaluate("navigator.clipboard.readText()") == command.text
            await expect(visit.page.locator("#copy-news")).to_have_text("Copied")


async def test_without_a_clipboard_the_button_selects_the_command(
    opened: Opener, site: Site
) -> None:
    async with opened("/") as visit:
        await visit.page.evaluate(
            "() => { navigator.clipboard.writeText = () => Promise.reject(); }"
        )
        await visit.page.locator("[data-copies=verify]").click()
        await expect(visit.page.locator("#copy-news")).to_have_text("Selected: press Ctrl+C")
        selected = await visit.page.evaluate("getSelection().toString()")
        assert selected.strip() == curl_commands(site.address, NOON)[0].text


def test_the_commands_work_when_pasted_into_a_shell(site: Site) -> None:
    for command in curl_commands(site.address, NOON):
        answer = subprocess.run(
            ["sh", "-c", command.text],
            env={"AURORA_KEY": KEY, "PATH": "/usr/bin:/bin"},
            capture_output=True,
            check=True,
            timeout=10,
        )
        assert json.loads(answer.stdout)["path"].startswith("/v1/")
    verified, recorded, summarised = site.received
    assert verified["body"] == {"key": KEY}
    assert recorded["authorization"] == summarised["authorization"] == f"Bearer {KEY}"
    (event,) = recorded["body"]
    assert datetime.fromisoformat(event["timestamp"]) == NOON
    assert event["id"] == "hello-2026-03-14T12:00:05Z"
    assert event["endpoint"] == "/api/aurora/now"
    assert summarised["query"] == "group_by=month"


async def test_the_status_follows_the_server(opened: Opener, site: Site) -> None:
    async with opened("/") as visit:
        await expect(visit.page.locator(".state")).to_have_text("Ready")
    site.ready = False
    async with opened("/?lang=nb") as visit:
        await expect(visit.page.locator(".state")).to_have_text("Kjører, men er ikke klar ennå")


async def test_everything_can_be_read_without_javascript(opened: Opener, site: Site) -> None:
    async with opened("/", java_script_enabled=False) as visit:
        for command in curl_commands(site.address, NOON):
            assert await visit.page.locator(f"#{command.name}").inner_text() == command.text
        await expect(visit.page.locator(".status a")).to_have_attribute("href", "/readyz")
        await expect(visit.page.locator("[data-copies]:visible")).to_have_count(0)
    async with opened("/docs", java_script_enabled=False) as visit:
        await expect(visit.page.locator("noscript a")).to_have_attribute("href", "/openapi.json")


async def test_nothing_moves_for_people_who_asked_for_stillness(opened: Opener) -> None:
    async with opened("/", reduced_motion="reduce") as visit:
        assert await visit.page.evaluate("document.getAnimations().length") == 0


async def test_the_docs_try_a_call_out_with_a_bearer_key(opened: Opener, site: Site) -> None:
    async with opened("/docs") as visit:
        await visit.page.get_by_role("button", name="Authorize").click()
        await visit.page.locator("#auth-bearer-value").fill(KEY)
        await visit.page.get_by_role("button", name="Apply credentials").click()
        await visit.page.locator(".btn-done").click()
        operation = visit.page.locator(".opblock", has_text="Record usage events")
        await operation.locator(".opblock-summary-control").click()
        await operation.locator("textarea").fill('[{"id": "from-the-docs"}]')
        await operation.get_by_role("button", name="Execute").click()
        await expect(operation.locator(".live-responses-table .response")).to_contain_text("200")
        (sent,) = site.received
        assert sent["authorization"] == f"Bearer {KEY}"
        assert sent["body"] == [{"id": "from-the-docs"}]
        assert visit.complaints == []
        assert await visit.violations() == []
        assert visit.foreign_requests == []
        kept = await visit.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])")
        assert KEY not in kept


@pytest.mark.parametrize("path", [*PAGES, "/favicon.ico", "/favicon.svg"])
def test_every_answer_carries_the_security_headers(site: Site, path: str) -> None:
    headers = httpx.get(f"{site.address}{path}").headers
    policy = headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert {"base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"} <= set(policy)
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cross-origin-opener-policy"] == "same-origin"


def test_assets_are_kept_for_a_year_by_release_and_checked_otherwise(site: Site) -> None:
    page = httpx.get(f"{site.address}/docs").text
    path = page.partition('<link rel="stylesheet" href="')[2].partition('"')[0]
    assert path.endswith("/swagger-ui.css")
    fresh = httpx.get(f"{site.address}{path}")
    assert "immutable" in fresh.headers["cache-control"]
    assert fresh.headers["content-encoding"] == "gzip"
    old = httpx.get(f"{site.address}/static/0123456789ab/swagger-ui.css")
    assert old.headers["cache-control"] == "no-cache"
    known = {"if-none-match": f'"other", W/{fresh.headers["etag"]}'}
    again = httpx.get(f"{site.address}{path}", headers=known)
    assert (again.status_code, again.content) == (304, b"")
    plain = httpx.get(f"{site.address}{path}", headers={"accept-encoding": "identity"})
    assert plain.text == fresh.text
    assert plain.headers["etag"] != fresh.headers["etag"]
    assert httpx.get(f"{site.address}/static/0123456789ab/..%2fpages.py").status_code == 404


def test_the_page_shows_the_beginning_of_the_demo_key_and_refuses_a_whole_one(site: Site) -> None:
    assert DEMO_PREFIX in httpx.get(f"{site.address}/").text
    with pytest.raises(ValueError, match="at most 15"):
        page_routes(now=lambda: NOON, demo_key_prefix=KEY)


def test_both_languages_say_the_same_things() -> None:
    source = Path(pages.__file__).parent / "templates" / "start.toml"
    texts = tomllib.loads(source.read_text(encoding="utf-8"))
    assert texts["en"].keys() == texts["nb"].keys()
    assert all(texts["en"].values())
    assert all(texts["nb"].values())


@pytest.mark.parametrize(
    ("wanted", "accepted", "language"),
    [
        (None, "", "en"),
        (None, "nb-NO,nb;q=0.9,en;q=0.8", "nb"),
        (None, "en-GB, nn;q=0.9", "en"),
        (None, "de, no;q=0.5, en;q=0.4", "nb"),
        (None, "nb;q=0, en;q=0.1", "en"),
        (None, "nb;q=0", "en"),
        ("en", "nb", "en"),
        ("nb", "en", "nb"),
        ("xx", "nb", "nb"),
    ],
)
def test_the_language_is_what_was_asked_for(
    wanted: str | None, accepted: str, language: str
) -> None:
    assert negotiated_language(wanted, accepted) == language


@given(st.text(), st.text())
def test_any_language_header_gets_a_language(wanted: str, accepted: str) -> None:
    assert negotiated_language(wanted, accepted) in {"en", "nb"}


def request_to(host: str) -> Request:
    """A request whose Host header is as given."""
    headers = [(b"host", host.encode("latin-1"))]
    scope = {"type": "http", "scheme": "http", "path": "/", "query_string": b"", "root_path": ""}
    return Request({**scope, "headers": headers, "server": ("127.0.0.1", 8000)})


@pytest.mark.parametrize("host", ["localhost:8000", "api.example.no", "[::1]:8000", "10.0.0.5"])
def test_a_plain_host_is_printed(host: str) -> None:
    assert printable_base_url(request_to(host)) == f"http://{host}"


@pytest.mark.parametrize(
    "host", ["a;id", "$(id)", "a b", "a'b", "a\n", "user@host", "", "a/b", "x`"]
)
def test_a_host_that_means_something_to_a_shell_is_not_printed(host: str) -> None:
    assert printable_base_url(request_to(host)) == FALLBACK_BASE_URL


@given(st.text(st.characters(max_codepoint=255), max_size=40))
def test_no_host_header_escapes_into_the_shell(host: str) -> None:
    address = printable_base_url(request_to(host))
    assert not set(address) & set(" \t\r\n'\"`$;&|<>(){}*?!#~\\^")


@given(st.datetimes(timezones=st.just(UTC)))
def test_the_event_id_is_made_from_its_timestamp(at: datetime) -> None:
    text = curl_commands("http://x", at)[1].text
    (event,) = json.loads(text.partition("-d '")[2].removesuffix("'"))
    assert event["id"] == f"hello-{event['timestamp']}"
