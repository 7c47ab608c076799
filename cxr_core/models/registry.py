"""From a model's name to a Keras model: every builder has the same signature."""

from collections.abc import Callable
from functools import partial

import keras

from cxr_core.errors import BadInput
from cxr_core.models import ann, backbones, catalogue, custom_cnn, efficientnet_lite, layers, resnet

Builder = Callable[..., keras.Model]

BACKBONES: dict[str, Builder] = {
    **{name: partial(backbones.backbone, name) for name in backbones.PUBLISHED},
    **{name: partial(resnet.backbone, name) for name in resnet.BLOCKS},
    **{name: partial(efficientnet_lite.backbone, name) for name in efficientnet_lite.SIZES},
}
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
) -> keras.Model:
    """Build the model `name`, with fresh weights or on a given backbone.

    Args:
        classes: number of outputs.
        size: side of the input, in pixels; None takes any, with a head that averages.
        dropout: share dropped before the last layer in training, in [0, 1).
        scaling: how pixels are scaled, of `catalogue.SCALINGS`.
        head: how features become one row, of `catalogue.POOLINGS`.
        backbone: from `build_backbone`, with its weights loaded; only for models that have one.

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
        backbone = build_backbone(name, size=size, scaling=scaling)
    outputs = layers.classifier(backbone.output, classes=classes, dropout=dropout, head=head)
    return keras.Model(backbone.input, outputs, name=name)


def build_backbone(name: str, *, size: int | None, scaling: str = catalogue.OWN) -> keras.Model:
    """The part of the model `name` that makes features, with fresh weights: float32 (N, size, size, 3) to (N, h, w, c)."""
    return BACKBONES[catalogue.get(name).name](size, scaling)
