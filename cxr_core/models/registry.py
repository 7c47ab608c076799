"""From a model's name to a Keras model: every builder has the same signature."""

from collections.abc import Callable
from functools import partial

import keras

from cxr_core.errors import BadInput
from cxr_core.models import ann, backbones, catalogue, custom_cnn, efficientnet_lite, layers, resnet, resnet_v15

Builder = Callable[..., keras.Model]

BACKBONES: dict[str, Builder] = {
    **{name: partial(backbones.backbone, name) for name in backbones.PUBLISHED},
    **{name: partial(resnet.backbone, name) for name in resnet.BLOCKS},
    **{name: partial(efficientnet_lite.backbone, name) for name in efficientnet_lite.SIZES},
}
OTHER_GRAPHS: dict[tuple[str, str], Builder] = {
    (name, catalogue.ASTRA): partial(resnet_v15.backbone, name) for name in resnet_v15.BLOCKS
}
"""(Model, starting weights) → the builder of BACKBONES' graph as these weights need it."""
BUILDERS: dict[str, Builder] = {"custom_cnn": custom_cnn.build, "ann": ann.build}


def build(
    name: str,
    *,
    classes: int,
    size: int | None,
    dropout: float = 0.0,
    scaling: str = catalogue.OWN,
    head: str = catalogue.FLATTEN,
    backbone: keras.Model | None = None,
    weights: str = catalogue.SCRATCH,
) -> keras.Model:
    """Build the model `name`, with fresh weights or on a given backbone.

    Args:
        classes: number of outputs.
        size: side of the input, in pixels; None takes any, with a head that averages.
        dropout: share dropped before the last layer in training, in [0, 1).
        scaling: how pixels are scaled, of `catalogue.SCALINGS`.
        head: how features become one row, of `catalogue.POOLINGS`.
        backbone: from `build_backbone`, with its weights loaded; only for models that have one.
        weights: what the network will start from or has started from; without a backbone it decides about the graph.

    Returns:
        A flat Keras model: float32 (N, size, size, 3) in 0..255 to float32 (N, classes), rows summing to 1.

    Raises:
        UnknownName: no such model.
        BadInput: the image is too small for it.
    """
    model = catalogue.get(name)
    if size is not None and size < model.smallest:
        raise BadInput(f"{model.title} needs images of at least {model.smallest} pixels a side. Received: {size}.")
    if name in BUILDERS:
        return BUILDERS[name](classes=classes, size=size, dropout=dropout, scaling=scaling, head=head)
    if backbone is None:
        backbone = build_backbone(name, size=size, scaling=scaling, weights=weights)
    outputs = layers.classifier(backbone.output, classes=classes, dropout=dropout, head=head)
    return keras.Model(backbone.input, outputs, name=name)


def build_backbone(
    name: str, *, size: int | None, scaling: str = catalogue.OWN, weights: str = catalogue.SCRATCH
) -> keras.Model:
    """The part of the model `name` that makes features, fresh, as `weights` need it: float32 (N, size, size, 3) to (N, h, w, c)."""
    builder = OTHER_GRAPHS.get((name, weights)) or BACKBONES[catalogue.get(name).name]
    return builder(size, scaling)
