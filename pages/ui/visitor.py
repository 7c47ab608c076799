"""Rights of the visitor of a page: at this machine or elsewhere, and the paths that they may type."""

import re
from ipaddress import IPv6Address, ip_address

import streamlit as st

from cxr_core.data import allowed_paths
from cxr_core.errors import BadInput

_PROXY_HEADERS = ("Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP", "Via")
_LOCAL_HOST = re.compile(r"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)


def is_local() -> bool:
    """True if the browser runs on this machine and reaches the server without a proxy.

    Every browser sends Host and Origin. Without Host the visitor counts as remote: Streamlit knows no headers of a session
    that has been disconnected while its page is still running. Origin tells of a proxy that hides itself.
    """
    headers = st.context.headers
    origin = headers.get("Origin")
    return (
        _is_loopback(st.context.ip_address)
        and not any(name in headers for name in _PROXY_HEADERS)
        and _LOCAL_HOST.fullmatch(headers.get("Host", "")) is not None
        and (origin is None or _LOCAL_HOST.fullmatch(re.sub(r"^https?://", "", origin)) is not None)
    )


def _is_loopback(address: str | None) -> bool:
    """True for None, as which Streamlit shows the addresses 127.0.0.1 and ::1."""
    if address is None:
        return True
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    mapped = parsed.ipv4_mapped if isinstance(parsed, IPv6Address) else None
    return (mapped or parsed).is_loopback


def may_type_paths() -> bool:
    """True if fields for paths on the server are shown to this visitor."""
    roots = allowed_paths.roots()
    return is_local() if roots is None else bool(roots)


def checked_path(path: str) -> str:
    """A typed path, if this visitor may open it; whole and without links where CXR_DATA_ROOTS is set.

    Raises:
        BadInput: they may not. The sentence does not tell whether anything is there.
    """
    if allowed_paths.roots() is not None:
        return str(allowed_paths.resolve(path))
    if not is_local():
        raise BadInput("Paths on the server are open to a browser on the same machine only. Upload a zip instead.")
    return path
