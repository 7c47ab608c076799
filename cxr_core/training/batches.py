"""Batches read from the packed arrays on disk; no image file is opened in an epoch."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cxr_core.data.augment import augmented_view
from cxr_core.data.features import Values
from cxr_core.data.packing import StackedPixels

BatchSource = Callable[[npt.NDArray[np.int64], int], npt.NDArray[Any]]
"""Input of a network for the images number i, int (B,), in an epoch: (B, …)."""


class ImageSource:
    """The pixels themselves, uint8 (B, S, S, 1).

    Args:
        pixels: uint8 (N, S, S), may be memory-mapped or a `packing.StackedPixels`.
        rows: int (n,), which rows of `pixels`, in order.
        views: int (n,), 0 for an image as it is, else the seed of the changed view to show (data/augment.py).
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8] | StackedPixels,
        rows: npt.NDArray[np.int64],
        views: npt.NDArray[np.int64] | None = None,
    ):
        self._pixels, self._rows = pixels, np.asarray(rows)
        self._views = np.zeros(len(self._rows), np.int64) if views is None else np.asarray(views)

    def __call__(self, chosen: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.uint8]:  # noqa: ARG002
        images = self._pixels[self._rows[chosen]]
        for position in np.flatnonzero(self._views[chosen]):
            images[position] = augmented_view(images[position], int(self._views[chosen[position]]))
        return images[..., None]


class FeatureSource:
    """Features of a frozen backbone, float32 (B, h, w, c): of each image one of its views, another in each epoch.

    Args:
        values: float32 (N, h, w, c), memory-mapped.
        places: int (n, v), where the v views of each image are in `values`.
        seed: of which view is shown when.
    """

    def __init__(self, values: Values, places: npt.NDArray[np.int64], *, seed: int = 0):
        self._values, self._places = values, np.asarray(places)
        count, self._views = self._places.shape
        self._first = np.asarray(np.random.default_rng([seed, count]).integers(self._views, size=count))

    def __call__(self, chosen: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[Any]:
        return self._values[self.which(chosen, epoch)]

    def which(self, chosen: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int64]:
        """int (B,): the places in `values` of what is shown."""
        positions: npt.NDArray[np.int64] = self._places[chosen, (self._first[chosen] + epoch) % self._views]
        return positions


class FeatureIndexSource(FeatureSource):
    """The same as numbers of rows, int32 (B,), for a network that holds the table itself (`split_model.with_feature_table`)."""

    def __call__(self, chosen: npt.NDArray[np.int64], epoch: int) -> npt.NDArray[np.int32]:
        return self.which(chosen, epoch).astype(np.int32)


class Batches(keras.utils.PyDataset):
    """Inputs and one-hot classes, shuffled anew each epoch if a seed is given.

    Args:
        source: of what it sees.
        codes: int (n,), class numbers in [0, classes).
        classes: k, how many there are.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of the shuffling; None keeps the order.
        weights: float (n,), of each image in the loss.
        epoch: the one to begin with, from 0; the order of an epoch depends on its number alone.

    Each item is (B, …), float32 (B, k) and, with `weights`, float32 (B,).
    """

    def __init__(
        self,
        source: BatchSource,
        codes: npt.NDArray[np.int64],
        *,
        classes: int,
        batch_size: int,
        seed: int | None = None,
        weights: npt.NDArray[np.float64] | None = None,
        epoch: int = 0,
    ):
        super().__init__()
        self._source, self._codes = source, np.asarray(codes)
        self._one_hot = np.eye(classes, dtype=np.float32)
        self._weights = None if weights is None else np.asarray(weights, dtype=np.float32)
        self._batch_size, self._seed, self._epoch = batch_size, seed, epoch
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self._codes) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], ...]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        seen, targets = self._source(chosen, self._epoch), self._one_hot[self._codes[chosen]]
        return (seen, targets) if self._weights is None else (seen, targets, self._weights[chosen])

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> npt.NDArray[np.int64]:
        order = np.arange(len(self._codes))
        if self._seed is not None:
            np.random.default_rng([self._seed, self._epoch]).shuffle(order)
        return order
