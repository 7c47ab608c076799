"""The paper's Custom CNN: Conv2D, MaxPooling2D, BatchNormalization, Flatten, Dense.

The paper gives the kinds of layers but not their sizes; these are chosen so that two processor cores train it at more
than a hundred images a second.

    input   float32 (N, S, S, 3) in 0..255, three equal channels
    output  float32 (N, classes), softmax
"""

import keras

from cxr_core.models import layers

FILTERS = (16, 32, 64, 128, 128)
_MOMENTUM = 0.9  # batch normalisation forgets fast enough to be right after a few dozen steps


def build(*, classes: int, size: int | None, dropout: float, scaling: str, head: str) -> keras.Model:
    """A fresh network; arguments as of `registry.build`. With head "average" the dense layer sees means over all places."""
    inputs, x = layers.scaled_input(size, scaling)
    for number, filters in enumerate(FILTERS, start=1):
        x = keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = keras.layers.MaxPooling2D(name=f"pool{number}")(x)
        x = keras.layers.BatchNormalization(momentum=_MOMENTUM, name=f"norm{number}")(x)
    x = layers.pooled(x, head)
    x = keras.layers.Dense(128, activation="relu", name="dense")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(inputs, layers.softmax_layer(x, classes), name="custom_cnn")
