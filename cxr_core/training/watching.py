"""What happens beside the fit: progress is told, history written, the stop request seen, the best model kept."""

import math
import time
from pathlib import Path
from typing import Any

import keras

from cxr_core.runs import folder as runs
from cxr_core.runs.status import Reporter

MODEL = "model.keras"


class StopRequested(Exception):
    """Someone asked this run to stop; raised after a batch, so that the fit ends at once."""


class Watch(keras.callbacks.Callback):
    """Tells the status batch by batch, writes one history row per epoch, and looks for the file `stop`.

    Args:
        place: the run's folder.
        reporter: of this run.
        batches: per epoch.
        images: per epoch.
    """

    def __init__(self, place: Path, reporter: Reporter, *, batches: int, images: int):
        super().__init__()
        self._place, self._reporter = place, reporter
        self._batches, self._images = batches, images
        self._rows: list[dict[str, float]] = []
        self._epoch_began = 0.0
        self._pace: list[float] = []  # seconds of each whole epoch, validation included

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._epoch_began = time.monotonic()
        self._reporter.tell(stage="training", epoch=epoch, batch=0, batches=self._batches)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        done = batch + 1
        spent = max(time.monotonic() - self._epoch_began, 1e-3)
        per_epoch = min(self._pace) if self._pace else spent / done * self._batches
        epochs_left = self._reporter.status.epochs - self._reporter.status.epoch - done / self._batches
        self._reporter.tell(
            soon=True,
            batch=done,
            rate=round(self._images * done / self._batches / spent, 1),
            seconds_left=round(per_epoch * epochs_left, 1),
        )
        if (self._place / "stop").exists():
            raise StopRequested

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.monotonic() - self._epoch_began
        self._pace.append(seconds)
        self._rows.append({"epoch": epoch + 1, **(logs or {}), "seconds": round(seconds, 2)})
        runs.write_history(self._place, self._rows)
        self._reporter.tell(epoch=epoch + 1, batch=0)


class KeepBest(keras.callbacks.Callback):
    """Saves the model inside the training wrapper whenever the validation accuracy is the best so far.

    What Keras' ModelCheckpoint does with `save_best_only`, but the file appears whole, and a model whose loss is no
    number is never kept.
    """

    def __init__(self, core: keras.Model, place: Path):
        super().__init__()
        self._core, self._best = core, -math.inf
        # A hidden name until it is whole: a reader, or a kill, never meets half a model.
        self._part, self._whole = place / ".part.keras", place / MODEL

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        now = logs or {}
        if math.isfinite(now["loss"]) and now["val_accuracy"] > self._best:
            self._best = now["val_accuracy"]
            self._core.save(self._part)
            self._part.replace(self._whole)
