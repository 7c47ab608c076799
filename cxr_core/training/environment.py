"""Environment of a training: versions and devices, saved with its run."""

import platform
from importlib.metadata import version
from typing import Any

import keras
import psutil

from cxr_core import __version__
from cxr_core.training import devices

_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "pillow", "scipy")


def describe() -> dict[str, Any]:
    """Versions, device and machine, as a JSON document."""
    return {
        "cxr_core": __version__,
        "python": platform.python_version(),
        "backend": keras.backend.backend(),
        "packages": {name: version(name) for name in _PACKAGES},
        "device": devices.describe(),
        "machine": platform.platform(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }
