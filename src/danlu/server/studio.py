"""The studio: the web page of the server, static files of our own and nothing from elsewhere.

The files are read once, when the server is made: what is served is a closed list, and no request names a path on disk. The page
holds no secret, so it needs no key; it asks for the key and sends it with each call, as any client does.
"""

import hashlib
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable

from fastapi import APIRouter, Request, Response

HOME, ASSETS = "/", "/studio/"

POLICY = "; ".join((
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self'",
    "connect-src 'self'",
    "img-src 'self' data:",
    "font-src 'self'",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
    "require-trusted-types-for 'script'",  # the browser itself refuses any string as markup, should we ever write such a line
    "trusted-types 'none'",
))  # fmt: skip
"""Content-Security-Policy: no script or style but our files, nothing from other hosts, no frame around the page."""

HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Cache-Control": "no-cache",  # ask each time; the tag answers with 304 while nothing changed
}

TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""Endings that are served, and what they are."""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Asset:
    """A file of the page."""

    content: bytes
    media_type: str
    tag: str


def read_assets() -> dict[str, Asset]:
    """Every file of the page, by its name below `studio/`."""
    found: dict[str, Asset] = {}
    folders: list[tuple[str, Traversable]] = [("", resources.files("danlu.server") / "studio")]
    while folders:
        prefix, folder = folders.pop()
        for entry in folder.iterdir():
            ending = entry.name[entry.name.rfind(".") :]
            if entry.is_dir():
                folders.append((f"{prefix}{entry.name}/", entry))
            elif ending in TYPES:
                content = entry.read_bytes()
                tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
                found[prefix + entry.name] = Asset(content, TYPES[ending], tag)
    return found


_assets = read_assets()


def is_public(path: str) -> bool:
    """Whether a path belongs to the page, which needs no key."""
    return path == HOME or path.startswith(ASSETS)


@router.api_route(HOME, methods=["GET", "HEAD"])
def home(request: Request) -> Response:
    """The page."""
    return _answer(request, "index.html")


@router.api_route(ASSETS + "{name:path}", methods=["GET", "HEAD"])
def asset(request: Request, name: str) -> Response:
    """A file of the page."""
    return _answer(request, name)


def _answer(request: Request, name: str) -> Response:
    found = _assets.get(name)
    if found is None:
        return Response("no such file\n", 404, headers=HEADERS, media_type="text/plain")
    headers = {**HEADERS, "ETag": found.tag}
    if request.headers.get("if-none-match") == found.tag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, headers=headers, media_type=found.media_type)
