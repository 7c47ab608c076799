"""Memory budget of decoding: a process decodes only so many pixels of large images at once, and the rest wait in line."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SMALL_PIXELS = 4_000_000  # an image of 2,000 × 2,000, which does not count
PIXELS_AT_ONCE = 120_000_000  # one of 100 million takes up to 1.3 GB while it is decoded

_changed = threading.Condition()
_waiting: deque[object] = deque()
_taken = [0]


def _nothing() -> None:
    """Whoever waits is not told."""


@contextmanager
def reserve(pixels: int, meanwhile: Callable[[], None] = _nothing) -> Iterator[None]:
    """Wait until an image of so many pixels may be decoded in this process; first come, first served.

    Args:
        meanwhile: called while waiting, ten times a second; what it raises ends the wait.
    """
    if pixels <= SMALL_PIXELS:
        yield
        return
    ticket = object()
    with _changed:
        _waiting.append(ticket)
        try:
            while _waiting[0] is not ticket or (_taken[0] and _taken[0] + pixels > PIXELS_AT_ONCE):
                _changed.wait(0.1)
                meanwhile()
            _taken[0] += pixels
        finally:
            _waiting.remove(ticket)
            _changed.notify_all()
    try:
        yield
    finally:
        with _changed:
            _taken[0] -= pixels
            _changed.notify_all()
