"""Who may ask: keys compared in constant time, hosts and origins that are ours, and nothing open but /health and the page.

A key is kept as a hash. The hash also names the owner: shares of the machine and blocks of the cache are kept apart by it.
"""

import hashlib
import hmac
import ipaddress
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from danlu.core.errors import BadSettings
from danlu.server.errors import ApiError

VARIABLE = "DANLU_API_KEY"
OPEN = ("/health",)
_KEY = re.compile(r"[\x21-\x7e]{8,512}")
_FEWEST = 8


class Keys:
    """The keys that are let in."""

    def __init__(self, keys: Iterable[str] = ()):
        listed = [key.strip() for key in keys if key.strip()]
        if [key for key in listed if not _KEY.fullmatch(key)]:
            raise BadSettings(
                f"an API key has {_FEWEST} to 512 printable ASCII characters without blanks; one that was given has not."
            )
        self._digests = [hashlib.sha256(key.encode()).digest() for key in listed]

    @classmethod
    def read(cls, api_key: str | None = None, file: Path | None = None) -> "Keys":
        """From --api_key, --api_key_file (one a line, # begins a comment) and the environment's DANLU_API_KEY, all together."""
        keys = [api_key or "", os.environ.get(VARIABLE, "")]
        if file is not None:
            try:
                lines = file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError):
                raise BadSettings(f"--api_key_file {file} cannot be read. Give a text file with one key a line.") from None
            listed = [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]
            if not listed:
                raise BadSettings(f"--api_key_file {file} holds no key. Write one a line, or leave the setting out.")
            keys += listed
        return cls(keys)

    def __bool__(self) -> bool:
        return bool(self._digests)

    def owner(self, key: str) -> str | None:
        """Who this key belongs to; None for an unknown one. Every known key is compared, in the same time for all."""
        asked = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
        found = None
        for digest in self._digests:
            if hmac.compare_digest(asked, digest):
                found = digest.hex()[:16]
        return found


def check_bind(host: str, keys: Keys, insecure: bool) -> None:
    """Raise BadSettings for a server that anybody in the network could use."""
    if not is_loopback(host) and not keys and not insecure:
        raise BadSettings(
            f"--host {host} lets other machines in, and no key is set. Set {VARIABLE}, --api_key_file or --api_key; leave --host "
            f"out to serve this machine only; or say --insecure if everybody who reaches this address may use the server."
        )


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Gate:
    """ASGI layer: host, origin, CORS, key; what passes carries its owner in the scope's state."""

    def __init__(self, app: Any, keys: Keys, *, hosts: Sequence[str] | None, origins: Sequence[str] = (),
                 public: Callable[[str], bool] = lambda path: False):  # fmt: skip
        """hosts: names under which the server may be asked, None for any; origins: pages of others that may ask from browsers;
        public: paths of the page's files, which hold no secret."""
        self.app, self.keys, self.public = app, keys, public
        self.hosts = None if hosts is None else {host.lower() for host in hosts}
        self.origins = {origin.rstrip("/").lower() for origin in origins}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            raise ApiError(403, "Only HTTP is spoken here.")
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        self._check_host(headers)
        origin = headers.get("origin", "").rstrip("/").lower()
        allowed = bool(origin) and (origin in self.origins or "*" in self.origins)
        if allowed:
            send = _with_cors(send, origin)
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                return await _preflight(send)
        if origin and not allowed and scope["method"] not in ("GET", "HEAD") and not self._same(origin, headers):
            raise ApiError(
                403, "This page may not ask this server. Start it with --cors ORIGIN to let it in.", code="origin_refused"
            )
        scope.setdefault("state", {})["owner"] = self._owner(scope, headers)
        await self.app(scope, receive, send)

    def _check_host(self, headers: dict[str, str]) -> None:
        """A name that an attacker's DNS points to this machine is not one of ours."""
        if self.hosts is None:
            return
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        except ValueError:
            name = ""
        if name.lower() not in self.hosts:
            raise ApiError(403, "This server is not known under that name (header Host). Ask for localhost, or start it "
                                "with --allow_host NAME.", code="host_refused")  # fmt: skip

    def _same(self, origin: str, headers: dict[str, str]) -> bool:
        host = headers.get("host", "").lower()
        return bool(host) and origin in (f"http://{host}", f"https://{host}")

    def _owner(self, scope: Any, headers: dict[str, str]) -> str:
        path = scope["path"]
        if not self.keys or path in OPEN or (scope["method"] in ("GET", "HEAD") and self.public(path)):
            return ""
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        asked = bearer.strip() if scheme.lower() == "bearer" else headers.get("x-api-key", "").strip()
        owner = self.keys.owner(asked) if asked else None
        if owner is None:
            found = "The API key is not one of this server's." if asked else "An API key is needed."
            raise ApiError(401, f"{found} Send it as the header `Authorization: Bearer KEY` or `x-api-key: KEY`.",
                           code="invalid_api_key", headers={"www-authenticate": "Bearer"})  # fmt: skip
        return owner


def _with_cors(send: Any, origin: str) -> Any:
    async def answer(message: Any) -> None:
        if message["type"] == "http.response.start":
            more = [(b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"origin"),
                    (b"access-control-expose-headers", b"x-request-id, retry-after")]  # fmt: skip
            message = {**message, "headers": [*message.get("headers", []), *more]}
        await send(message)

    return answer


_HEADERS = (
    "authorization",
    "content-type",
    "x-api-key",
    "x-request-id",
    "x-danlu-applied",
    "anthropic-version",
    "anthropic-beta",
)
_CLIENTS = (
    "os",
    "lang",
    "arch",
    "runtime",
    "runtime-version",
    "package-version",
    "retry-count",
    "timeout",
    "async",
    "helper-method",
)


async def _preflight(send: Any) -> None:
    allowed = ", ".join([*_HEADERS, *(f"x-stainless-{name}" for name in _CLIENTS)])
    headers = [(b"access-control-allow-methods", b"GET, POST, OPTIONS"), (b"access-control-max-age", b"600"),
               (b"access-control-allow-headers", allowed.encode())]  # fmt: skip
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})
