"""Devices that Keras computes on: graphics cards by name, half precision, several cards for one run."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import keras

from cxr_core import process


@dataclass(frozen=True)
class Device:
    """A graphics card; `fast_half_precision`: whether half precision is faster there."""

    name: str
    fast_half_precision: bool


def list_gpus() -> list[Device]:
    """The graphics cards that the backend in use has found."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        details = [tf.config.experimental.get_device_details(gpu) for gpu in tf.config.list_physical_devices("GPU")]
        return [
            Device(gpu.get("device_name", "GPU"), tuple(gpu.get("compute_capability", (0, 0))) >= (7, 0))
            for gpu in details
        ]
    if backend == "torch":
        import torch

        return [
            Device(torch.cuda.get_device_name(number), torch.cuda.get_device_capability(number) >= (7, 0))
            for number in range(torch.cuda.device_count())
        ]
    import jax

    return [Device(device.device_kind, True) for device in jax.devices() if device.platform in ("gpu", "cuda", "rocm")]


def describe() -> str:
    """Devices that a run computes on, for people: the cards' names, or the processor's cores."""
    names = [gpu.name for gpu in list_gpus()]
    return ", ".join(names) if names else f"CPU, {process.cpu_count()} cores"


def supports_half_precision() -> str | None:
    """Keras' name of the mixed precision that fits the cards; None where float32 is as good."""
    gpus = list_gpus()
    if not gpus or not all(gpu.fast_half_precision for gpu in gpus):
        return None
    return "mixed_bfloat16" if keras.backend.backend() == "jax" else "mixed_float16"


@contextmanager
def precision_scope(policy: str | None) -> Iterator[None]:
    """Layers made inside compute by `policy`; their weights and the last layer stay float32."""
    before = keras.mixed_precision.dtype_policy()
    if policy:
        keras.mixed_precision.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_dtype_policy(before)


def distribution_scope() -> Any:
    """A context in which a network is made for all cards: each takes its share of every batch. One card: nothing changes."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        if len(jax.devices()) > 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel(auto_shard_dataset=False))
    elif backend == "tensorflow" and len(list_gpus()) > 1:
        import tensorflow as tf

        return tf.distribute.MirroredStrategy().scope()
    return nullcontext()


def is_out_of_memory(error: BaseException) -> bool:
    """True if the error means that the device's memory is full, on any backend."""
    messages = ("OOM when", "RESOURCE_EXHAUSTED", "out of memory")  # TensorFlow, JAX, torch
    return type(error).__name__ in ("ResourceExhaustedError", "OutOfMemoryError") or any(
        message in str(error) for message in messages
    )
