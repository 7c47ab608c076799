"""The paper's Custom CNN: Conv2D, MaxPooling2D, BatchNormalization, Flatten, Dense (PAPER.md, model 1).

The paper gives the kinds of layers but not their sizes; these are chosen so that two processor cores train it at more
than a hundred images a second.

    input   float32 (N, S, S, 3) in 0..255, three equal channels
    output  float32 (N, classes), softmax
"""

import keras
from keras import layers

FILTERS = (16, 32, 64, 128, 128)
_MOMENTUM = 0.9  # batch normalisation forgets fast enough to be right after a few dozen steps


def build(*, classes: int, size: int, dropout: float) -> keras.Model:
    """A fresh network.

    Args:
        classes: number of outputs, at least 2.
        size: side of the input in pixels, at least 32.
        dropout: share of the dense layer's outputs dropped in training, in [0, 1).
    """
    inputs = keras.Input((size, size, 3), name="image")
    x = layers.Rescaling(1 / 255, name="to_unit")(inputs)
    for number, filters in enumerate(FILTERS, start=1):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu", name=f"conv{number}")(x)
        x = layers.MaxPooling2D(name=f"pool{number}")(x)
        x = layers.BatchNormalization(momentum=_MOMENTUM, name=f"norm{number}")(x)
    x = layers.Flatten(name="flatten")(x)
    x = layers.Dense(128, activation="relu", name="dense")(x)
    x = layers.Dropout(dropout, name="dropout")(x)
    outputs = layers.Dense(classes, activation="softmax", name="probabilities")(x)
    return keras.Model(inputs, outputs, name="custom_cnn")
