"""Out-of-distribution detector: is an image an upright frontal chest X-ray like those of the training, whatever its exposure?

    uint8 (n, 64, 64) ── features ──► float32 (n, 576) ─┬─ ridge classifier ──► upright, turned, negative or other
                                                        └─ Mahalanobis distance ──► how unlike the training images it is

Fitted on a run's own training images, on the same turned and inverted, and on hard_negatives.py and synthetic_negatives.py.
Grey values are equalised first, so that any exposure gives the same answer until it clips.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from cxr_core.data.augment import AugmentationLimits, augmented_view
from cxr_core.inference.input_check import hard_negatives, synthetic_negatives
from cxr_core.inference.input_check.synthetic_negatives import SIDE, Pixels, Random

Floats = npt.NDArray[np.float32]

CLASSES = ("upright", "on its side", "upside down", "on its side", "negative", "other")  # 1 to 3: quarter turns left
TURNED, NEGATIVE = (1, 2, 3), 4

_POSITIVES = 3000
_EACH_TURN = 800  # and as many negatives
_CROPS, _EACH_SYNTHETIC = 300, 300
_RIDGE = 1.0
_COMPONENTS = 64
_CELLS = 8  # a side
_BATCH = 16  # images; more at once fall out of the processor's cache
_ANOTHER_EXPOSURE = AugmentationLimits(
    rotation=8, translation=0.06, zoom=0.25, stretch=0.2, brightness=0.06, contrast=0.35, gamma=0.3, sharpness=0.8, noise=0.02
)  # fmt: skip  # the same bodies as another machine, day or hand may have taken them


class OODPrediction(NamedTuple):
    """Predictions for n images.

    Attributes:
        margin: float32 (n,) score of upright less the highest of the other classes; about 1 for upright, -1 for others.
        classes: (n,) position in CLASSES of the highest score.
        distance: float64 (n,) from the training images; about 1 for one of them.
    """

    margin: Floats
    classes: npt.NDArray[np.intp]
    distance: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class OODDetector:
    """A fitted detector, as the arrays that it takes to predict.

    Attributes:
        mean, scale: float32 (F,) of the features of training images.
        weights, bias: float32 (F, C) and (C,), from standardised features to the scores of CLASSES.
        axes, deviations: float32 (F, K) and (K,), principal components of the features and the deviations along them.
        rest: float32 (), variance in each other direction.
    """

    mean: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    axes: Floats
    deviations: Floats
    rest: Floats

    @classmethod
    def fit(cls, images: Pixels, rng: Random) -> "OODDetector":
        """Fit on training images, uint8 (n, SIDE, SIDE)."""
        examples = [features(examples) for examples in _examples(images, rng)]
        mean, scale = examples[0].mean(axis=0), examples[0].std(axis=0) + np.float32(0.02)
        inputs = _standardised(np.concatenate(examples), mean, scale)
        classes = np.repeat(np.arange(len(CLASSES)), [len(each) for each in examples])
        classifier = ridge_classifier(inputs, classes, _RIDGE)
        return cls(mean, scale, *classifier, *_principal_components(examples[0] - mean))

    def predict(self, images: Pixels) -> OODPrediction:
        """Classify images, uint8 (n, SIDE, SIDE)."""
        values = features(images)
        scores = _standardised(values, self.mean, self.scale) @ self.weights + self.bias
        margin = scores[:, 0] - scores[:, 1:].max(axis=1)
        return OODPrediction(margin, scores.argmax(axis=1), self._distance(values - self.mean))

    def _distance(self, offsets: Floats) -> npt.NDArray[np.float64]:
        """Mahalanobis distance over √F, of offsets (n, F) from the mean.

        The covariance is that of Tipping and Bishop, "Probabilistic Principal Component Analysis", 1999.
        """
        along = offsets @ self.axes
        remaining = np.maximum((offsets**2).sum(axis=1) - (along**2).sum(axis=1), 0)
        squares = ((along / self.deviations) ** 2).sum(axis=1) + remaining / self.rest
        return np.sqrt(squares / offsets.shape[1], dtype=np.float64)

    def arrays(self) -> dict[str, Floats]:
        """Arrays by the names of the attributes."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, npt.NDArray[Any]]) -> "OODDetector":
        """Opposite of `arrays`.

        Raises:
            KeyError: one is missing.
            ValueError: they do not fit one another, or are not finite.
        """
        detector = cls(**{field.name: np.asarray(arrays[field.name]).astype(np.float32) for field in fields(cls)})
        if not all(np.isfinite(array).all() for array in detector.arrays().values()):
            raise ValueError("not finite")
        detector.predict(np.zeros((1, SIDE, SIDE), np.uint8))
        return detector


