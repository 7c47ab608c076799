"""Keras layers that augment training images within the limits of data/augment.py, which draws the same views with NumPy.

They wrap a model for training only; the model inside is what is saved, so a saved model never augments.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from cxr_core.data.augment import AugmentationLimits


class RandomAffine(layers.Layer):
    """Rotation, translation, zoom and stretch in one resampling, and a flip.

    Resampling blurs. A network that has only seen blurred images takes sharp ones for something else (fine grain for
    disease), so the blur is taken once instead of once per change, and a share of the images is spared it.

    Args:
        limits: rotation, translation, zoom, stretch and flip of them.
        share: of the images that are moved, in [0, 1]; flips are not counted, since they do not blur.
        seed: makes the changes repeat.

    Input and output: float32 (N, S, S, C); beyond the border the image is mirrored. Without `training` nothing changes.
    """

    def __init__(self, limits: AugmentationLimits, *, share: float, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self._maxima = (math.radians(limits.rotation), limits.translation, limits.translation, limits.zoom)
        self._flip, self._share, self._stretch = limits.flip, share, limits.stretch
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return images
        return ops.image.affine_transform(
            images, self._transforms(ops.shape(images)[0], images.shape[1]), "bilinear", "reflect"
        )

    def _transforms(self, count: Any, size: int) -> Any:
        """float32 (N, 8), as `keras.ops.image.affine_transform` takes them: from positions in the result to the source's."""
        moved = ops.cast(self._uniform(count, 0, 1) < self._share, "float32")
        angle, right, down, zoom = (moved * self._uniform(count, -limit, limit) for limit in self._maxima)
        mirror = ops.where(self._uniform(count, 0, 1) < 0.5, -1.0, 1.0) if self._flip else ops.ones((count,))
        if self._stretch:
            mirror = mirror * (1 + moved * self._uniform(count, -self._stretch, self._stretch))
        scale, middle = 1 + zoom, (size - 1) / 2
        cos, sin = scale * ops.cos(angle), scale * ops.sin(angle)
        rows = (
            (mirror * cos, -sin, middle - mirror * cos * middle + sin * middle + right * size),
            (mirror * sin, cos, middle - mirror * sin * middle - cos * middle + down * size),
        )
        nothing = ops.zeros((count,))
        return ops.stack([*rows[0], *rows[1], nothing, nothing], axis=1)

    def _uniform(self, count: Any, low: float, high: float) -> Any:
        return keras.random.uniform((count,), low, high, seed=self._seeds)


class RandomTone(layers.Layer):
    """Grey curve, sharpness and noise: what differs between machines and files rather than between lungs.

    Args:
        limits: gamma, sharpness and noise of them.
        seed: makes the changes repeat.

    Input and output: float32 (N, S, S, 1) in 0..255. Without `training` nothing changes.
    """

    def __init__(self, limits: AugmentationLimits, *, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self._gamma, self._sharpness, self._noise = limits.gamma, limits.sharpness, limits.noise
        self._seeds = keras.random.SeedGenerator(seed)
        bell = [math.exp(-(step**2) / 2) for step in range(-2, 3)]  # a deviation of one pixel
        self._bell = [weight / sum(bell) for weight in bell]

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return images
        x, count = ops.cast(images, "float32"), ops.shape(images)[0]
        if self._gamma:
            # Not 0 itself, whose power has no slope.
            x = 255 * ops.power(ops.clip(x / 255, 1e-4, 1.0), ops.exp(self._uniform(count, -self._gamma, self._gamma)))
        if self._sharpness:
            x = x + self._uniform(count, -self._sharpness, self._sharpness) * (x - self._blurred(x))
        if self._noise:
            noise = keras.random.normal(ops.shape(x), seed=self._seeds)
            x = x + 255 * self._uniform(count, 0.0, self._noise) * noise
        return ops.clip(x, 0, 255)

    def _blurred(self, x: Any) -> Any:
        size = x.shape[1]
        for axis, pads in ((1, ((0, 0), (2, 2), (0, 0), (0, 0))), (2, ((0, 0), (0, 0), (2, 2), (0, 0)))):
            wide = ops.pad(x, pads, mode="reflect")
            x = sum(
                weight * (wide[:, at : at + size] if axis == 1 else wide[:, :, at : at + size])
                for at, weight in enumerate(self._bell)
            )
        return x

    def _uniform(self, count: Any, low: float, high: float) -> Any:
        return keras.random.uniform((count, 1, 1, 1), low, high, seed=self._seeds)


def training_model(core: keras.Model, limits: AugmentationLimits, *, size: int, share: float, seed: int) -> keras.Model:
    """Put augmentation in front of `core`; both share the same weights.

    Args:
        core: float32 (N, size, size, 3) to (N, classes).
        limits: of the changes.
        size: side of the images in pixels.
        share: of the images that are moved, see `RandomAffine`.
        seed: makes the changes repeat.

    Returns:
        uint8 or float32 (N, size, size, 1) in 0..255 to (N, classes). In inference nothing is changed.
    """
    inputs = keras.Input((size, size, 1), name="grey")
    x = inputs
    if limits.flip or (share and (limits.rotation or limits.translation or limits.zoom or limits.stretch)):
        x = RandomAffine(limits, share=share, seed=seed)(x)
    if limits.brightness:
        x = layers.RandomBrightness(limits.brightness, value_range=(0, 255), seed=seed + 1)(x)
    if limits.contrast:
        x = layers.RandomContrast((limits.contrast, limits.contrast), value_range=(0, 255), seed=seed + 2)(x)
    if limits.gamma or limits.sharpness or limits.noise:
        x = RandomTone(limits, seed=seed + 3)(x)
    x = layers.Concatenate(name="three_channels")([x, x, x])
    return keras.Model(inputs, core(x), name="training")
