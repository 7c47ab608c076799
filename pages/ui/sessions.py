"""Sessions of the app: they end soon after their tab was closed, and the files that they show are their own browser's alone.

Streamlit keeps a session whose tab has gone, for when it comes back, and forgets it only when another one connects or goes; its
uploads and pictures stay as long. And whoever knows the address of a file below /media gets it. So here a session ends by the
clock, and a file is sent to browsers that carry the cookie of a session which shows it.
"""

import asyncio
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit.runtime import Runtime
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.session_manager import SessionInfo, SessionStorage

COOKIE = "cxr_visitor"
AWAY_SECONDS = 90.0  # that a tab may be away, on a poor network or asleep, and come back to its session
LOOK_SECONDS = 15.0  # between two looks for sessions to end; both together stay below the two minutes that are promised
MOST_AWAY = 128  # sessions that wait for their tab at once, as in Streamlit


class SessionsAway(SessionStorage):
    """Sessions whose tab has gone; `end_old` ends them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock
        self._lock = threading.Lock()
        self._left: dict[str, tuple[SessionInfo, float]] = {}

    def get(self, session_id: str) -> SessionInfo | None:
        with self._lock:
            return self._left[session_id][0] if session_id in self._left else None

    def save(self, session_info: SessionInfo) -> None:
        with self._lock:
            self._left[session_info.session.id] = (session_info, self._clock())

    def delete(self, session_id: str) -> None:
        with self._lock:
            self._left.pop(session_id, None)

    def list(self) -> list[SessionInfo]:
        with self._lock:
            return [info for info, _ in self._left.values()]

    def end_old(self) -> Sequence[str]:
        """End the sessions that have been away for AWAY_SECONDS, and the longest away of more than MOST_AWAY; their ids."""
        now = self._clock()
        with self._lock:
            by_age = sorted(self._left, key=lambda session_id: self._left[session_id][1])
            too_many = set(by_age[: max(0, len(by_age) - MOST_AWAY)])
            old = [each for each in by_age if each in too_many or now - self._left[each][1] >= AWAY_SECONDS]
            ended = [self._left.pop(session_id)[0] for session_id in old]
        for info in ended:
            info.session.shutdown()
        return old


class _ShownFiles:
    """Which sessions show which files of /media, and whose browser they are in."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._visitors: dict[str, str] = {}
        self._sessions: defaultdict[str, set[str]] = defaultdict(set)

    def arrive(self, session_id: str, visitor: str) -> None:
        with self._lock:
            self._visitors[session_id] = visitor

    def show(self, file_id: str, session_id: str) -> None:
        with self._lock:
            self._sessions[file_id].add(session_id)

    def end(self, session_ids: Sequence[str], existing: set[str]) -> None:
        """Forget ended sessions, and files that are no longer among the existing ones."""
        with self._lock:
            for session_id in session_ids:
                self._visitors.pop(session_id, None)
            for file_id in list(self._sessions):
                self._sessions[file_id].difference_update(session_ids)
                if file_id not in existing or not self._sessions[file_id]:
                    del self._sessions[file_id]

    def is_shown_to(self, file_id: str, visitor: str) -> bool:
        with self._lock:
            sessions = self._sessions.get(file_id, set())
            return bool(visitor) and any(self._visitors.get(session_id) == visitor for session_id in sessions)


_SHOWN = _ShownFiles()


def arrive() -> None:
    """Note which browser the running session is in."""
    context, visitor = get_script_run_ctx(suppress_warning=True), st.context.cookies.get(COOKIE, "")
    if context and visitor:  # a session that has lost its tab while its page runs has no cookies any more
        _SHOWN.arrive(context.session_id, visitor)


class OwnFiles:
    """ASGI middleware: gives every browser a cookie with its first page, and a file of /media only to those that it is shown to."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        visitor = request.cookies.get(COOKIE, "")
        is_page = "text/html" in request.headers.get("accept", "")  # the answer may be "not modified", of no type
        folder, is_file, name = scope["path"].rpartition("/media/")
        is_file = bool(is_file) and not folder.endswith("/static")  # where Streamlit's own fonts are
        if is_file and not _SHOWN.is_shown_to(Path(name).stem, visitor):
            await PlainTextResponse("Not found.\n", status_code=404)(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if is_file:
                    headers["Cache-Control"] = "private, no-cache"
                elif is_page and not visitor:
                    secure = "; Secure" if scope["scheme"] == "https" else ""
                    headers.append(
                        "Set-Cookie", f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax{secure}"
                    )
            await send(message)

        await self._app(scope, receive, send_marked)


@asynccontextmanager
async def lifespan(_app: object) -> AsyncIterator[None]:
    """End sessions by the clock, as long as the server runs."""
    runtime = Runtime.instance()
    away = SessionsAway()
    runtime._session_mgr._session_storage = away  # type: ignore[attr-defined]
    _note_files(runtime.media_file_mgr)

    async def look() -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            ended = away.end_old()
            if ended:
                for _ in range(2):  # the first only marks what was to be downloaded
                    runtime.media_file_mgr.remove_orphaned_files()
            _SHOWN.end(ended, set(runtime.media_file_mgr._file_metadata))

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def _note_files(manager: MediaFileManager) -> None:
    """Make Streamlit's store of files tell which session shows each; also those that are made when a download is clicked."""
    add, execute_deferred = manager.add, manager.execute_deferred

    def noted_add(*arguments: Any, **options: Any) -> str:
        url = add(*arguments, **options)
        if context := get_script_run_ctx(suppress_warning=True):
            _SHOWN.show(Path(url).stem, context.session_id)
        return url

    def noted_execution(file_id: str) -> str:
        session_id = (
            manager._deferred_callables[file_id]["session_id"] if file_id in manager._deferred_callables else ""
        )
        url = execute_deferred(file_id)
        _SHOWN.show(Path(url).stem, session_id)
        return url

    manager.add = noted_add  # type: ignore[method-assign]
    manager.execute_deferred = noted_execution  # type: ignore[method-assign]
