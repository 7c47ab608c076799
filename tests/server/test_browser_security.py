"""Other web pages cannot use a browser to drive a server: names, origins, frames and content of strangers are refused."""

import socket
from collections.abc import Sequence
from urllib.parse import urlsplit

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from cxr_core.server import endpoint
from cxr_core.server.browser_security import APP_POLICY, VARIABLE, BrowserSecurity, allowed_hosts

SERVER = "http://localhost:8501"


async def answer(_: Request) -> PlainTextResponse:
    return PlainTextResponse("answered")


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("answered")
    await websocket.close()


def client(hosts: Sequence[str] = ("localhost",)) -> TestClient:
    app = Starlette(
        routes=[Route("/", answer, methods=["GET", "POST"]), WebSocketRoute("/talk", talk)],
        middleware=[Middleware(BrowserSecurity, hosts=hosts, policy=APP_POLICY)],
    )
    return TestClient(app, base_url=SERVER)


def websocket_answer(client: TestClient, headers: dict[str, str]) -> str:
    """First message of a websocket; empty if it is refused."""
    try:
        with client.websocket_connect("/talk", headers={"host": urlsplit(SERVER).netloc, **headers}) as websocket:
            return websocket.receive_text()
    except WebSocketDisconnect:
        return ""


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "localhost:8501",
        "LocalHost",
        "localhost.",
        "127.0.0.1",
        "127.0.0.1:8501",
        "[::1]:8501",
        "192.168.0.7:80",
    ],
)
def test_names_and_addresses_of_the_server_are_answered(host: str) -> None:
    assert client().get("/", headers={"host": host}).text == "answered"
    assert websocket_answer(client(), {"host": host, "origin": f"http://{host}"}) == "answered"


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:8501", "localhost.evil.example", "evil.example.localhost.com", "127.0.0.1.evil.example",
        "evil.example@localhost", "localhost@evil.example", "localhost/evil", "localhost#evil", "localhost:port", "", "2130706433",
        "0x7f.1", "[::1", "localhost,evil.example", "xn--localhost-",
    ],
)  # fmt: skip
def test_any_other_name_is_refused(host: str) -> None:
    refused = client().get("/", headers={"host": host})
    assert refused.status_code == 403 and VARIABLE in refused.text and "evil" not in refused.text
    assert websocket_answer(client(), {"host": host}) == ""


def test_wildcards_stand_for_the_names_below() -> None:
    some = client(["*.hospital.example"])
    assert some.get("/", headers={"host": "cxr.hospital.example"}).status_code == 200
    for host in ("hospital.example", "evilhospital.example", "hospital.example.evil.example"):
        assert some.get("/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize(
    "origin",
    [
        "http://evil.example",
        "http://localhost:9999",
        "http://localhost",
        "http://127.0.0.1:8501",
        "null",
        "",
        "file://",
    ],
)
def test_what_another_page_sends_is_refused(origin: str) -> None:
    assert client().post("/", headers={"origin": origin}).status_code == 403
    assert websocket_answer(client(), {"origin": origin}) == ""
    assert "access-control-allow-origin" not in client().get("/", headers={"origin": origin}).headers


def test_what_its_own_page_and_a_program_send_is_answered() -> None:
    assert client().post("/", headers={"origin": SERVER}).text == client().post("/").text == "answered"
    assert websocket_answer(client(), {"origin": SERVER}) == websocket_answer(client(), {}) == "answered"


@pytest.mark.parametrize(("path", "headers"), [("/", {}), ("/nowhere", {}), ("/", {"host": "evil.example"})])
def test_every_response_keeps_out_of_frames_and_loads_nothing_from_elsewhere(
    path: str, headers: dict[str, str]
) -> None:
    sent = client().get(path, headers=headers).headers
    assert sent["x-frame-options"] == "DENY" and sent["x-content-type-options"] == "nosniff"
    policy = dict(part.strip().split(" ", 1) for part in sent["content-security-policy"].split(";"))
    assert policy["frame-ancestors"] == policy["object-src"] == "'none'"
    assert policy["default-src"] == "'self'"
    assert not any(urlsplit(source).netloc for sources in policy.values() for source in sources.split())


def test_the_names_of_this_machine_and_of_its_variable_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert allowed_hosts() == ("localhost", socket.gethostname().lower())
    monkeypatch.setenv(VARIABLE, "CXR.hospital.example, *.lab.example.,")
    assert allowed_hosts()[2:] == ("cxr.hospital.example", "*.lab.example")


def test_the_endpoint_is_protected_too() -> None:
    app = endpoint.app()
    assert TestClient(app, base_url="http://evil.example").get("/api/health").status_code == 403
    sent = TestClient(app, base_url=SERVER).get("/api/health")
    assert sent.status_code == 200 and "frame-ancestors 'none'" in sent.headers["content-security-policy"]
    assert (
        TestClient(app, base_url=SERVER).post("/api/predict", headers={"origin": "http://evil.example"}).status_code
        == 403
    )
