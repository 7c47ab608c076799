"""Load the model of a run and ask it, for the evaluation of a split and for a live upload alike."""

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


def _nobody(count: int) -> None:
    """A progress that nobody looks at."""


@dataclass(frozen=True)
class Predictor:
    """A run's model, ready to answer.

    Attributes:
        model: images float32 (N, size, size, 3) in 0..255 to probabilities.
        head: features to probabilities, if the run stands on a frozen trunk.
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
        """Read the model that the run kept.

        Raises:
            UnknownName: no such run.
            BadInput: the run has not kept a model (yet).
            WorkFailed: the model file is damaged.
        """
        run = runs.get(run_id)
        if not run.has_model:
            raise BadInput(f"Run '{run_id}' has no model yet ({run.status.state}). Choose a finished run.")
        whole, behind = (run.folder / name for name in runs.MODELS)
        head = None
        try:
            if whole.is_file():
                model = keras.saving.load_model(whole, compile=False)
            else:
                model, head = _on_backbone(run, keras.saving.load_model(behind, compile=False))
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise WorkFailed(f"The model of run '{run_id}' is damaged ({error}). Train it again.") from error
        return cls(run_id, run.config.classes, run.config.image_size, model, head, run.config.test_flip)

    def probabilities(
        self,
        pixels: npt.NDArray[np.uint8] | StackedPixels,
        *,
        rows: npt.NDArray[np.int64] | None = None,
        progress: Callable[[int], None] = _nobody,
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

        def answer(some: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            batch = images.to_input(pixels[some])
            plain = _answers(self.model, batch)
            return (plain + _answers(self.model, batch[:, :, ::-1])) / 2 if self.flip else plain

        return self._in_batches(chosen, answer, progress)

    def of_features(
        self,
        values: npt.NDArray[np.float32],
        places: npt.NDArray[np.int64],
        *,
        progress: Callable[[int], None] = _nobody,
    ) -> npt.NDArray[np.float64]:
        """The same from what the frozen trunk has made of the images already.

        Args:
            values: float32 (N, h, w, c), may be memory-mapped.
            places: int (n, v), where the views of each image are in `values`: the first is the image as it is, the last
                with `flip` its mirror image.
            progress: called with the number of images done.

        Returns:
            float64 (n, classes), rows summing to 1.
        """

        def answer(some: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
            plain = _answers(self.head, values[some[:, 0]])
            return (plain + _answers(self.head, values[some[:, -1]])) / 2 if self.flip else plain

        return self._in_batches(places, answer, progress)

    def _in_batches(
        self,
        chosen: npt.NDArray[np.int64],
        answer: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.float64]],
        progress: Callable[[int], None],
    ) -> npt.NDArray[np.float64]:
        parts = [np.empty((0, len(self.classes)))]
        for start in range(0, len(chosen), BATCH):
            parts.append(answer(chosen[start : start + BATCH]))
            progress(start + len(parts[-1]))
        return np.concatenate(parts)

    def of_image(self, grey: npt.NDArray[np.uint8]) -> dict[str, float]:
        """Probability of each class for one decoded image, uint8 (H, W), of any size."""
        row = self.probabilities(images.prepare(grey, self.size)[None])[0]
        return {name: float(value) for name, value in zip(self.classes, row, strict=True)}


def _answers(model: Any, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    return np.asarray(model.predict_on_batch(batch), dtype=np.float64)


def _on_backbone(run: Run, head: keras.Model) -> tuple[keras.Model, keras.Model]:
    """The whole network of a run that stands on a frozen trunk, one flat graph, and the part of it behind the trunk.

    The trunk is the one that was laid down when the run was trained; if that is gone or damaged, it comes from where its
    weights came.

    Raises:
        WorkFailed: it is gone, or another one has taken its place.
    """
    config, digest = run.config, workspace.read_json(run.folder / "trunk.json")["digest"]
    stored, boundary = workspace.backbone(digest), catalogue.get(config.model).cut_layer(config.trained)
    core = build_from_config.build(config)
    below, part = split_model.split(core, boundary)
    if weights.is_complete(stored):
        below.load_weights(stored)
    if weights.content_digest(below) != digest:
        source = weights.load_backbone(
            config.model, size=config.image_size, scaling=config.scaling, weights=config.weights
        )
        core = build_from_config.build(config, source)
        below, part = split_model.split(core, boundary)
    if weights.content_digest(below) != digest:
        raise WorkFailed(
            f"The frozen part of run '{run.id}' is not the one that it was trained on (expected {digest}). Train it again."
        )
    part.set_weights(head.get_weights())
    return core, part
