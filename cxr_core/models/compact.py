"""The same network in fewer bytes: batch normalisation folded into the convolutions before it, kernels in half precision.

Half precision means that kernels take values which float16 has; they are stored and computed with as float32, so any program
reads them, and a compressed file of them has half the size.
"""

import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cxr_core import workspace

_CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)
_LARGEST = float(np.finfo(np.float16).max)


def compacted(model: keras.Model) -> keras.Model:
    """A network that answers as `model` does, but for what rounding its kernels to half precision changes.

    Args:
        model: one flat graph.

    Returns:
        A network of its own. Batch normalisation that follows a convolution, and nothing else does, is gone; its scale is in
        the convolution's kernel (Jacob et al., "Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference", 2017, section 3.2). All other layers keep their names.
    """
    folded = dict(_folded_layers(model))
    gone = {norm.name for norm in folded.values()}

    def fresh(layer: Any) -> Any:
        settings = layer.get_config()
        if layer.name in folded:
            settings["use_bias"] = True
        return type(layer).from_config(settings)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in gone else layer(*args, **kwargs)

    small = keras.models.clone_model(model, clone_function=fresh, call_function=call)
    for layer in model.layers:
        if not layer.weights or layer.name in gone:
            continue
        values = layer.get_weights()
        if layer.name in folded:
            values = _with_norm(values, layer, folded[layer.name])
        small.get_layer(layer.name).set_weights([in_half_precision(value) for value in values])
    return small


def _folded_layers(model: keras.Model) -> list[tuple[str, keras.layers.BatchNormalization]]:
    """Name of each convolution that batch normalisation alone follows, and that normalisation."""
    pairs = []
    for layer in model.layers:
        if not isinstance(layer, keras.layers.BatchNormalization):
            continue
        (source,) = [node.operation for node in layer._inbound_nodes[0].parent_nodes]
        plain = isinstance(source, _CONVOLUTIONS) and source.activation is keras.activations.linear
        if plain and len(source._outbound_nodes) == 1 and source.output is not model.output:
            pairs.append((source.name, layer))
    return pairs


def _with_norm(values: list[Any], layer: Any, norm: Any) -> list[Any]:
    """Kernel and bias of a convolution that does what it and the normalisation behind it did."""
    mean, variance = (np.asarray(value, np.float64) for value in (norm.moving_mean, norm.moving_variance))
    scale = 1 / np.sqrt(variance + norm.epsilon)
    if norm.scale:
        scale = scale * np.asarray(norm.gamma)
    bias = (np.asarray(values[1], np.float64) if layer.use_bias else 0.0) - mean
    kernel = np.asarray(values[0], np.float64)
    shape = (1, 1, *kernel.shape[2:]) if isinstance(layer, keras.layers.DepthwiseConv2D) else (1, 1, 1, -1)
    bias = bias * scale + (np.asarray(norm.beta) if norm.center else 0.0)
    return [(kernel * scale.reshape(shape)).astype(np.float32), bias.astype(np.float32)]


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Give `target` the weights of the compact network `source`, which was the same network before; its classifier may lack.

    Raises:
        ValueError: `source` lacks a layer, or one has another shape.
    """
    there = {layer.name: layer.get_weights() for layer in source.layers if layer.weights}
    folded = {norm.name: name for name, norm in _folded_layers(target) if norm.name not in there}
    for layer in target.layers:
        if layer.name in folded:
            shift = there[folded[layer.name]][-1]
            plain = {"gamma": 1.0, "beta": shift, "moving_mean": 0.0, "moving_variance": 1 - layer.epsilon}
            layer.set_weights([np.broadcast_to(plain[weight.name], weight.shape) for weight in layer.weights])
        elif layer.weights and layer.name not in there:
            raise ValueError(f"It has no layer {layer.name}.")
        elif layer.weights:
            layer.set_weights(there[layer.name][: len(layer.weights)])


def in_half_precision(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Kernels, float32 of two dimensions or more, with values that float16 has; what float16 cannot hold, and vectors, as they are.

    The error is at most 2⁻¹¹ of a value, or 3·10⁻⁸.
    """
    if values.ndim < 2 or not np.abs(values).max(initial=0.0) < _LARGEST:
        return values
    return values.astype(np.float16).astype(np.float32)


def compact_file(path: Path) -> None:
    """Compact the network in a .keras file, and compress the file; a second time nothing changes.

    Raises:
        WorkFailed: the disk is full or cannot be written.
        ValueError, OSError: it is no network, or damaged.
    """
    small = compacted(keras.saving.load_model(path, compile=False))
    with workspace.replacing(path, only_writer=True) as part:
        plain = part.with_name(f"plain-{path.name}")
        try:
            small.save(plain)
            with zipfile.ZipFile(plain) as source, zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as target:
                for entry in source.infolist():
                    target.writestr(entry.filename, source.read(entry), zipfile.ZIP_DEFLATED)
        finally:
            plain.unlink(missing_ok=True)
