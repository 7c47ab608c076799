"""ResNet-152 as PyTorch's authors build it ("v1.5"), for weights that were learnt so. Layers are named as in Keras' own.

Keras' ResNet-152 halves the image in the first 1 × 1 convolution of a stage, this one in the 3 × 3 after it; its convolutions
have no biases, and its padding is the same on all sides.

input   float32 (N, S, S, 3) in 0..255, three equal channels
output  features, float32 (N, ⌈S/32⌉, ⌈S/32⌉, 2048)
"""

from typing import Any

import keras

from cxr_core.models import layers

BLOCKS = {"resnet152": (3, 8, 36, 3)}
_CHANNELS = (64, 128, 256, 512)  # of a stage's narrow convolutions; its output has four times as many


def backbone(name: str, size: int | None, scaling: str) -> keras.Model:
    """The network `name` of BLOCKS without its classifier; `scaling` as in `catalogue.SCALINGS`, OWN is 0..1."""
    inputs, x = layers.pretrained_input(size, scaling, mean=(0.0,) * 3, deviation=(255.0,) * 3)
    x = _convolution(x, 64, 7, 2, "conv1")
    x = keras.layers.ReLU(name="conv1_relu")(x)
    x = keras.layers.ZeroPadding2D(1, name="pool1_pad")(x)
    x = keras.layers.MaxPooling2D(3, strides=2, name="pool1_pool")(x)
    for stage, (channels, blocks) in enumerate(zip(_CHANNELS, BLOCKS[name], strict=False), start=2):
        for block in range(1, blocks + 1):
            x = _block(x, channels, stride=2 if stage > 2 and block == 1 else 1, name=f"conv{stage}_block{block}")
    return keras.Model(inputs, x, name=name)


def _block(x: Any, channels: int, *, stride: int, name: str) -> Any:
    wide = 4 * channels
    way_round = x if x.shape[-1] == wide else _convolution(x, wide, 1, stride, f"{name}_0")
    x = keras.layers.ReLU(name=f"{name}_1_relu")(_convolution(x, channels, 1, 1, f"{name}_1"))
    x = keras.layers.ReLU(name=f"{name}_2_relu")(_convolution(x, channels, 3, stride, f"{name}_2"))
    x = _convolution(x, wide, 1, 1, f"{name}_3")
    return keras.layers.ReLU(name=f"{name}_out")(keras.layers.Add(name=f"{name}_add")([way_round, x]))


def _convolution(x: Any, channels: int, kernel: int, stride: int, name: str) -> Any:
    if kernel > 1:
        x = keras.layers.ZeroPadding2D(kernel // 2, name=f"{name}_pad")(x)
    x = keras.layers.Conv2D(
        channels, kernel, stride, use_bias=False, kernel_initializer="he_normal", name=f"{name}_conv"
    )(x)
    return keras.layers.BatchNormalization(epsilon=1e-5, name=f"{name}_bn")(x)


def torch_names(model: keras.Model) -> dict[str, str]:
    """Layer of the network → the same layer's name in a state dict of PyTorch's ResNet."""
    names = {"conv1_conv": "conv1", "conv1_bn": "bn1"}
    for layer in model.layers:
        if layer.weights and layer.name not in names:
            stage, block, number, kind = layer.name.split("_")
            prefix = f"layer{int(stage.removeprefix('conv')) - 1}.{int(block.removeprefix('block')) - 1}"
            inside = f"downsample.{('conv', 'bn').index(kind)}" if number == "0" else f"{kind}{number}"
            names[layer.name] = f"{prefix}.{inside}"
    return names
