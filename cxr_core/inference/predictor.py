"""Load the Keras model of a run and predict, for the evaluation of a split."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cxr_core import images, workspace
from cxr_core.data.packing import StackedPixels
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.inference import build_from_config
from cxr_core.models import catalogue, split_model, weights
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run

BATCH = 100


def _no_progress(count: int) -> None:
    """Progress that is not shown."""


@dataclass(frozen=True)
class Predictor:
    """A run's model, ready to answer.

    Attributes:
        model: images float32 (N, size, size, 3) in 0..255 to probabilities.
        head: features to probabilities, if the run stands on a frozen backbone.
        flip: whether the answer is the mean over the image and its mirror image.
    """

    run_id: str
    classes: tuple[str, ...]
    size: int
    model: Any
    head: Any = None
    flip: bool = False

    @classmethod
    def load(cls, run_id: str) -> "Predictor":
        """Read the model that the run saved.

        Raises:
            UnknownName: no such run.
            BadInput: the run has not saved a model (yet).
            WorkFailed: the model file is damaged.
        """
        run = runs.get(run_id)
        if not run.has_model:
            raise BadInput(f"Run '{run_id}' has no model yet ({run.status.state}). Choose a finished run.")
        whole_path, head_path = (run.folder / name for name in runs.MODELS)
        head = None
        try:
            if whole_path.is_file():
                model = keras.saving.load_model(whole_path, compile=False)
            else:
                model, head = _on_backbone(run, keras.saving.load_model(head_path, compile=False))
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise WorkFailed(f"The model of run '{run_id}' is damaged ({error}). Train it again.") from error
        return cls(run_id, run.config.classes, run.config.image_size, model, head, run.config.test_flip)

    def probabilities(
        self,
        pixels: npt.NDArray[np.uint8] | StackedPixels,
        *,
        rows: npt.NDArray[np.int64] | None = None,
        progress: Callable[[int], None] = _no_progress,
    ) -> npt.NDArray[np.float64]:
        """Class probabilities of prepared images.

        Args:
            pixels: uint8 (N, size, size), as `images.prepare` makes them; may be memory-mapped or stacked.
            rows: int (n,), which of them; by default all.
            progress: called with the number of images done.

        Returns:
            float64 (n, classes), rows summing to 1.
        """
        chosen = np.arange(len(pixels)) if rows is None else rows

        def predict(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            batch = images.to_input(pixels[indices])
            plain = _predict_batch(self.model, batch)
            return (plain + _predict_batch(self.model, batch[:, :, ::-1])) / 2 if self.flip else plain

        return self._in_batches(chosen, predict, progress)

    def of_features(
        self,
        values: npt.NDArray[np.float32],
        places: npt.NDArray[np.int64],
        *,
        progress: Callable[[int], None] = _no_progress,
    ) -> npt.NDArray[np.float64]:
        """The same from features that the frozen backbone has made of the images already.

        Args:
            values: float32 (N, h, w, c), may be memory-mapped.
            places: int (n, v), where the views of each image are in `values`: the first is the image as it is, the last
                with `flip` its mirror image.
            progress: called with the number of images done.

        Returns:
            float64 (n, classes), rows summing to 1.
        """

        def predict(indices: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            plain = _predict_batch(self.head, values[indices[:, 0]])
            return (plain + _predict_batch(self.head, values[indices[:, -1]])) / 2 if self.flip else plain

        return self._in_batches(places, predict, progress)

    def _in_batches(
        self,
        chosen: npt.NDArray[np.int64],
        predict: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]],
        progress: Callable[[int], None],
    ) -> npt.NDArray[np.float64]:
        parts = [np.empty((0, len(self.classes)))]
        for start in range(0, len(chosen), BATCH):
            parts.append(predict(chosen[start : start + BATCH]))
            progress(start + len(parts[-1]))
        return np.concatenate(parts)


def _predict_batch(model: Any, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(model.predict_on_batch(batch), dtype=np.float64)


def _on_backbone(run: Run, head: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The whole network of a run that stands on a frozen backbone, one flat graph, and the part of it behind the backbone.

    The backbone is the one that was saved when the run was trained; if that is gone or damaged, it comes from where its
    weights came.

    Raises:
        WorkFailed: it is gone, or another one has taken its place.
    """
    config, digest = run.config, workspace.read_json(run.folder / "trunk.json")["digest"]
    stored, cut_layer = workspace.backbone(digest), catalogue.get(config.model).cut_layer(config.trained)
    core = build_from_config.build(config)
    below, part = split_model.split(core, cut_layer)
    if weights.is_complete(stored):
        below.load_weights(stored)
    if weights.content_digest(below) != digest:
        source = weights.load_backbone(
            config.model, size=config.image_size, scaling=config.scaling, weights=config.weights
        )
        core = build_from_config.build(config, source)
        below, part = split_model.split(core, cut_layer)
    if weights.content_digest(below) != digest:
        raise WorkFailed(
            f"The frozen part of run '{run.id}' is not the one that it was trained on (expected {digest}). Train it again."
        )
    part.set_weights(head.get_weights())
    return core, part
