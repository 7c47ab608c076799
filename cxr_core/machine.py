"""What this machine can do, without Keras: its graphics cards, and how fast its processor multiplies matrices."""

import time
from dataclasses import dataclass
from functools import cache

import numpy as np
import pynvml

_SIDE = 2048  # large enough to reach the processor's rate, small enough to be measured in a fraction of a second


@dataclass(frozen=True)
class Card:
    """A graphics card and its memory in GB (2³⁰ bytes)."""

    name: str
    memory_gb: float


@cache
def cards() -> tuple[Card, ...]:
    """The NVIDIA cards that their driver tells of; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        found = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            Card(str(pynvml.nvmlDeviceGetName(one)), round(pynvml.nvmlDeviceGetMemoryInfo(one).total / 2**30, 1))
            for one in found
        )
    finally:
        pynvml.nvmlShutdown()


@cache
def gflops() -> float:
    """The processor's rate of single-precision matrix products, 2·n³ operations each, in 10⁹ a second; measured once."""
    square = np.ones((_SIDE, _SIDE), np.float32)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - start)
    return float(2 * _SIDE**3 / best / 1e9)
