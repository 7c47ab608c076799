"""Bounds of what the sessions of the app have uploaded together; Streamlit bounds each file alone."""

import os
from collections import Counter

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Receive, Scope, Send
from streamlit.runtime import Runtime
from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

VARIABLE = "CXR_UPLOADS_MB"
SERVER_MB = 2100.0  # of all sessions together, unless the variable says otherwise
SESSION_SHARE = 0.4  # of that for one session: two of the largest files that are taken
_PATH = "/_stcore/upload_file/"


class UploadLimits:
    """ASGI middleware: an upload beyond the bound of its session or of the server gets 413 before it is read.

    Streamlit holds uploads in memory until their session ends or the visitor removes them.
    """

    def __init__(self, app: ASGIApp):
        self._app = app
        self._arriving: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "PUT" or _PATH not in scope["path"]:
            await self._app(scope, receive, send)
            return
        session_id = scope["path"].rpartition(_PATH)[2].partition("/")[0]
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        is_told = (
            length.isascii() and length.isdigit() and "transfer-encoding" not in headers
        )  # which would overrule it
        size = int(length) if is_told else -1
        refusal = self._refusal(session_id, size)
        if refusal:
            await PlainTextResponse(f"{refusal}\n", status_code=413 if size >= 0 else 411)(scope, receive, send)
            return
        self._arriving[session_id] += size
        try:
            await self._app(scope, receive, send)
        finally:
            self._arriving[session_id] -= size
            if not self._arriving[session_id]:
                del self._arriving[session_id]

    def _refusal(self, session_id: str, size: int) -> str:
        """Why an upload of so many bytes is not taken, or ""; -1: it does not say how many."""
        if size < 0:
            return "An upload has to say its size (Content-Length)."
        held = _held()
        most = server_mb()
        own, all_together = (
            (held[session_id] + self._arriving[session_id] + size) / 1e6,
            (held.total() + self._arriving.total() + size) / 1e6,
        )
        if own > most * SESSION_SHARE:
            return (
                f"The uploads of one page may have {most * SESSION_SHARE:,.0f} MB together. With this one they have {own:,.0f} MB. "
                "Remove some or reload the page, or add a large set by its path."
            )
        if all_together > most:
            return (
                f"This server holds {most:,.0f} MB of uploads at most, of all visitors together. Try again in a few minutes, or "
                f"raise {VARIABLE}."
            )
        return ""


def server_mb() -> float:
    """The bound of all uploads together, in MB; the default if the variable is no number above 0."""
    try:
        value = float(os.environ.get(VARIABLE, SERVER_MB))
    except ValueError:
        return SERVER_MB
    return value if 0 < value < float("inf") else SERVER_MB


def _held() -> Counter[str]:
    """Bytes held for each session."""
    manager = Runtime.instance().uploaded_file_mgr
    assert isinstance(manager, MemoryUploadedFileManager)
    with manager._lock:
        return Counter(
            {key: sum(len(file.data) for file in files.values()) for key, files in manager.file_storage.items()}
        )
