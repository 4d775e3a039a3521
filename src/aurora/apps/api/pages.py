"""The public pages: the start page at `/`, the interactive API docs at `/docs`, their assets."""

from __future__ import annotations

import gzip
import hashlib
import re
import shlex
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Route

from aurora import __version__

Language = Literal["en", "nb"]
SPOKEN: Mapping[str, Language] = {"en": "en", "nb": "nb", "no": "nb", "nn": "nb"}

HERE = Path(__file__).parent
MAX_LANGUAGES_READ = 16  # entries of an Accept-Language header that are looked at
MAX_PREFIX_CHARS = 15  # what the schema stores of a key for display; more would be a secret
FALLBACK_BASE_URL = "http://127.0.0.1:8000"  # when the Host header is not one we would print
YEAR_SECONDS = 31_536_000
VIEWER_FILES = ("swagger-ui-bundle.js", "swagger-ui.css")
MEDIA_TYPES: Mapping[str, str] = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".ico": "image/vnd.microsoft.icon",
}

# `img-src data:` is for the arrows that the docs viewer keeps in its style sheet. Nothing is
# relaxed for /docs: the viewer sets styles through the DOM, which `style-src 'self'` allows.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SECURITY_HEADERS: Mapping[str, str] = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}

_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,251}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?",
    re.ASCII,
)
_LANGUAGE = re.compile(
    r"([a-z]{1,8})(?:-[a-z0-9]{1,8})*(?:;q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?))?", re.ASCII
)
_COMMAND_PARTS = re.compile(r"(?P<key>\$AURORA_KEY)|(?P<url>https?://[^\s']+)|(?P<fold>\\\n)")


@dataclass(frozen=True, slots=True)
class CurlCommand:
    """One command of the start page; its name is a key of the string table."""

    name: str
    text: str

    @property
    def marked(self) -> Markup:
        """The text as HTML with the key, the address, and the line folds marked for colour."""
        html, end = Markup(), 0
        for part in _COMMAND_PARTS.finditer(self.text):
            html += escape(self.text[end : part.start()])
            html += Markup('<span class="{}">{}</span>').format(part.lastgroup, part.group())
            end = part.end()
        return html + escape(self.text[end:])


