"""Capabilities of this machine, without Keras: its graphics cards, and how fast its processor multiplies matrices."""

import os
import time
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib.util import find_spec

import numpy as np
import pynvml

from cxr_core.errors import BadInput

BACKENDS = ("tensorflow", "jax", "torch")
_AGAIN_SECONDS = 600
_SIDE = 2048  # large enough to reach the processor's rate, small enough to be measured in a fraction of a second


@dataclass(frozen=True)
class Gpu:
    """A graphics card and its memory in GB (2³⁰ bytes)."""

    name: str
    memory_gb: float


def check_backend() -> None:
    """Check that the `KERAS_BACKEND` asked for is installed here.

    Raises:
        BadInput: it is none of BACKENDS, or is not installed.
    """
    backend = os.environ.get("KERAS_BACKEND") or BACKENDS[0]
    if backend not in BACKENDS:
        raise BadInput(f"KERAS_BACKEND is one of {', '.join(BACKENDS)}. Received: '{backend}'.")
    if find_spec(backend) is not None:
        return
    if not os.environ.get("KERAS_BACKEND"):
        raise BadInput(
            "TensorFlow is not installed here, and training needs it. Install it with: pip install -r requirements.txt (or "
            "pip install tensorflow keras h5py)."
        )
    raise BadInput(
        f"KERAS_BACKEND={backend} was asked for, but {backend} is not installed. Install it with pip install {backend}, "
        "or unset KERAS_BACKEND to compute on TensorFlow."
    )


@cache
def list_gpus() -> tuple[Gpu, ...]:
    """The NVIDIA cards that their driver tells of; none without a driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
        return tuple(
            Gpu(str(pynvml.nvmlDeviceGetName(handle)), round(pynvml.nvmlDeviceGetMemoryInfo(handle).total / 2**30, 1))
            for handle in handles
        )
    finally:
        pynvml.nvmlShutdown()


def gpu_ids() -> tuple[str, ...]:
    """The graphics cards that trainings may use, as CUDA_VISIBLE_DEVICES names them."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is None:
        return tuple(str(number) for number in range(len(list_gpus())))
    return tuple(gpu_id for gpu_id in visible.split(",") if gpu_id and gpu_id != "-1") if list_gpus() else ()


def gflops() -> float:
    """The processor's rate of single-precision matrix products, 2·n³ operations each, in 10⁹ a second.

    The best of all measurements of this process, which are repeated when the last is ten minutes old: while one is made,
    other programs may have the processor.
    """
    _rates.add(_measure_gflops(int(time.monotonic() // _AGAIN_SECONDS)))
    return max(_rates)


_rates: set[float] = set()


@lru_cache(maxsize=1)
def _measure_gflops(interval: int) -> float:  # noqa: ARG001 - part of the key
    square = np.ones((_SIDE, _SIDE), np.float32)
    best = np.inf
    for _ in range(3):
        start = time.perf_counter()
        square @ square
        best = min(best, time.perf_counter() - start)
    return float(2 * _SIDE**3 / best / 1e9)
