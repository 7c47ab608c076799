"""What the sessions of the app may have uploaded together."""

from collections import Counter
from typing import Any

import pytest
from starlette.testclient import TestClient
from starlette.types import Receive, Scope, Send

from pages.ui import upload_limits
from pages.ui.upload_limits import UploadLimits

PATH = "/_stcore/upload_file/{}/file"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> TestClient:
    """A server that may hold 1,000 bytes, of one session 400; three sessions hold 300 each."""
    monkeypatch.setenv(upload_limits.VARIABLE, "0.001")
    monkeypatch.setattr(upload_limits, "_held", lambda: Counter(a=300, b=300, c=300))

    async def taken(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return TestClient(UploadLimits(taken))


def test_a_session_has_a_bound_of_its_own(client: TestClient) -> None:
    assert client.put(PATH.format("a"), content=b"x" * 100).status_code == 204
    answer = client.put(PATH.format("a"), content=b"x" * 101)
    assert answer.status_code == 413 and "uploads of one page" in answer.text


def test_all_sessions_have_one_together(client: TestClient) -> None:
    assert client.put(PATH.format("d"), content=b"x" * 100).status_code == 204
    answer = client.put(PATH.format("d"), content=b"x" * 101)
    assert answer.status_code == 413 and "of all visitors together" in answer.text


def test_an_upload_says_its_size(client: TestClient) -> None:
    answer = client.put(PATH.format("a"), content=iter([b"x"]))
    assert answer.status_code == 411 and "Content-Length" in answer.text
    both = {"Transfer-Encoding": "chunked", "Content-Length": "1"}  # of which the first counts
    assert client.put(PATH.format("a"), content=b"x", headers=both).status_code == 411


def test_what_arrives_at_the_moment_counts(client: TestClient) -> None:
    limits: Any = client.app
    limits._arriving["a"] = 60
    assert client.put(PATH.format("a"), content=b"x" * 50).status_code == 413
    assert client.put(PATH.format("a"), content=b"x" * 40).status_code == 204
    assert limits._arriving == {"a": 60}


def test_all_other_requests_pass(client: TestClient) -> None:
    assert client.get("/").status_code == client.put("/elsewhere", content=b"x" * 5000).status_code == 204


@pytest.mark.parametrize("value", ["", "much", "-1", "nan", "inf"])
def test_an_impossible_bound_is_the_usual_one(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(upload_limits.VARIABLE, value)
    assert upload_limits.server_mb() == upload_limits.SERVER_MB
