"""Features of a frozen backbone for all images of a manifest: read where stored, computed where not."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import numpy.typing as npt
import pandas as pd
from filelock import Timeout

from cxr_core import images, workspace
from cxr_core.data import features
from cxr_core.data.augment import AugmentationLimits
from cxr_core.data.features import MIRRORED, FeatureStore, Keys, Values
from cxr_core.data.packing import StackedPixels
from cxr_core.errors import WorkFailed
from cxr_core.inference import export, litert_model
from cxr_core.inference.litert_model import CHUNK, Graph
from cxr_core.models import weights
from cxr_core.runs.config import RunConfig
from cxr_core.training import devices

BATCH = 32  # more fall out of the processor's cache and are slower

_TOLERANCE = 1e-4  # of the largest feature, between a backbone and its export

Tell = Callable[[int, int], None]
"""Told how many of how many images are done; may raise to end it."""


@dataclass(frozen=True)
class ExtractedFeatures:
    """`values` float32 (N, h, w, c), memory-mapped; `places` int (n, v): where those of row i of the manifest are.

    The first view of a row is the one that the manifest asks for, then come `config.views` changed ones (training rows
    only; the others repeat the first), then with `config.test_flip` the mirrored one. `extracted` of them were not there yet,
    which took so many `seconds`.
    """

    values: Values
    places: npt.NDArray[np.int64]
    extracted: int
    seconds: float


def save_backbone(backbone: keras.Model) -> str:
    """Save the backbone's weights under the digest of their content, and return it."""
    name = weights.content_digest(backbone)
    with workspace.replacing(workspace.backbone(name)) as part:  # whatever lies there: it may have been damaged since
        backbone.save_weights(part)
    return name


def extract(
    config: RunConfig, backbone: keras.Model, digest: str, pixels: StackedPixels, rows: pd.DataFrame, tell: Tell
) -> ExtractedFeatures:
    """The features of every row of a manifest.

    Args:
        config: of the run; `views`, `test_flip` and the limits of the changes.
        backbone: images float32 (N, S, S, 3) to features.
        digest: names its weights, as `save_backbone` returns it.
        pixels: the packed images.
        rows: of the manifest, with column `place` (in `pixels`).
        tell: about twice a second.

    Raises:
        WorkFailed: the disk is full.
    """
    limits = AugmentationLimits.of(config)
    sha256 = rows["sha256"].astype(str).tolist()
    views = _views(config, rows, sha256)
    keys = np.stack([features.keys(sha256, views[:, view], _limits(view, limits)) for view in range(views.shape[1])], 1)
    store = FeatureStore.of(
        litert_model.about_backbone(config, digest), backbone.output.shape[1:], note={"weights": config.weights}
    )
    pictures = rows["place"].to_numpy()

    def shown(number: int) -> npt.NDArray[np.uint8]:
        row, view = divmod(number, views.shape[1])
        return features.augmented_image(pixels[pictures[[row]]][0], int(views[row, view]), _limits(view, limits))

    before, start = len(store), time.perf_counter()
    places = _complete(
        store, keys.reshape(-1), _Backbone(backbone, litert_model.backbone_of(config, digest)), shown, tell
    )
    return ExtractedFeatures(
        store.values(), places.reshape(keys.shape), len(store) - before, time.perf_counter() - start
    )


def _limits(view: int, limits: AugmentationLimits) -> AugmentationLimits | None:
    """The first view is the manifest's own, whose changes are the usual ones."""
    return limits if view else None


def _views(config: RunConfig, rows: pd.DataFrame, sha256: list[str]) -> npt.NDArray[np.int64]:
    """int (n, v): see `ExtractedFeatures`."""
    first = rows["view"].to_numpy(dtype=np.int64)
    views = np.repeat(first[:, None], 1 + config.views, axis=1)
    if config.views:
        for row in np.flatnonzero((rows["split"] == "train").to_numpy()):
            views[row, 1:] = features.view_seeds(sha256[row], config.views)
    return np.column_stack([views, np.full(len(rows), MIRRORED)]) if config.test_flip else views


def _complete(
    store: FeatureStore, keys: Keys, backbone: "_Backbone", shown: Callable[[int], npt.NDArray[np.uint8]], tell: Tell
) -> npt.NDArray[np.int64]:
    """Make what is missing, one process at a time, and return where everything is."""
    length, places = -1, np.full(len(keys), -1)

    def check_new() -> None:  # what another training makes need not be made here; what is there is read once
        nonlocal length, places
        if len(store) != length:
            length = len(store)
            places = store.sound(keys, lambda checked, _: tell(checked, len(keys)))

    check_new()
    while (places < 0).any():
        tell(int((places >= 0).sum()), len(places))
        try:
            with store.turn().acquire(timeout=0.5):
                check_new()
                _make(store, keys, places, backbone, shown, tell)
                places = store.places(keys)
        except Timeout:
            check_new()
    return places


def _make(
    store: FeatureStore,
    keys: Keys,
    places: npt.NDArray[np.int64],
    backbone: "_Backbone",
    shown: Callable[[int], npt.NDArray[np.uint8]],
    tell: Tell,
) -> None:
    _, first = np.unique(keys, return_index=True)  # the same file twice is seen once
    missing = np.intersect1d(first, np.flatnonzero(places < 0))
    store.check_space(len(missing))
    done = len(keys) - len(missing)
    for start in range(0, len(missing), BATCH):
        chosen = missing[start : start + BATCH]
        seen = images.to_input(np.stack([shown(int(number)) for number in chosen]))
        store.append(keys[chosen], backbone(seen))
        tell(done + start + len(chosen), len(keys))


class _Backbone:
    """Images to features. On a processor by the backbone's export, which live predictions use too and which is the faster one
    there (benchmarks/prediction.py); on a graphics card, or where it cannot be exported, by Keras.
    """

    def __init__(self, backbone: keras.Model, path: Path):
        self._backbone, self._path = backbone, path
        self._graph: Graph | None = None
        self._tried = False

    def __call__(self, seen: npt.NDArray[np.float32]) -> Values:
        """float32 (n, S, S, 3) to float32 (n, h, w, c)."""
        if not self._tried:  # only now, since there may be nothing to do
            self._tried, self._graph = True, self._exported(seen[:1])
        if self._graph is None:
            return np.asarray(self._backbone.predict_on_batch(seen), dtype=np.float32)
        return np.concatenate([self._graph(seen[start : start + CHUNK]) for start in range(0, len(seen), CHUNK)])

    def _exported(self, image: npt.NDArray[np.float32]) -> Graph | None:
        if keras.backend.backend() != "tensorflow" or devices.list_gpus():
            return None
        try:
            if not self._path.is_file():
                export.write(self._backbone, self._path)
            graph = Graph(self._path)
        except WorkFailed as error:
            print(error, flush=True)
            return None
        expected = np.asarray(self._backbone.predict_on_batch(image))
        deviation = float(np.abs(graph(image) - expected).max())
        return graph if deviation <= _TOLERANCE * max(float(np.abs(expected).max()), 1e-6) else None
