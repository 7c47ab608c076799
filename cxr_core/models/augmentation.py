"""Keras layers that augment training images within the limits of data/augment.py, which draws the same views with NumPy.

They wrap a model for training only; the model inside is what is saved, so a saved model never augments.
"""

import math
from typing import Any

import keras
from keras import layers, ops

from cxr_core.data.augment import AugmentationLimits


class RandomAffine(layers.Layer):
    """Random resized crop, rotation, translation, zoom and stretch in one resampling, and a flip.

    Resampling blurs. A network that has only seen blurred images takes sharp ones for something else (fine grain for
    disease), so the blur is taken once instead of once per change, and a share of the images is spared it.

    Args:
        limits: crop, rotation, translation, zoom, stretch and flip of them.
        share: of the images that are moved, in [0, 1]; flips are not counted, since they do not blur.
        size: T, side of the result in pixels, at most S; by default S.
        seed: makes the changes repeat.

    Input: float32 (N, S, S, C). Output: float32 (N, T, T, C); beyond the border the image is mirrored. Without `training`
    nothing changes, and the size does not either.
    """

    def __init__(self, limits: AugmentationLimits, *, share: float, seed: int, size: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self._maxima = (math.radians(limits.rotation), limits.translation, limits.translation, limits.zoom)
        self._flip, self._share, self._stretch = limits.flip, share, limits.stretch
        self._crop, self._crop_aspect, self._size = limits.crop, math.log(limits.crop_aspect), size
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return images
        size = self._size or images.shape[1]
        moved = ops.image.affine_transform(
            images, self._transforms(ops.shape(images)[0], images.shape[1], size), "bilinear", "reflect"
        )
        return moved[:, :size, :size]

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        if self._size in (0, input_shape[1]):
            return input_shape
        return input_shape[0], None, None, input_shape[3]

    def compute_output_spec(self, images: Any, training: bool = False) -> Any:  # noqa: ARG002
        return keras.KerasTensor(self.compute_output_shape(images.shape), dtype=images.dtype)

    def _transforms(self, count: Any, source: int, size: int) -> Any:
        """float32 (N, 8), as `keras.ops.image.affine_transform` takes them: from positions in the result to the source's."""
        moved = ops.cast(self._uniform(count, 0, 1) < self._share, "float32")
        angle, right, down, zoom = (moved * self._uniform(count, -limit, limit) for limit in self._maxima)
        mirror = ops.where(self._uniform(count, 0, 1) < 0.5, -1.0, 1.0) if self._flip else ops.ones((count,))
        if self._stretch:
            mirror = mirror * (1 + moved * self._uniform(count, -self._stretch, self._stretch))
        width = height = ops.full((count,), source / size)
        if self._crop < 1:
            area = 1 - moved * self._uniform(count, 0, 1 - self._crop)
            ratio = ops.exp(moved * self._uniform(count, -self._crop_aspect, self._crop_aspect))
            shares = ops.minimum(ops.sqrt(area * ratio), 1.0), ops.minimum(ops.sqrt(area / ratio), 1.0)
            right = right + self._uniform(count, -1, 1) * (1 - shares[0]) / 2
            down = down + self._uniform(count, -1, 1) * (1 - shares[1]) / 2
            width, height = width * shares[0], height * shares[1]
        scale, middle, center = 1 + zoom, (size - 1) / 2, (source - 1) / 2
        cos, sin, mirror = scale * ops.cos(angle), scale * ops.sin(angle), mirror * width
        rows = (
            (mirror * cos, -height * sin, center - mirror * cos * middle + height * sin * middle + right * source),
            (mirror * sin, height * cos, center - mirror * sin * middle - height * cos * middle + down * source),
        )
        nothing = ops.zeros((count,))
        return ops.stack([*rows[0], *rows[1], nothing, nothing], axis=1)

    def _uniform(self, count: Any, low: float, high: float) -> Any:
        return keras.random.uniform((count,), low, high, seed=self._seeds)


class RandomBorders(layers.Layer):
    """Each border is blanked half the time, as a collimator or a crop of someone else's does.

    Args:
        limits: border of them.
        seed: makes the changes repeat.

    Input and output: float32 (N, S, S, C) in 0..255. Without `training` nothing changes.
    """

    def __init__(self, limits: AugmentationLimits, *, seed: int, **kwargs: Any):
        super().__init__(**kwargs)
        self._border = limits.border
        self._seeds = keras.random.SeedGenerator(seed)

    def call(self, images: Any, training: bool = False) -> Any:
        if not training:
            return images
        size = images.shape[1]
        position = (ops.arange(size, dtype="float32") + 0.5) / size
        first, last = (self._band(ops.shape(images)[0]) for _ in range(2))  # (N, 2): of rows, of columns
        inside = (position > first[..., None]) & (position < 1 - last[..., None])  # (N, 2, S)
        return ops.where((inside[:, 0, :, None] & inside[:, 1, None, :])[..., None], images, 0.0)

    def _band(self, count: Any) -> Any:
        chosen = keras.random.uniform((count, 2), 0, 1, seed=self._seeds) < 0.5
        return ops.cast(chosen, "float32") * keras.random.uniform((count, 2), 0, self._border, seed=self._seeds)


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


def training_model(
    core: keras.Model, limits: AugmentationLimits, *, size: int, train_size: int, share: float, seed: int
) -> keras.Model:
    """Put augmentation in front of `core`; both share the same weights.

    Args:
        core: float32 (N, size, size, 3) to (N, classes); with a `train_size` of its own it takes any size.
        limits: of the changes.
        size: side of the images in pixels.
        train_size: side of what `core` sees of them in training, at most `size`.
        share: of the images that are moved, see `RandomAffine`.
        seed: makes the changes repeat.

    Returns:
        uint8 or float32 (N, size, size, 1) in 0..255 to (N, classes). In inference nothing is changed.
    """
    inputs = keras.Input((size, size, 1), name="grey")
    x = inputs
    if limits.flip or train_size < size or (share and limits.moves):
        x = RandomAffine(limits, share=share, size=train_size, seed=seed)(x)
    if limits.border:
        x = RandomBorders(limits, seed=seed + 4)(x)
    if limits.brightness:
        x = layers.RandomBrightness(limits.brightness, value_range=(0, 255), seed=seed + 1)(x)
    if limits.contrast:
        x = layers.RandomContrast((limits.contrast, limits.contrast), value_range=(0, 255), seed=seed + 2)(x)
    if limits.gamma or limits.sharpness or limits.noise:
        x = RandomTone(limits, seed=seed + 3)(x)
    x = layers.Concatenate(name="three_channels")([x, x, x])
    return keras.Model(inputs, core(x), name="training")