def ridge_classifier(inputs: Floats, classes: npt.NDArray[np.intp], ridge: float) -> tuple[Floats, Floats]:
    """Least-squares regression on one-hot classes, of least mean squared error + ridge · sum of squared weights.

    Args:
        inputs: float32 (n, F).
        classes: int (n,) in 0..C - 1.

    Returns:
        float32 (F, C) weights and (C,) bias.
    """
    targets = np.eye(classes.max() + 1, dtype=np.float32)[classes]
    mean, bias = inputs.mean(axis=0), targets.mean(axis=0)
    centred = inputs - mean
    covariance = centred.T @ centred / np.float32(len(inputs)) + np.float32(ridge) * np.eye(len(mean), dtype=np.float32)
    weights = np.linalg.solve(covariance, centred.T @ (targets - bias) / np.float32(len(inputs)))
    return weights, bias - mean @ weights


def _principal_components(offsets: Floats) -> tuple[Floats, Floats, Floats]:
    """`axes`, `deviations` and `rest` of OODDetector, from offsets (n, F) of training images from their mean."""
    variances, axes = np.linalg.eigh(offsets.T @ offsets / np.float32(len(offsets)))
    deviations, rest = np.sqrt(np.maximum(variances[-_COMPONENTS:], 1e-6)), variances[:-_COMPONENTS].mean()
    return axes[:, -_COMPONENTS:], deviations, np.maximum(rest, 1e-6)


def features(images: Pixels) -> Floats:
    """Oriented gradients and a thumbnail of equalised images.

    After Dalal and Triggs, "Histograms of Oriented Gradients for Human Detection", 2005, with one contrast for the whole image.

    Args:
        images: uint8 (n, SIDE, SIDE).

    Returns:
        float32 (n, 576): mean gradient in 8 directions and 8 × 8 cells, and mean grey of the cells in [0, 1].
    """
    starts = range(0, len(images), _BATCH)
    return np.concatenate([_features(images[start : start + _BATCH]) for start in starts])


def _features(images: Pixels) -> Floats:
    equalised = [np.asarray(ImageOps.equalize(Image.fromarray(image))) for image in np.ascontiguousarray(images)]
    greys = np.stack(equalised).astype(np.float32) / np.float32(255)
    right, down = np.zeros_like(greys), np.zeros_like(greys)
    right[:, :, 1:-1] = greys[:, :, 2:] - greys[:, :, :-2]
    down[:, 1:-1] = greys[:, 2:] - greys[:, :-2]
    half = np.float32(np.sqrt(0.5))
    gradients = (right, down, half * (right + down), half * (right - down))
    cells = [_cell_means(np.maximum(way, 0)) for gradient in gradients for way in (gradient, -gradient)]
    edges = np.concatenate(cells, axis=1)
    contrast = edges.mean(axis=1, keepdims=True) + np.float32(1e-3)
    return np.concatenate([np.sqrt(edges / contrast), _cell_means(greys)], axis=1)


def _cell_means(values: Floats) -> Floats:
    """float32 (n, SIDE, SIDE) to (n, 64)."""
    size = SIDE // _CELLS
    means = values.reshape(-1, _CELLS, size, SIDE).mean(axis=2).reshape(-1, _CELLS, _CELLS, size).mean(axis=3)
    return means.reshape(len(values), -1)


def _standardised(values: Floats, mean: Floats, scale: Floats) -> Floats:
    """Features (n, F) about 0 ± 1 for training images, and within ±6 for any."""
    return np.clip((values - mean) / scale, -6, 6)


def _examples(images: Pixels, rng: Random) -> list[Pixels]:
    """Images of each of CLASSES, uint8 (…, SIDE, SIDE)."""

    def some(count: int) -> Pixels:
        return upright[rng.integers(0, len(upright), count)]

    copies = images[np.arange(max(_POSITIVES - len(images), len(images))) % len(images)]
    seeds = rng.integers(2**32, size=len(copies))
    views = [augmented_view(image, int(seed), _ANOTHER_EXPOSURE) for image, seed in zip(copies, seeds, strict=True)]
    upright = np.concatenate([images, np.stack(views)])
    turned = [np.rot90(some(_EACH_TURN), quarters, axes=(1, 2)) for quarters in TURNED]
    other = [hard_negatives.crops(some(_CROPS), rng), synthetic_negatives.of_each_kind(_EACH_SYNTHETIC, rng)]
    return [upright, *turned, 255 - some(_EACH_TURN), np.concatenate(other)]
