"""Connections of slow and of many clients, with a real server on a port of its own."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import pytest
import uvicorn

from cxr_core.decoding import Patience
from cxr_core.server import connections, endpoint
from cxr_core.server.endpoint import RequestLimits

HEALTH = b"GET /api/health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch, home: object) -> Iterator[int]:
    monkeypatch.setattr(connections, "HEAD_SECONDS", 0.8)
    monkeypatch.setattr(connections, "MAX_CONNECTIONS", 20)
    app = endpoint.app(limits=RequestLimits(seconds=1, per_minute=5))
    server = connections.server(app, "127.0.0.1", 0, request_seconds=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def answer(port: int, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(request)
        return b"".join(iter(lambda: client.recv(65536), b""))


def test_a_client_that_never_sends_a_whole_head_is_let_go(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        start = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() - start < 8:  # a byte now and then buys no time
                client.sendall(b"G")
                client.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    if not client.recv(1):
                        break
        assert time.monotonic() - start < 6
    assert b"200 OK" in answer(port, HEALTH)


def test_a_body_that_does_not_come_is_not_waited_for(port: int) -> None:
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    start = time.monotonic()
    answered = answer(port, head + b"Content-Length: 1000\r\n\r\n--x")
    assert b"408 Request Timeout" in answered and b"did not come whole within 1 seconds" in answered
    assert time.monotonic() - start < 6


def test_a_crowd_of_idle_connections_does_not_make_the_server_deaf(port: int) -> None:
    with contextlib.ExitStack() as crowd:
        for _ in range(60):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10))
        assert b"200 OK" in answer(port, HEALTH)


def test_a_header_that_anybody_can_send_does_not_make_another_client(port: int) -> None:
    codes = [
        answer(port, b"GET /api/runs HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 10.0.0.%d\r\nConnection: close\r\n\r\n" % n)
        for n in range(9)
    ]  # fmt: skip
    assert b"429" in codes[-1].splitlines()[0]


def test_a_trusted_proxy_tells_who_the_client_is() -> None:
    app = endpoint.app()
    trusting = connections.server(app, "127.0.0.1", 0, request_seconds=2, trusted_proxies=["10.0.0.0/8"])
    plain = connections.server(app, "127.0.0.1", 0, request_seconds=2)
    assert trusting.config.proxy_headers and trusting.config.forwarded_allow_ips == ["10.0.0.0/8"]
    assert not plain.config.proxy_headers
    assert isinstance(plain, uvicorn.Server)


def test_there_are_fewer_connections_than_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 256))
    assert connections.max_connections() == 128
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert connections.max_connections() == connections.MAX_CONNECTIONS


def test_its_answer_is_json(port: int) -> None:
    head, _, body = answer(port, HEALTH.replace(b"/api/health", b"/nothing")).partition(b"\r\n\r\n")
    assert b"404" in head and "/api/openapi.json" in json.loads(body)["error"]


def form(content: bytes = b"x") -> bytes:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n' + content + b"\r\n--x--\r\n"
    head = b"POST /api/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: multipart/form-data; boundary=x\r\n"
    return head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


@pytest.fixture
def endless_work(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[float]]:
    """Requests begin and go on until patience ends."""
    times: dict[str, list[float]] = {"begun": [], "ended": []}

    def work(run_id: str, files: object, limits: object, patience: Patience) -> dict[str, str]:
        times["begun"].append(time.monotonic())
        try:
            while True:
                patience.check()
                time.sleep(0.02)
        finally:
            times["ended"].append(time.monotonic())

    monkeypatch.setattr(endpoint, "_answer_files", work)
    return times


def wait_for(times: list[float], count: int = 1) -> None:
    latest = time.monotonic() + 10
    while len(times) < count:
        assert time.monotonic() < latest
        time.sleep(0.02)


Patients = tuple[uvicorn.Server, threading.Thread, int]


@pytest.fixture
def patient(home: object) -> Iterator[Patients]:
    app = endpoint.app(limits=RequestLimits(seconds=60))
    server = connections.server(app, "127.0.0.1", 0, request_seconds=90)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.02)
    yield server, thread, server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(20)


def test_the_work_of_a_client_who_left_ends(endless_work: dict[str, list[float]], patient: Patients) -> None:
    with socket.create_connection(("127.0.0.1", patient[2]), timeout=10) as client:
        client.sendall(form())
        wait_for(endless_work["begun"])
        left = time.monotonic()
    wait_for(endless_work["ended"])
    assert endless_work["ended"][0] - left < 5


def test_a_server_that_is_told_to_end_does_so_in_the_middle_of_work(
    endless_work: dict[str, list[float]], patient: Patients
) -> None:
    server, thread, port = patient
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(form())
        wait_for(endless_work["begun"])
        server.should_exit = True
        thread.join(15)
        assert not thread.is_alive()


def test_many_requests_at_work_do_not_keep_others_waiting(
    endless_work: dict[str, list[float]], patient: Patients
) -> None:
    port = patient[2]
    with contextlib.ExitStack() as crowd:
        for _ in range(70):
            crowd.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)).sendall(form())
        wait_for(endless_work["begun"], 4)
        for path in (b"/api/health", b"/api/runs"):
            start = time.monotonic()
            assert b"200 OK" in answer(port, HEALTH.replace(b"/api/health", path))
            assert time.monotonic() - start < 5
        assert b"503" in answer(port, form()).splitlines()[0]
