"""Measure the cost of the training service beside a bare `fit`: `python benchmarks/service.py [--epochs 16] [--images 600]`.

One training of `custom_cnn` in this process; its epochs take turns, one with all that the service does (progress, status,
history, the best model and the checkpoint kept), one with nothing but Keras' `fit`. So both see the same network, batches and
machine, whatever else that machine does. Prints JSON; `overhead` is the share by which the median epoch with the service is
longer, by the `clock` and by the processor time that the process took (`cpu`: a machine with other guests is not always as
fast), each with the middle half of what single neighbours say. `inside` is the median share of such an epoch that passes in the
service's own callbacks, while the training waits for them: it swings the least from one measurement to the next.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from cxr_core import process
from cxr_core.data import datasets, manifest, packing
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs.status import Reporter
from cxr_core.training import fit as fitting


class Turns(keras.callbacks.CallbackList):
    """Calls the service's callbacks in every other epoch only, and notes when each epoch begins."""

    def __init__(self, callbacks: list[Any], **named: Any) -> None:
        super().__init__(callbacks, **named)
        self.marks: list[tuple[float, float, float]] = []
        self._inside = 0.0
        self._all = list(self.callbacks)
        for one in self._all:
            if one is not self._history:
                for name in [each for each in dir(one) if each.startswith("on_")]:
                    setattr(one, name, self._timed(getattr(one, name)))

    def _timed(self, call: Callable[..., None]) -> Callable[..., None]:
        def timed(*given: Any, **named: Any) -> None:
            start = time.perf_counter()
            call(*given, **named)
            self._inside += time.perf_counter() - start

        return timed

    def _mark(self) -> None:
        self.marks.append((time.perf_counter(), time.process_time(), self._inside))

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._mark()
        self.callbacks = self._all if epoch % 2 == 0 else [self._history]
        super().on_epoch_begin(epoch, logs)

    def on_train_end(self, logs: Any = None) -> None:
        self._mark()
        self.callbacks = self._all
        super().on_train_end(logs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--images", type=int, default=600)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["CXR_HOME"] = place
        datasets.add("synthetic", "drawn", images=chosen.images)
        spent = _epochs(chosen.epochs)[2:]  # the first two build the graphs
    inside = statistics.median(one[2] / one[0] for one in spent[::2])
    figures = {"clock": _summary(spent, 0), "cpu": _summary(spent, 1), "inside": round(inside, 4)}
    print(json.dumps({"epochs": len(spent), "images": chosen.images, **figures}))


def _summary(spent: list[tuple[float, ...]], which: int) -> dict[str, Any]:
    service, bare = ([one[which] for one in spent[start::2]] for start in (0, 1))
    neighbours = [one / other - 1 for one, other in zip(service, bare, strict=False)]
    return {
        "bare_s": round(statistics.median(bare), 3),
        "service_s": round(statistics.median(service), 3),
        "overhead": round(statistics.median(service) / statistics.median(bare) - 1, 4),
        "apart": [round(float(one), 4) for one in np.quantile(neighbours, [0.25, 0.75])],
    }


def _epochs(count: int) -> list[tuple[float, ...]]:
    """Seconds of each epoch by the clock, of processor time, and in callbacks; those with even numbers have the service."""
    frozen = manifest.build("drawn", split="patient")
    rows = manifest.rows(frozen)
    pixels = packing.open_stacked(["drawn"])
    rows["place"] = pixels.places(rows["data"], rows["row"])
    config = settings.make(
        model="custom_cnn", recipe="paper", data="drawn", manifest=frozen.id, classes=frozen.classes,
        settings={"epochs": count},
    )  # fmt: skip
    run = runs.get(runs.create(config))
    turns: list[Turns] = []
    fit = keras.Model.fit

    def taking_turns(model: keras.Model, *given: Any, callbacks: list[Any], **named: Any) -> Any:
        turns.append(Turns(callbacks, model=model, add_history=True, verbose=0, epochs=count))
        return fit(model, *given, callbacks=turns[0], **named)

    keras.Model.fit = taking_turns
    try:
        with Reporter(run.folder) as reporter, Path(os.devnull).open("w") as quiet:
            shown, sys.stdout = sys.stdout, quiet
            try:
                fitting.fit(config, pixels, rows, run.folder, reporter)
            finally:
                sys.stdout = shown
    finally:
        keras.Model.fit = fit
    marks = turns[0].marks
    return [tuple(end - start for start, end in zip(*pair, strict=True)) for pair in itertools.pairwise(marks)]


if __name__ == "__main__":
    if "GLIBC_TUNABLES" not in os.environ:  # as a training of the service runs
        os.execve(sys.executable, [sys.executable, *sys.argv], process.training_environment())
    main()
