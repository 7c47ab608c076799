"""A plain artificial neural network, no convolution: what the paper's literature table calls ANN (row [3]).

input   float32 (N, S, S, 3) in 0..255, three equal channels
output  float32 (N, classes), softmax
"""

import keras

from cxr_core.models import layers

_SHRINK = 3  # a third of the side: 180 pixels become 60, else the first dense layer alone has 12 million parameters


def build(*, classes: int, size: int | None, dropout: float, scaling: str, head: str) -> keras.Model:  # noqa: ARG001
    """A fresh network; arguments as of `registry.build` (it has its own head)."""
    inputs, x = layers.scaled_input(size, scaling)
    x = keras.layers.AveragePooling2D(_SHRINK, name="small_image")(x)
    x = keras.layers.Flatten(name="flatten")(x)
    x = keras.layers.Dense(128, activation="relu", name="dense1")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    x = keras.layers.Dense(64, activation="relu", name="dense2")(x)
    return keras.Model(inputs, layers.softmax_layer(x, classes), name="ann")
