"""The app as it runs refuses what a page of a stranger could do by way of a browser."""

import http.client
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytestmark = pytest.mark.slow

HANDSHAKE = {
    "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "x3JJHMbDL1EzLkh9GBhXDw==",
    "Sec-WebSocket-Protocol": "streamlit",
}  # fmt: skip


def status(address: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
    connection = http.client.HTTPConnection(urlsplit(address).netloc, timeout=20)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    connection.close()
    return response.status, {name.lower(): value for name, value in response.getheaders()}


def test_the_app_answers_its_own_page_alone(serve: Callable[..., Any], trained_home: Path) -> None:
    address, _ = serve(trained_home)
    host = urlsplit(address).netloc
    stream = "/_stcore/stream"
    assert status(address, stream, {**HANDSHAKE, "Origin": address})[0] == 101
    for headers in (
        {"Host": "evil.example", "Origin": "http://evil.example"},  # DNS rebinding
        {"Host": host, "Origin": "http://evil.example"},
        {"Host": host, "Origin": "http://127.0.0.1:9"},
        {"Host": host, "Origin": "http://localhost:9"},
        {"Host": host, "Origin": "null"},
    ):
        assert status(address, stream, {**HANDSHAKE, **headers})[0] == 403, headers
    for path in ("/", "/results", "/_stcore/health", "/_stcore/host-config", "/media/nothing.png", "/nowhere"):
        code, headers = status(address, path, {})
        assert code in (200, 404) and headers["x-frame-options"] == "DENY", path
        assert "frame-ancestors 'none'" in headers["content-security-policy"], path
        assert status(address, path, {"Host": "evil.example"})[0] == 403, path
