"""A network cut in two: a frozen trunk, whose answer to an image is always the same, and the part that learns."""

import keras

from cxr_core.models import catalogue


def cut(core: keras.Model, boundary: str) -> tuple[keras.Model, keras.Model]:
    """The part up to the layer `boundary` and the part behind it; both share the layers of `core`.

    Args:
        core: images to probabilities, one flat graph.
        boundary: name of a layer, as `catalogue.Model.boundary` gives it.

    Returns:
        images to features, features to probabilities.
    """
    edge = core.get_layer(boundary).output
    return keras.Model(core.input, edge, name="trunk"), keras.Model(edge, core.output, name="part")


def freeze(core: keras.Model, boundary: str, *, pretrained: bool) -> None:
    """Let only the layers behind `boundary` learn; all, if it is empty or lies before the network's first layer.

    Batch normalisation of a pretrained network stays as it is in any case: its means are of more images than a batch holds.
    """
    behind = boundary not in {layer.name for layer in core.layers}
    for layer in core.layers:
        layer.trainable = behind and not (pretrained and isinstance(layer, keras.layers.BatchNormalization))
        behind = behind or layer.name == boundary


def release(core: keras.Model, model: catalogue.Model, trained: str, *, pretrained: bool) -> None:
    """Freeze `core` for what is to learn of it, `trained` of `catalogue.TRAINED`."""
    freeze(core, model.boundary(trained), pretrained=pretrained and model.has_trunk)
