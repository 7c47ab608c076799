"""Batches straight from the packed array: no image file is opened in an epoch."""

import math
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cxr_core.data.packing import Stack
from cxr_core.data.views import view


class Batches(keras.utils.PyDataset):
    """Images and one-hot classes, shuffled anew each epoch if asked.

    Args:
        pixels: uint8 (N, S, S), may be memory-mapped or a `packing.Stack`.
        rows: int (n,), which rows of `pixels`, in order.
        codes: int (n,), class numbers in [0, classes).
        classes: k, how many there are.
        batch_size: B; the last batch of an epoch may be smaller.
        seed: of the shuffling; None keeps the order.
        views: int (n,), 0 for an image as it is, else the seed of the changed view to show (data/views.py).
        weights: float (n,), of each image in the loss.

    Each item is uint8 (B, S, S, 1), float32 (B, k) and, with `weights`, float32 (B,).
    """

    def __init__(
        self,
        pixels: npt.NDArray[np.uint8] | Stack,
        rows: npt.NDArray[np.int64],
        codes: npt.NDArray[np.int64],
        *,
        classes: int,
        batch_size: int,
        seed: int | None = None,
        views: npt.NDArray[np.int64] | None = None,
        weights: npt.NDArray[np.float64] | None = None,
    ):
        super().__init__()
        self._pixels, self._rows, self._codes = pixels, np.asarray(rows), np.asarray(codes)
        self._one_hot = np.eye(classes, dtype=np.float32)
        self._views = np.zeros(len(self._rows), np.int64) if views is None else np.asarray(views)
        self._weights = None if weights is None else np.asarray(weights, dtype=np.float32)
        self._batch_size, self._seed, self._epoch = batch_size, seed, 0
        self._order = self._shuffled()

    def __len__(self) -> int:
        return math.ceil(len(self._rows) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], ...]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        images, targets = self._pixels[self._rows[chosen]], self._one_hot[self._codes[chosen]]
        for place in np.flatnonzero(self._views[chosen]):
            images[place] = view(images[place], int(self._views[chosen[place]]))
        if self._weights is None:
            return images[..., None], targets
        return images[..., None], targets, self._weights[chosen]

    def on_epoch_end(self) -> None:
        self._epoch += 1
        self._order = self._shuffled()

    def _shuffled(self) -> npt.NDArray[np.int64]:
        order = np.arange(len(self._rows))
        if self._seed is not None:
            np.random.default_rng([self._seed, self._epoch]).shuffle(order)
        return order
