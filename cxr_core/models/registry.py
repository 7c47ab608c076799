"""From a model's name to a Keras model: every builder has the same signature."""

from collections.abc import Callable

import keras

from cxr_core.models import catalogue, custom_cnn

BUILDERS: dict[str, Callable[..., keras.Model]] = {
    "custom_cnn": custom_cnn.build,
}


def build(name: str, *, classes: int, size: int, dropout: float) -> keras.Model:
    """Build the model `name` with fresh weights.

    Args:
        classes: number of outputs.
        size: side of the input, in pixels.
        dropout: share dropped before the last layer in training, in [0, 1).

    Returns:
        A flat Keras model: float32 (N, size, size, 3) in 0..255 to float32 (N, classes), rows summing to 1.

    Raises:
        UnknownName: no such model.
    """
    return BUILDERS[catalogue.get(name).name](classes=classes, size=size, dropout=dropout)
