"""Sessions of the app: they end soon after their tab was closed, and the files that they show are their own browser's alone.

Streamlit keeps a session whose tab has gone, for when it comes back, and forgets it only when another one connects or goes; its
uploads and pictures stay as long. And whoever knows the address of a file below /media gets it. So here a session ends by the
clock, and a file is sent to browsers that carry the cookie of a session which shows it.
"""

import asyncio
import logging
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config
from streamlit.runtime import Runtime
from streamlit.runtime.media_file_manager import MediaFileManager
from streamlit.runtime.scriptrunner import get_script_run_ctx
from streamlit.runtime.session_manager import SessionInfo, SessionStorage

COOKIE = "cxr_visitor"
AWAY_SECONDS = 90.0  # that a tab may be away, on a poor network or asleep, and come back to its session
LOOK_SECONDS = 15.0  # between two looks for sessions to end; both together stay below the two minutes that are promised
MOST_AWAY = 128  # sessions that wait for their tab at once, as in Streamlit

_log = logging.getLogger(__name__)


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
            try:
                info.session.shutdown()
            except Exception:  # noqa: BLE001 - one that cannot end keeps no other from it
                _log.exception("A session could not be ended.")
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

    def sessions(self) -> set[str]:
        with self._lock:
            return {*self._visitors, *(each for sessions in self._sessions.values() for each in sessions)}

    def end(self, session_ids: Collection[str], existing: Callable[[], Collection[str]]) -> set[str]:
        """Forget ended sessions, and files that do not exist any more; the files that no session shows now."""
        left = set()
        with self._lock:
            there = set(existing())
            for session_id in session_ids:
                self._visitors.pop(session_id, None)
            for file_id in list(self._sessions):
                self._sessions[file_id].difference_update(session_ids)
                if file_id not in there:
                    del self._sessions[file_id]
                elif not self._sessions[file_id]:
                    del self._sessions[file_id]
                    left.add(file_id)
        return left

    def visitor_of(self, session_id: str) -> str:
        with self._lock:
            return self._visitors.get(session_id, "")

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
    """ASGI middleware: gives every browser a cookie with its first page; sends a file of /media only to those that it is shown to,
    and gives a session back only to the browser that it was in."""

    def __init__(self, app: ASGIApp):
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        request = HTTPConnection(scope)
        visitor = request.cookies.get(COOKIE, "")
        if scope["type"] == "websocket":
            headers = [(name, _own_session(name, value, visitor)) for name, value in scope["headers"]]
            await self._app({**scope, "headers": headers}, receive, send)
            return
        is_page = "text/html" in request.headers.get("accept", "")  # the answer may be "not modified", of no type
        folder, is_file, name = scope["path"].rpartition("/media/")
        is_file = bool(is_file) and folder != _static_folder()
        if is_file and not _SHOWN.is_shown_to(Path(name).stem, visitor):
            await PlainTextResponse("Not found.\n", status_code=404)(scope, receive, send)
            return

        async def send_marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if is_file:
                    headers["Cache-Control"] = "private, no-store"
                elif is_page and not visitor:
                    secure = "; Secure" if scope["scheme"] == "https" else ""
                    headers.append(
                        "Set-Cookie", f"{COOKIE}={secrets.token_hex(16)}; Path=/; HttpOnly; SameSite=Lax{secure}"
                    )
            await send(message)

        await self._app(scope, receive, send_marked)


def _static_folder() -> str:
    """The folder of Streamlit's own files, among them fonts in a folder called media."""
    base = str(config.get_option("server.baseUrlPath")).strip("/")
    return f"/{base}/static" if base else "/static"


def _own_session(name: bytes, value: bytes, visitor: str) -> bytes:
    """A header of a WebSocket without the session that it asks for, if that is in another browser.

    Streamlit reads the session from the third entry of Sec-WebSocket-Protocol, and believes it.
    """
    entries = value.decode("latin-1").split(",")
    if name.lower() != b"sec-websocket-protocol" or len(entries) < 3:
        return value
    if _SHOWN.visitor_of(entries[2].strip()) in ("", visitor):
        return value
    return ",".join([*entries[:2], "", *entries[3:]]).encode("latin-1")


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
            try:
                away.end_old()
                _delete_of_ended(runtime)
            except Exception:  # noqa: BLE001 - the next look goes on
                _log.exception("Looking for sessions to end failed.")

    looking = asyncio.create_task(look())
    try:
        yield
    finally:
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking


def _delete_of_ended(runtime: Runtime) -> None:
    """Delete the files and uploads of sessions that are no more, also those that arrived or were made after their end."""
    media, uploads = runtime.media_file_mgr, runtime.uploaded_file_mgr
    is_there = runtime._session_mgr.get_session_info
    left = _SHOWN.end(
        [each for each in _SHOWN.sessions() if is_there(each) is None], lambda: list(media._file_metadata)
    )
    with media._lock:
        for file_id in left & media._get_inactive_file_ids():
            media._delete_file(file_id)
    for session_id in list(uploads.file_storage):  # type: ignore[attr-defined]
        if is_there(session_id) is None:
            uploads.remove_session_files(session_id)


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
