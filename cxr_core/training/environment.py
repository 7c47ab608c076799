"""On what a run was trained: versions and devices, saved with it."""

import platform
from importlib.metadata import version
from typing import Any

import keras
import psutil

from cxr_core import __version__, process

_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "pillow", "scikit-learn")


def device() -> str:
    """What Keras computes on, in words: the graphics card's name, or the processor's cores."""
    names = _gpus()
    return ", ".join(names) if names else f"CPU, {process.cores()} cores"


def describe() -> dict[str, Any]:
    """Versions, device and machine, as a JSON document."""
    return {
        "cxr_core": __version__,
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "packages": {name: version(name) for name in _PACKAGES},
        "device": device(),
        "machine": platform.platform(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _gpus() -> list[str]:
    if keras.backend.backend() != "tensorflow":
        return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    return [tf.config.experimental.get_device_details(card).get("device_name", "GPU") for card in cards]
