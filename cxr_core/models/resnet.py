"""ResNet-18 and ResNet-34 (He et al., "Deep Residual Learning for Image Recognition", 2015, table 1); Keras has only the
larger ones.

    input   float32 (N, S, S, 3) in 0..255, three equal channels
    output  features, float32 (N, ⌈S/32⌉, ⌈S/32⌉, 512)
"""

from typing import Any

import keras

from cxr_core.models import catalogue, layers

CHANNELS = (64, 128, 256, 512)
BLOCKS = {"resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}


def backbone(name: str, size: int | None, scaling: str) -> keras.Model:
    """The network without its classifier; `scaling` as in `catalogue.SCALINGS`."""
    inputs, x = layers.scaled_input(size, catalogue.STANDARD if scaling == catalogue.OWN else scaling)
    x = _convolution(x, 64, 7, 2, "stem")
    x = keras.layers.ReLU(name="stem_relu")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, (channels, blocks) in enumerate(zip(CHANNELS, BLOCKS[name], strict=True), start=1):
        for block in range(1, blocks + 1):
            x = _block(x, channels, stride=2 if stage > 1 and block == 1 else 1, name=f"stage{stage}_block{block}")
    return keras.Model(inputs, x, name=name)


def _block(x: Any, channels: int, *, stride: int, name: str) -> Any:
    way_round = x if stride == 1 and x.shape[-1] == channels else _convolution(x, channels, 1, stride, f"{name}_0")
    x = keras.layers.ReLU(name=f"{name}_relu")(_convolution(x, channels, 3, stride, f"{name}_1"))
    x = _convolution(x, channels, 3, 1, f"{name}_2")
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([way_round, x]))


def _convolution(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
    x = keras.layers.Conv2D(
        channels, kernel, stride, padding="same", use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(momentum=0.9, name=f"{name}_norm")(x)
