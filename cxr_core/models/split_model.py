"""A network cut in two: a frozen backbone, whose answer to an image is always the same, and the part that learns."""

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cxr_core.models import catalogue


def split(core: keras.Model, cut_layer: str) -> tuple[keras.Model, keras.Model]:
    """The part up to the layer `cut_layer` and the part behind it; both share the layers of `core`.

    Args:
        core: images to probabilities, one flat graph.
        cut_layer: name of a layer, as `catalogue.Architecture.cut_layer` gives it.

    Returns:
        images to features, features to probabilities.
    """
    edge = core.get_layer(cut_layer).output
    return keras.Model(core.input, edge, name="backbone"), keras.Model(edge, core.output, name="part")


def with_feature_table(part: keras.Model, values: npt.NDArray[np.float32]) -> keras.Model:
    """`part` behind a table of all features: row numbers int32 (N,) to probabilities; for training, it cannot be saved.

    A step then hands over a few numbers instead of megabytes. The table is no variable of the network.

    Args:
        part: features (h, w, c) to probabilities; its layers become the network's.
        values: float32 (n, h, w, c).
    """
    rows = keras.Input((), dtype="int32", name="row")
    return keras.Model(rows, part(_Table(values)(rows)), name="looking_up")


class _Table(keras.layers.Layer):
    def __init__(self, values: npt.NDArray[np.float32]):
        super().__init__(trainable=False, name="table")
        self._held = keras.ops.convert_to_tensor(values)

    def call(self, rows: Any) -> Any:
        return keras.ops.take(self._held, rows, axis=0)


def freeze(core: keras.Model, cut_layer: str, *, pretrained: bool) -> None:
    """Let only the layers behind `cut_layer` learn; all, if it is empty or lies before the network's first layer.

    Batch normalisation of a pretrained network stays as it is in any case: its means are of more images than a batch holds.
    """
    behind = cut_layer not in {layer.name for layer in core.layers}
    for layer in core.layers:
        layer.trainable = behind and not (pretrained and isinstance(layer, keras.layers.BatchNormalization))
        behind = behind or layer.name == cut_layer


def unfreeze(core: keras.Model, model: catalogue.Architecture, trained: str, *, pretrained: bool) -> None:
    """Freeze `core` for what is to learn of it, `trained` of `catalogue.TRAINABLE_PARTS`."""
    freeze(core, model.cut_layer(trained), pretrained=pretrained and model.has_backbone)
