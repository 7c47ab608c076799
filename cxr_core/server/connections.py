"""Serve an application to clients that may be slow or many: deadlines for each connection, and a number that is never exceeded.

uvicorn waits for ever for the head of a request, and accepts connections until there are no descriptors left, when it accepts
nothing any longer.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS = 10.0  # for the head of a request; how long one may go on is up to the application
MAX_CONNECTIONS = 500
_OTHER_DESCRIPTORS = 128  # of models, child processes and logs
_BACKLOG = 128
_SHUTDOWN_SECONDS = 5


def max_connections() -> int:
    """Connections at once, fewer than the descriptors that this process may have."""
    if sys.platform == "win32":
        return MAX_CONNECTIONS
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return (
        MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(8, min(MAX_CONNECTIONS, soft - _OTHER_DESCRIPTORS))
    )


class BoundedProtocol(H11Protocol):
    """A connection that is closed if no whole head comes in HEAD_SECONDS, or a request is not over in `request_seconds`.

    Where there are more than `most` connections, the one that has waited longest for a request is closed.
    """

    def __init__(self, *arguments: Any, most: int, request_seconds: float, **named: Any):
        super().__init__(*arguments, **named)
        self._most, self._request_seconds = most, request_seconds
        self._waiting_since = self._busy_since = 0.0
        self._next_look: asyncio.TimerHandle | None = None

    @property
    def is_waiting(self) -> bool:
        """True if no request is being received or answered."""
        return self.cycle is None or self.cycle.response_complete

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._waiting_since = self.loop.time()
        self._look(None)
        if len(self.connections) > self._most:
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._next_look:
            self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self, cycle: Any) -> None:
        """Close the connection if it is too slow; `cycle` is the last request at the look before."""
        now = self.loop.time()
        if self.cycle is not cycle:  # a request came meanwhile
            self._waiting_since = self._busy_since = now
        late = (
            now - self._waiting_since >= HEAD_SECONDS
            if self.is_waiting
            else now - self._busy_since >= self._request_seconds
        )
        if late:
            self.transport.abort()
        else:
            self._next_look = self.loop.call_later(HEAD_SECONDS / 4, self._look, self.cycle)
        if not self.is_waiting:
            self._waiting_since = now

    def _make_room(self) -> None:
        waiting = [one for one in self.connections if isinstance(one, BoundedProtocol) and one.is_waiting]
        min(waiting, key=lambda one: one._waiting_since, default=self).transport.abort()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: Starlette):
        super().__init__(config)
        self._app = app

    async def shutdown(self, sockets: Any = None) -> None:
        self._app.state.is_closing = True
        await super().shutdown(sockets)


def server(
    app: Starlette, host: str, port: int, *, request_seconds: float, trusted_proxies: Sequence[str] = ()
) -> uvicorn.Server:
    """A server that has not been started; once it is told to end, it does so within seconds.

    Args:
        app: whose `state.is_closing` becomes True when it has to come to an end.
        request_seconds: that a request may take at most, from its head to its last byte.
        trusted_proxies: addresses and networks whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    """
    protocol = partial(BoundedProtocol, most=max_connections(), request_seconds=request_seconds)
    config = uvicorn.Config(
        app, host=host, port=port, log_config=None, log_level="warning", access_log=False, ws="none", backlog=_BACKLOG,
        http=protocol,  # type: ignore[arg-type]
        proxy_headers=bool(trusted_proxies), forwarded_allow_ips=[*trusted_proxies],
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS, server_header=False,
    )  # fmt: skip
    return _Server(config, app)