@dataclass(frozen=True)
class Asset:
    """One static file, held in memory: there are few and they never change while we run."""

    name: str
    body: bytes

    @property
    def media_type(self) -> str:
        """The content type by the file's ending."""
        return MEDIA_TYPES[Path(self.name).suffix]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the content, shortened to 16 hexadecimal digits."""
        return hashlib.sha256(self.body).hexdigest()[:16]

    @cached_property
    def compressed(self) -> bytes:
        """The content gzipped once, at the first request: the viewer shrinks to under a third."""
        return gzip.compress(self.body, compresslevel=6, mtime=0)


@dataclass(frozen=True)
class Shelf:
    """All assets and the two doors to them."""

    assets: tuple[Asset, ...]

    @cached_property
    def release(self) -> str:
        """One digest over all assets, so that modules may import one another by relative path."""
        listing = "".join(f"{asset.name}:{asset.digest};" for asset in self.assets)
        return hashlib.sha256(listing.encode()).hexdigest()[:12]

    @cached_property
    def by_name(self) -> Mapping[str, Asset]:
        """The assets by their file name."""
        return {asset.name: asset for asset in self.assets}

    async def asset(self, request: Request) -> Response:
        """Serve `/static/{release}/{name}`."""
        asset = self.by_name.get(request.path_params["name"])
        if asset is None:
            raise HTTPException(404, "There is no such file.")
        immutable = request.path_params["release"] == self.release
        return _file_response(request, asset, immutable=immutable)

    async def icon(self, request: Request) -> Response:
        """Serve an icon at the fixed path where browsers look for it."""
        asset = self.by_name[request.url.path.rpartition("/")[2]]
        return _file_response(request, asset, immutable=False)


def curl_commands(base_url: str, at: datetime) -> tuple[CurlCommand, ...]:
    """The three commands to try, ready to paste into a POSIX shell that has `$AURORA_KEY`.

    The id of the usage event is made from its timestamp, so pasting the command twice shows a
    duplicate, and opening the page again makes a new event instead of a conflict.

    Args:
        base_url: Where the server answers, without a trailing slash.
        at: The timestamp of the usage event; aware.
    """
    moment = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    event = (
        f'[{{"id":"hello-{moment}","timestamp":"{moment}",\n'
        '    "endpoint":"/api/aurora/now","status_code":200}]'
    )
    bearer = '-H "authorization: Bearer $AURORA_KEY"'
    json = "-H 'content-type: application/json'"

    def curl(target: str, *options: str) -> str:
        return " \\\n  ".join((f"curl -s {shlex.quote(base_url + target)}", *options))

    return (
        CurlCommand("verify", curl("/v1/keys/verify", json, """-d '{"key":"'$AURORA_KEY'"}'""")),
        CurlCommand("record", curl("/v1/usage/events", bearer, json, f"-d '{event}'")),
        CurlCommand("summary", curl("/v1/usage/summary?group_by=month", bearer)),
    )


def negotiated_language(wanted: str | None, accept_language: str) -> Language:
    """Choose the page's language: `?lang=` first, then Accept-Language (RFC 9110, 12.5.4).

    Norwegian in any spelling (nb, no, nn) is served as Bokmål; everything unknown as English.
    """
    if wanted is not None and wanted in SPOKEN:
        return SPOKEN[wanted]
    best: tuple[float, Language] = (0.0, "en")
    for entry in accept_language.lower().split(",", MAX_LANGUAGES_READ)[:MAX_LANGUAGES_READ]:
        match = _LANGUAGE.fullmatch("".join(entry.split()))
        if match is None or match[1] not in SPOKEN:
            continue
        quality = float(match[2] or 1)
        if quality > best[0]:
            best = (quality, SPOKEN[match[1]])
    return best[1]


def printable_base_url(request: Request) -> str:
    """The address the visitor used, or a fixed one if the Host header is not a plain host.

    It ends up in a command that people paste into a shell, so only letters that mean nothing
    there may pass.
    """
    host = request.headers.get("host", "")
    if _HOST.fullmatch(host) is None or request.url.scheme not in {"http", "https"}:
        return FALLBACK_BASE_URL
    return f"{request.url.scheme}://{host}{_root(request)}"


def page_routes(
    *,
    now: Callable[[], datetime],
    base_url: str | None = None,
    demo_key_prefix: str | None = None,
    guides_url: str | None = None,
    openapi_url: str = "/openapi.json",
    version: str = __version__,
) -> list[BaseRoute]:
    """The routes of the public pages, to be put into an application made with `docs_url=None`.

    Args:
        now: The clock; aware datetimes.
        base_url: The public address to print; the one the visitor used when None.
        demo_key_prefix: The first characters of the demo key, at most `MAX_PREFIX_CHARS`.
        guides_url: Where the guides are served; None points to the `docs` folder instead.
        openapi_url: Path of the OpenAPI document on this server.
        version: Shown in the footer.

    Raises:
        ValueError: If `demo_key_prefix` is so long that it could be a whole key.
    """
    if demo_key_prefix is not None and len(demo_key_prefix) > MAX_PREFIX_CHARS:
        raise ValueError(f"a key prefix on a public page has at most {MAX_PREFIX_CHARS} characters")
    texts = tomllib.loads((HERE / "templates" / "start.toml").read_text(encoding="utf-8"))
    shelf = Shelf(tuple(_packaged_assets()))
    environment = _template_environment()

    def render(template: str, request: Request, **values: object) -> HTMLResponse:
        root = _root(request)
        html = environment.get_template(template).render(
            root=root,
            static=f"{root}/static/{shelf.release}",
            openapi_url=root + openapi_url,
            guides_url=guides_url,
            version=version,
            **values,
        )
        return HTMLResponse(html, headers={**SECURITY_HEADERS, "cache-control": "no-cache"})

    async def start(request: Request) -> Response:
        language = negotiated_language(
            request.query_params.get("lang"), request.headers.get("accept-language", "")
        )
        address = (base_url or printable_base_url(request)).rstrip("/")
        page = render(
            "start.html",
            request,
            language=language,
            text=texts[language],
            address=address,
            commands=curl_commands(address, now()),
            demo_key_prefix=demo_key_prefix,
        )
        page.headers["content-language"] = language
        page.headers["vary"] = "accept-language"
        return page

    async def docs(request: Request) -> Response:
        return render("docs.html", request)

    return [
        Route("/", start),
        Route("/docs", docs),
        Route("/favicon.ico", shelf.icon),
        Route("/favicon.svg", shelf.icon),
        Route("/static/{release}/{name}", shelf.asset),
    ]


def _root(request: Request) -> str:
    """The path under which a proxy or a mount has put the application, without a slash."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def _packaged_assets() -> Iterable[Asset]:
    """Our own files, and the OpenAPI viewer's from the package that carries its release.

    `fastapi-swagger` ships Swagger UI's own bundle byte for byte. Only its files are read: its
    Python code is not imported.
    """
    for path in sorted((HERE / "static").iterdir()):
        if path.suffix in MEDIA_TYPES:
            yield Asset(path.name, path.read_bytes())
    viewer = find_spec("fastapi_swagger")
    if viewer is None or not viewer.submodule_search_locations:
        raise RuntimeError("the package fastapi-swagger, which carries the API docs, is missing")
    for name in VIEWER_FILES:
        path = Path(viewer.submodule_search_locations[0]) / "resources" / name
        yield Asset(name, path.read_bytes())


def _template_environment() -> Environment:
    """Templates that escape everything and fail on a name that was not given."""
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["prose"] = _prose
    return environment


def _prose(text: str) -> Markup:
    """Escape a text of the string table and turn its `backticks` into code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def _file_response(request: Request, asset: Asset, *, immutable: bool) -> Response:
    """Answer with the file, or 304 when the visitor has it already."""
    zipped = "gzip" in request.headers.get("accept-encoding", "")
    etag = f'"{asset.digest}{"-gzip" if zipped else ""}"'
    headers = {
        **SECURITY_HEADERS,
        "etag": etag,
        "vary": "accept-encoding",
        # A page of an older release may still ask for its files: it gets ours, but keeps nothing.
        "cache-control": f"public, max-age={YEAR_SECONDS}, immutable" if immutable else "no-cache",
    }
    known = {tag.strip().removeprefix("W/") for tag in _split_etags(request)}
    if etag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    if zipped:
        headers["content-encoding"] = "gzip"
    body = asset.compressed if zipped else asset.body
    return Response(body, media_type=asset.media_type, headers=headers)


def _split_etags(request: Request) -> list[str]:
    """The validators of If-None-Match; the server bounds the header's length."""
    return request.headers.get("if-none-match", "").split(",")
