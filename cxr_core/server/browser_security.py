"""Protection of a server against what other web pages make a browser do: DNS rebinding, foreign origins, frames, foreign content.

A page of a stranger reaches a server on one's own machine by a name of the stranger's that resolves to 127.0.0.1; its requests
then carry that name as their `Host`. So only names that are known to be the server's are answered, and addresses, which no
name stands behind.
"""

import logging
import os
import socket
from collections.abc import Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

VARIABLE = "CXR_ALLOWED_HOSTS"
_SAFE_METHODS = ("GET", "HEAD", "OPTIONS")
_HEADERS = {
    "X-Frame-Options": "DENY",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_EVERYWHERE = "frame-ancestors 'none'; base-uri 'self'; form-action 'self'; object-src 'none'"
APP_POLICY = (  # Streamlit writes styles and evaluates charts and components in the page
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline'; "
    "connect-src 'self' data: blob:; img-src 'self' data: blob:; font-src 'self' data:; media-src 'self' data: blob:; "
    f"worker-src 'self' blob:; {_EVERYWHERE}"
)
APP_CLOSED = ("/_stcore/metrics",)  # counts of sessions and bytes, which are no visitor's business
ENDPOINT_POLICY = f"default-src 'none'; {_EVERYWHERE}"

_log = logging.getLogger(__name__)


def allowed_hosts() -> tuple[str, ...]:
    """Names that the server answers to: this machine's, and those in CXR_ALLOWED_HOSTS, separated by commas."""
    named = (name.strip().lower().rstrip(".") for name in os.environ.get(VARIABLE, "").split(","))
    return ("localhost", socket.gethostname().lower(), *filter(None, named))


class BrowserSecurity:
    """ASGI middleware: refuses other host names and other origins with 403, and adds headers to every response.

    Args:
        hosts: names that are answered, without port, in lower case; `*.example.org` stands for all names below. Addresses are
            always answered.
        policy: Content-Security-Policy of every response.
        closed: ends of paths that are answered with 404, below whatever prefix the server has.
    """

    def __init__(self, app: ASGIApp, hosts: Iterable[str], policy: str, closed: tuple[str, ...] = ()):
        self._app, self._hosts, self._policy, self._closed = app, tuple(hosts), policy, closed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        async def send_protected(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update({**_HEADERS, "Content-Security-Policy": self._policy})
            await send(message)

        refusal = self._refusal(scope)
        if not refusal:
            is_closed = scope["type"] == "http" and scope["path"].rstrip("/").endswith(self._closed)
            app = PlainTextResponse("Not found.\n", status_code=404) if is_closed else self._app
            await app(scope, receive, send_protected)
            return
        _log.warning("Refused with 403: %s", refusal)
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
        else:
            sentence = f"{refusal} Add it to {VARIABLE} on the server if it is one of the server's names."
            is_program = scope["path"].startswith("/api/")
            response = JSONResponse({"error": sentence}, 403) if is_program else PlainTextResponse(f"{sentence}\n", 403)
            await response(scope, receive, send_protected)

    def _refusal(self, scope: Scope) -> str:
        """Sentence that says why a request is refused, without anything that was sent; empty if it is not."""
        headers = Headers(scope=scope)
        host, origins = headers.getlist("host"), headers.getlist("origin")
        if len(host) != 1 or not self._is_allowed(host[0]):
            return "This server does not answer to the name in the request (its Host header)."
        if scope["type"] == "http" and scope["method"] in _SAFE_METHODS:
            return ""
        if any(urlsplit(origin).netloc.lower() != host[0].lower() for origin in origins):
            return "The request comes from another web page than this server's (its Origin header)."
        return ""

    def _is_allowed(self, header: str) -> bool:
        try:
            parts = urlsplit(f"//{header}")
            name, _ = (parts.hostname or "").rstrip("."), parts.port
        except ValueError:
            return False
        if not name or parts.netloc != header or "@" in header:
            return False
        try:
            ip_address(name)
        except ValueError:
            return any(name.endswith(host[1:]) if host.startswith("*.") else name == host for host in self._hosts)
        return True
