"""EfficientNet-Lite 0 to 2: EfficientNet (Tan and Le, 2019) as Google changed it for telephones in 2020, without channel
attention and with ReLU6. `keras.applications` does not have it.

input   float32 (N, S, S, 3) in 0..255, three equal channels
output  features, float32 (N, ⌈S/32⌉, ⌈S/32⌉, 1280)
"""

import math
from typing import Any

import keras

from cxr_core.models import layers

SIZES: dict[str, tuple[float, float]] = {  # how much wider and deeper than the smallest
    "efficientnet_lite0": (1.0, 1.0),
    "efficientnet_lite1": (1.0, 1.1),
    "efficientnet_lite2": (1.1, 1.2),
}

# Kernel, stride, how much wider inside, channels, blocks. Lite widens neither the stem nor the head, and repeats the first
# and the last stage as often at every size.
_STAGES = (
    (3, 1, 1, 16, 1),
    (3, 2, 6, 24, 2),
    (5, 2, 6, 40, 2),
    (3, 2, 6, 80, 3),
    (5, 1, 6, 112, 3),
    (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)
_STEM, _HEAD = 32, 1280
_MEAN, _DEVIATION = (127.0,) * 3, (128.0,) * 3  # of the pixels that it was trained on


def backbone(name: str, size: int | None, scaling: str) -> keras.Model:
    """The network `name` of SIZES without its classifier; `scaling` as in `catalogue.SCALINGS`."""
    width, depth = SIZES[name]
    inputs, x = layers.pretrained_input(size, scaling, mean=_MEAN, deviation=_DEVIATION)
    x = _convolution(x, "stem", _STEM, 3, stride=2)
    for stage, (kernel, stride, wider, channels, blocks) in enumerate(_STAGES, start=1):
        ends = stage in (1, len(_STAGES))
        for block in range(blocks if ends else math.ceil(blocks * depth)):
            x = _block(
                x,
                f"block{stage}{chr(ord('a') + block)}",
                channels=_rounded(channels * width),
                kernel=kernel,
                stride=1 if block else stride,
                wider=wider,
            )
    x = _convolution(x, "top", _HEAD, 1)
    return keras.Model(inputs, x, name=name)


def _rounded(channels: float) -> int:
    """To a multiple of 8, and no more than a tenth below."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def _block(x: Any, name: str, *, channels: int, kernel: int, stride: int, wider: int) -> Any:
    """Wider by 1 × 1, then channel by channel, then back to few channels; around it where the shape stays the same."""
    entered, inside = x, x.shape[-1] * wider
    if wider > 1:
        x = _convolution(x, f"{name}_expand", inside, 1)
    x = _convolution(x, f"{name}_depthwise", inside, kernel, stride=stride, depthwise=True)
    x = _convolution(x, f"{name}_project", channels, 1, activated=False)
    if stride == 1 and entered.shape[-1] == channels:
        x = keras.layers.Add(name=f"{name}_add")([x, entered])
    return x


def _convolution(
    x: Any,
    name: str,
    channels: int,
    kernel: int,
    *,
    stride: int = 1,
    depthwise: bool = False,
    activated: bool = True,
) -> Any:
    shared: dict[str, Any] = {"strides": stride, "padding": "same", "use_bias": False, "name": f"{name}_conv"}
    x = (
        keras.layers.DepthwiseConv2D(kernel, depthwise_initializer="he_normal", **shared)(x)
        if depthwise
        else keras.layers.Conv2D(channels, kernel, kernel_initializer="he_normal", **shared)(x)
    )
    x = keras.layers.BatchNormalization(epsilon=1e-3, name=f"{name}_norm")(x)
    return keras.layers.ReLU(max_value=6, name=f"{name}_activation")(x) if activated else x


def torch_names(model: keras.Model) -> dict[str, str]:
    """Layer of the network → the same layer's name in the published weights."""
    names = {"stem_conv": "_conv_stem", "stem_norm": "_bn0", "top_conv": "_conv_head", "top_norm": "_bn1"}
    blocks: dict[str, int] = {}
    norms = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
    for layer in model.layers:
        if layer.weights and layer.name not in names:
            block, step, kind = layer.name.split("_")
            number = blocks.setdefault(block, len(blocks))
            names[layer.name] = f"_blocks.{number}.{f'_{step}_conv' if kind == 'conv' else norms[step]}"
    return names
