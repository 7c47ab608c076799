"""Environment of a training: versions and devices, saved with its run."""

import platform
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import psutil

from cxr_core import __version__, process

_PACKAGES = ("tensorflow", "keras", "numpy", "pandas", "pillow", "scipy")


def describe() -> dict[str, Any]:
    """Versions, device and machine, as a JSON document; without Keras there is no backend."""
    backend, device = None, f"CPU, {process.cpu_count()} cores"
    with suppress(ModuleNotFoundError):
        import keras

        from cxr_core.training import devices

        backend, device = keras.backend.backend(), devices.describe()
    return {
        "cxr_core": __version__,
        "python": platform.python_version(),
        "backend": backend,
        "packages": {name: number for name in _PACKAGES if (number := _version(name))},
        "device": device,
        "machine": platform.platform(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
