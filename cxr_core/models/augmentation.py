"""Random changes to training images (PAPER.md: rotation, translation, zoom, flip, brightness, contrast).

They wrap a model for training only; what is saved is the model inside, so a saved model never augments.
"""

import keras
from keras import layers


def training_model(
    core: keras.Model,
    *,
    size: int,
    seed: int,
    rotation: float,
    translation: float,
    zoom: float,
    flip: bool,
    brightness: float,
    contrast: float,
) -> keras.Model:
    """Put augmentation in front of `core`; both share the same weights.

    Args:
        core: float32 (N, size, size, 3) to (N, classes).
        size: side of the images in pixels.
        seed: makes the changes repeat.
        rotation: at most so many degrees either way.
        translation: at most this share of the side, both ways.
        zoom: at most this share in or out.
        flip: mirror left and right, half the time.
        brightness: at most this share of the grey range, up or down.
        contrast: at most this share, up or down.

    Returns:
        uint8 or float32 (N, size, size, 1) in 0..255 to (N, classes). In inference nothing is changed.
    """
    inputs = keras.Input((size, size, 1), name="grey")
    x = inputs
    for layer in _layers(seed, rotation, translation, zoom, flip, brightness, contrast):
        x = layer(x)
    x = layers.Concatenate(name="three_channels")([x, x, x])
    return keras.Model(inputs, core(x), name="training")


def _layers(
    seed: int, rotation: float, translation: float, zoom: float, flip: bool, brightness: float, contrast: float
) -> list[keras.Layer]:
    """Only the changes that are asked for; places beyond the border are black, as beyond the film."""
    border = {"fill_mode": "constant", "fill_value": 0.0}
    chosen: list[keras.Layer] = []
    if flip:
        chosen.append(layers.RandomFlip("horizontal", seed=seed))
    if rotation:
        chosen.append(layers.RandomRotation(rotation / 360, seed=seed + 1, **border))
    if translation:
        chosen.append(layers.RandomTranslation(translation, translation, seed=seed + 2, **border))
    if zoom:
        chosen.append(layers.RandomZoom(zoom, seed=seed + 3, **border))
    if brightness:
        chosen.append(layers.RandomBrightness(brightness, value_range=(0, 255), seed=seed + 4))
    if contrast:
        chosen.append(layers.RandomContrast(contrast, value_range=(0, 255), seed=seed + 5))
    return chosen
