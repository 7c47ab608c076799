"""Who is let in: requests of each client a minute, wrong tokens, and the work that is in flight in this process."""

import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address, ip_network

_MAX_CLIENTS = 10_000  # that are counted


def client_key(address: str) -> str:
    """What is counted as one client: an address, of IPv6 the network of 64 bits, which one customer is given."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or ip_network((parsed, 64), strict=False))
    return address


class MinuteCount:
    """Events of each client in the running minute."""

    def __init__(self, limit: int):
        self._limit, self._counts = limit, OrderedDict[str, tuple[int, int]]()

    def add(self, client: str) -> int:
        """Count an event; the seconds to wait if it is beyond the limit, else 0."""
        now = time.monotonic()
        minute, count = self._counts.pop(client, (0, 0))
        minute, count = (minute, count + 1) if minute == int(now // 60) else (int(now // 60), 1)
        self._counts[client] = (minute, count)
        if len(self._counts) > _MAX_CLIENTS:
            self._counts.popitem(last=False)
        return 0 if count <= self._limit else 60 - int(now % 60)

    def seconds_to_wait(self, client: str) -> int:
        """The seconds to wait if the limit is reached, else 0."""
        now = time.monotonic()
        minute, count = self._counts.get(client, (0, 0))
        return 60 - int(now % 60) if minute == int(now // 60) and count >= self._limit else 0


class WorkInFlight:
    """Requests that are received or answered at the moment, and the bytes that they have sent; for one thread."""

    def __init__(self, most_requests: int, most_bytes: int):
        self._most_requests, self._most_bytes = most_requests, most_bytes
        self.requests, self.bytes = 0, 0

    @contextmanager
    def request(self) -> Iterator["RequestInFlight"]:
        """Raises Full."""
        if self.requests >= self._most_requests:
            raise Full
        request = RequestInFlight(self)
        self.requests += 1
        try:
            yield request
        finally:
            self.requests -= 1
            self.bytes -= request.bytes

    def take(self, count: int) -> None:
        if self.bytes + count > self._most_bytes:
            raise Full
        self.bytes += count


class RequestInFlight:
    """Bytes of one request."""

    def __init__(self, work: WorkInFlight):
        self._work, self.bytes = work, 0

    def received(self, count: int) -> None:
        """Raises Full."""
        self._work.take(count)
        self.bytes += count


class Full(Exception):
    """There is as much work in flight as this process takes."""
