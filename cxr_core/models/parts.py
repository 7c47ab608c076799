"""What several architectures have alike: the scaling of their input and the end that makes classes of features."""

from typing import Any

import keras
from keras import layers

OWN, UNIT, STANDARD = "own", "unit", "standard"
SCALINGS: dict[str, str] = {
    OWN: "as the network was made for",
    UNIT: "pixels from 0 to 1, as the paper has it",
    STANDARD: "each image by itself to mean 0 and deviation 1, so that exposure does not matter",
}
FLATTEN, AVERAGE = "flatten", "average"
HEADS: dict[str, str] = {
    FLATTEN: "every feature at every place counts by itself, as the paper has it",
    AVERAGE: "features are averaged over the image first",
}


def scaled(size: int, scaling: str) -> tuple[Any, Any]:
    """An input, float32 (N, size, size, 3) in 0..255, and what follows of it: 0..1 (UNIT) or per image mean 0 (STANDARD)."""
    inputs = keras.Input((size, size, 3), name="image")
    if scaling == STANDARD:
        # Over the whole image; there is nothing to learn in it.
        return inputs, layers.LayerNormalization(
            axis=[1, 2, 3], center=False, scale=False, epsilon=1e-3, name="standardised"
        )(inputs)
    return inputs, layers.Rescaling(1 / 255, name="to_unit")(inputs)


def row(features: Any, head: str) -> Any:
    """(N, h, w, c) to one row an image: (N, h·w·c) with FLATTEN, (N, c) with AVERAGE."""
    if head == AVERAGE:
        return layers.GlobalAveragePooling2D(name="average")(features)
    return layers.Flatten(name="flatten")(features)


def probabilities(x: Any, classes: int) -> Any:
    """The last layer, float32 also where the network computes in half precision."""
    return layers.Dense(classes, activation="softmax", dtype="float32", name="probabilities")(x)


def classifier(features: Any, *, classes: int, dropout: float, head: str) -> Any:
    """PAPER.md's end of a pretrained network: Flatten, Dense with softmax; a dropout before it if asked for."""
    x = row(features, head)
    if dropout:
        x = layers.Dropout(dropout, name="dropout")(x)
    return probabilities(x, classes)
