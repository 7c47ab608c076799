"""Keras callbacks of a training: status and history, the stop request, the best model, the state to resume from."""

import math
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import Any

import keras

from cxr_core import workspace
from cxr_core.runs import run_store as runs
from cxr_core.runs.status import Reporter
from cxr_core.training import checkpoint
from cxr_core.training.checkpoint import Checkpoint

MODEL, HEAD_MODEL = runs.MODELS
_RECENT_STEPS, _RECENT_EPOCHS = 50, 5


class StopRequested(Exception):
    """Raised after a batch when a stop of the run was requested, so that the fit ends at once."""


def raise_if_stop_requested(folder: Path) -> None:
    """Raise StopRequested if the file `stop` is in the run's folder."""
    if (folder / "stop").exists():
        raise StopRequested


class StatusCallback(keras.callbacks.Callback):
    """Write the status batch by batch and one history row per epoch, and look for the file `stop`.

    Args:
        folder: the run's folder.
        reporter: of this run.
        images: per epoch.

    Attributes:
        batches: per epoch; set it before the first.
    """

    def __init__(self, folder: Path, reporter: Reporter, *, images: int):
        super().__init__()
        self._folder, self._reporter, self._images = folder, reporter, images
        self.batches = 0
        # Of a resumed training: what came after its last whole epoch is done again.
        before = runs.history_of_folder(folder)
        self._rows: list[dict[Any, Any]] = before[before["epoch"] <= reporter.status.epoch].to_dict("records")
        self._epoch_began = self._step_began = 0.0
        self._steps: deque[float] = deque(maxlen=_RECENT_STEPS)  # seconds of each
        self._others: deque[float] = deque(
            maxlen=_RECENT_EPOCHS
        )  # seconds of an epoch besides its steps: the validation
        self._in_steps = 0.0  # seconds, of this epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        self._epoch_began = self._step_began = time.monotonic()
        self._in_steps = 0.0
        self._reporter.tell(stage="training", epoch=epoch, batch=0, batches=self.batches, images=self._images)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:  # noqa: ARG002
        done, now = batch + 1, time.monotonic()
        self._steps.append(now - self._step_began)
        self._in_steps += now - self._step_began
        self._step_began = now
        spent = max(now - self._epoch_began, 1e-3)
        self._reporter.tell(
            soon=True,
            batch=done,
            rate=round(self._images * done / self.batches / spent, 1),
            seconds_left=self._seconds_left(done),
        )
        raise_if_stop_requested(self._folder)

    def _seconds_left(self, done: int) -> float:
        """Until all epochs are done, `done` batches into one: by medians of recent steps and epochs.

        So neither the first step, which builds the graphs, nor a while in which the machine was busy counts for long.
        """
        status = self._reporter.status
        steps = self.batches * (status.epochs - status.epoch) - done
        others = (status.epochs - status.epoch) * (median(self._others) if self._others else 0.0)
        return round(max(0.0, steps * median(self._steps) + others), 1)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        seconds = time.monotonic() - self._epoch_began
        self._others.append(max(0.0, seconds - self._in_steps))
        self._rows.append({"epoch": epoch + 1, **(logs or {}), "seconds": round(seconds, 2)})
        runs.write_history(self._folder, self._rows)
        self._reporter.tell(epoch=epoch + 1, batch=0)
        if self._steps:
            self._reporter.tell(soon=True, seconds_left=self._seconds_left(0))


class BestModelCheckpoint(keras.callbacks.Callback):
    """Save the network whenever an epoch is the best so far.

    What Keras' ModelCheckpoint does with `save_best_only`, but the file appears whole, a network whose loss is no number
    is never saved, and epochs are compared by `run_store.epoch_score`.

    Args:
        learner: whose weights are looked at as they are in validation (averaged ones, if they are averaged).
        kept: the same network in float32, which is saved with those weights.
        path: a .keras file.
        by: of `runs.config.MONITORS`.
    """

    def __init__(self, learner: keras.Model, kept: keras.Model, path: Path, *, by: str):
        super().__init__()
        self._learner, self._kept, self._by = learner, kept, by
        self.best: tuple[float, ...] = ()  # rank of the best epoch
        self._weights: list[Any] = []
        self._path = path
        self.since = 0  # epochs since the best one

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        self._weights = self._learner.get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        now = logs or {}
        self.since += 1
        if not math.isfinite(now["loss"]):
            return
        rank = runs.epoch_score({**now, "epoch": epoch}, self._by)
        if not self.best or rank > self.best:
            self.best, self.since = rank, 0
            with workspace.replacing(self._path, only_writer=True) as part:
                self._kept.set_weights(self._weights)
                self._kept.save(part)


class EarlyStopping(keras.callbacks.Callback):
    """End the training when so many epochs in a row were no better than the best; 0: never."""

    def __init__(self, keep: BestModelCheckpoint, epochs: int):
        super().__init__()
        self._keep, self._epochs = keep, epochs

    @property
    def over(self) -> bool:
        return 0 < self._epochs <= self._keep.since

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:  # noqa: ARG002
        if self.over:
            self.model.stop_training = True


class ResumeCheckpoint(keras.callbacks.Callback):
    """Write the checkpoint (checkpoint.py) after each whole epoch whose loss is a number; the last of the callbacks.

    Args:
        folder: the run's folder.
        keep: knows the best epoch.
        began: epochs that were done when this phase began.
        batch_size: as it is now.
    """

    def __init__(self, folder: Path, keep: BestModelCheckpoint, *, began: int, batch_size: int):
        super().__init__()
        self._folder, self._keep, self._began, self._batch_size = folder, keep, began, batch_size

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        if math.isfinite((logs or {})["loss"]):
            state = Checkpoint(epoch + 1, self._began, self._batch_size, self._keep.best, self._keep.since)
            checkpoint.write(self._folder, state, self.model)
