"""Load the model of a run and ask it, for the evaluation of a split and for a live upload alike."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from cxr_core import images
from cxr_core.data.packing import Stack
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.runs import folder as runs

BATCH = 100


def _nobody(count: int) -> None:
    """A progress that nobody looks at."""


@dataclass(frozen=True)
class Predictor:
    """A run's model, ready to answer."""

    run_id: str
    classes: tuple[str, ...]
    size: int
    model: Any

    @classmethod
    def load(cls, run_id: str) -> "Predictor":
        """Read the model that the run kept.

        Raises:
            UnknownName: no such run.
            BadInput: the run has not kept a model (yet).
            WorkFailed: the model file is damaged.
        """
        run = runs.get(run_id)
        path = run.folder / "model.keras"
        if not path.is_file():
            raise BadInput(f"Run '{run_id}' has no model yet ({run.status.state}). Choose a finished run.")
        try:
            model = keras.saving.load_model(path, compile=False)
        except (ValueError, OSError, KeyError, zipfile.BadZipFile) as error:
            raise WorkFailed(f"The model of run '{run_id}' is damaged ({error}). Train it again.") from error
        return cls(run_id, run.config.classes, run.config.image_size, model)

    def probabilities(
        self,
        pixels: npt.NDArray[np.uint8] | Stack,
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
        parts = [np.empty((0, len(self.classes)))]
        for start in range(0, len(chosen), BATCH):
            batch = images.to_input(pixels[chosen[start : start + BATCH]])
            parts.append(np.asarray(self.model.predict_on_batch(batch), dtype=np.float64))
            progress(start + len(batch))
        return np.concatenate(parts)

    def of_image(self, grey: npt.NDArray[np.uint8]) -> dict[str, float]:
        """Probability of each class for one decoded image, uint8 (H, W), of any size."""
        row = self.probabilities(images.prepare(grey, self.size)[None])[0]
        return {name: float(value) for name, value in zip(self.classes, row, strict=True)}
