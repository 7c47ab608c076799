"""Counting clients, wrong tokens and work in flight."""

import pytest

from cxr_core.server import admission
from cxr_core.server.admission import Full, MinuteCount, WorkInFlight, client_key


def test_each_client_has_its_own_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [30.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    counted = MinuteCount(2)
    assert [counted.add("a") for _ in range(3)] == [0, 0, 30]
    assert counted.seconds_to_wait("a") == 30 and counted.seconds_to_wait("b") == 0 == counted.add("b")
    now[0] = 61.0
    assert counted.seconds_to_wait("a") == 0 == counted.add("a")


def test_only_so_many_clients_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "_MAX_CLIENTS", 3)
    counted = MinuteCount(1)
    for client in "abcd":
        counted.add(client)
    assert counted.seconds_to_wait("d") and not counted.seconds_to_wait("a")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("10.0.0.7", "10.0.0.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("::ffff:10.0.0.7", "10.0.0.7"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_a_client_of_ipv6_is_its_network(address: str, key: str) -> None:
    assert client_key(address) == key


def test_work_in_flight_is_bounded_and_given_back() -> None:
    work = WorkInFlight(2, 100)
    with work.request() as first, work.request() as second:
        with pytest.raises(Full), work.request():
            pass
        first.received(60)
        second.received(40)
        with pytest.raises(Full):
            second.received(1)
    assert (work.requests, work.bytes) == (0, 0)
