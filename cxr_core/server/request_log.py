"""One line in the log for each request: method, path, status and milliseconds."""

import logging
import time
from collections.abc import Collection

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_log = logging.getLogger(__name__)
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class RequestLog:
    """ASGI middleware; an unexpected error is logged and answered with 500.

    Args:
        paths: those that are logged by name; others are sent by strangers and may say anything.
    """

    def __init__(self, app: ASGIApp, paths: Collection[str]):
        self._app, self._paths = app, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, start = 0, time.perf_counter()

        async def send_noted(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        except Exception:  # noqa: BLE001 - logged here, else by the server with its message
            _log.exception("A request failed.")
            if not status:
                await JSONResponse({"error": "An unexpected error; the log of the server has the details."}, 500)(
                    scope, receive, send_noted
                )
        finally:
            method = scope["method"] if scope["method"] in _METHODS else "(other method)"
            path = scope["path"] if scope["path"] in self._paths else "(unknown path)"
            _log.info("%s %s %d %.0f ms", method, path, status, (time.perf_counter() - start) * 1000)
