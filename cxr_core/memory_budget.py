"""Memory budget of decoding: large images are decoded one at a time, so that many at once do not fill the memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

LARGE_PIXELS = 16_000_000  # a radiograph of 4,000 × 4,000; one of 100 million takes up to 0.8 GB while it is decoded

_lock = threading.Lock()


@contextmanager
def reserve(pixels: int) -> Iterator[None]:
    """Wait until no other image of more than LARGE_PIXELS is decoded in this process, if this is one."""
    if pixels <= LARGE_PIXELS:
        yield
        return
    with _lock:
        yield
