"""What only serves the server itself is closed, below whatever prefix."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from cxr_core.server.browser_security import APP_CLOSED, APP_POLICY, BrowserSecurity


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/_stcore/metrics", 404), ("/_stcore/metrics/", 404), ("/cxr/_stcore/metrics?families=x", 404),
        ("/_stcore/%6detrics", 404), ("/_stcore/health", 200), ("/", 200),
    ],
)  # fmt: skip
def test_metrics_are_closed(path: str, status: int) -> None:
    app = Starlette(routes=[Route("/{anything:path}", lambda _: PlainTextResponse("counts"))])
    client = TestClient(BrowserSecurity(app, ["localhost"], APP_POLICY, APP_CLOSED), base_url="http://localhost")
    response = client.get(path)
    assert response.status_code == status and response.headers["x-frame-options"] == "DENY"
