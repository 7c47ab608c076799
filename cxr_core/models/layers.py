"""Layers that several architectures share: input scaling, pooling, and the classifier."""

from typing import Any

import keras
from keras import layers

from cxr_core.models.catalogue import AVERAGE, OWN, STANDARD


def scaled_input(size: int | None, scaling: str) -> tuple[Any, Any]:
    """An input, float32 (N, size, size, 3) in 0..255, and what follows of it: 0..1 (UNIT) or per image mean 0 (STANDARD)."""
    inputs = keras.Input((size, size, 3), name="image")
    if scaling == STANDARD:
        # Over the whole image; there is nothing to learn in it.
        return inputs, layers.LayerNormalization(
            axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, name="standardised"
        )(inputs)
    return inputs, layers.Rescaling(1 / 255, name="to_unit")(inputs)


_MIDDLE, _SPREAD = 114.5, 57.6  # grey level and deviation of ImageNet's pixels, over its three channels


def pretrained_input(
    size: int | None, scaling: str, *, mean: tuple[float, float, float] | None, deviation: tuple[float, float, float]
) -> tuple[Any, Any]:
    """An input as `scaled_input` has it, and what follows of it for a network that was trained on photographs.

    Args:
        scaling: of `catalogue.SCALINGS`; OWN is (x - mean) / deviation, and STANDARD first gives each image the mean and
            spread that ImageNet's photographs have.
        mean, deviation: per channel, of pixels in 0..255; a mean of None if the network itself scales its input.
    """
    if scaling == OWN:
        inputs = keras.Input((size, size, 3), name="image")
        if mean is None:
            return inputs, inputs
        offset = tuple(-middle / spread for middle, spread in zip(mean, deviation, strict=True))
        return inputs, layers.Rescaling(tuple(1 / one for one in deviation), offset=offset, name="as_trained")(inputs)
    inputs, x = scaled_input(size, scaling)
    if scaling == STANDARD and mean is None:
        x = layers.Rescaling(_SPREAD, offset=_MIDDLE, name="as_photograph")(x)
    elif scaling == STANDARD:
        offset = tuple((_MIDDLE - middle) / spread for middle, spread in zip(mean or (), deviation, strict=True))
        x = layers.Rescaling(tuple(_SPREAD / one for one in deviation), offset=offset, name="as_photograph")(x)
    return inputs, x


def pooled(features: Any, head: str) -> Any:
    """(N, h, w, c) to one row an image: (N, h·w·c) with FLATTEN, (N, c) with AVERAGE."""
    if head == AVERAGE:
        return layers.GlobalAveragePooling2D(name="average")(features)
    return layers.Flatten(name="flatten")(features)


def softmax_layer(x: Any, classes: int, *, start: str = "glorot_uniform") -> Any:
    """The last layer, float32 also where the network computes in half precision."""
    return layers.Dense(classes, activation="softmax", dtype="float32", kernel_initializer=start, name="probabilities")(
        x
    )


def classifier(features: Any, *, classes: int, dropout: float, head: str) -> Any:
    """The paper's classifier of a pretrained network: Flatten, Dense with softmax; a dropout before it if asked for.

    It starts from zeros. There are more features than images, so whatever a random start puts where no image leads
    stays there for good: on patients kept apart it cost 2 to 6 points of accuracy.
    """
    x = pooled(features, head)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return softmax_layer(x, classes, start="zeros")
