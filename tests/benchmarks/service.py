"""What the training service costs beside a bare `fit`: `python tests/benchmarks/service.py [--epochs 4] [--images 600]`.

The same network, images, batches and settings, once by Keras' `fit` alone on the same batches, once by the run's own fit with
progress, status, history, the best model and the checkpoint kept. Both in this process, one epoch first for the graphs; prints
JSON. `overhead` is the share by which the median epoch is longer.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import keras

from cxr_core.data import datasets, manifest, packing
from cxr_core.errors import WorkFailed
from cxr_core.runs import config as settings
from cxr_core.runs import folder as runs
from cxr_core.runs.status import Reporter
from cxr_core.training import fit as fitting


class Clock(keras.callbacks.Callback):
    """Seconds from the beginning of one epoch to that of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.marks.append(time.perf_counter())

    def on_train_end(self, logs: Any = None) -> None:
        self.marks.append(time.perf_counter())

    def median(self) -> float:
        spent = [end - start for start, end in zip(self.marks, self.marks[1:], strict=False)]
        return statistics.median(spent[1:])  # the first builds the graphs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["CXR_HOME"] = place
        datasets.add("synthetic", "drawn", images=chosen.images)
        pairs = [(_seconds(chosen, bare=True), _seconds(chosen, bare=False)) for _ in range(chosen.rounds)]
    shares = [ours / bare - 1 for bare, ours in pairs]
    print(
        json.dumps(
            {
                "bare_epoch_s": [round(bare, 3) for bare, _ in pairs],
                "service_epoch_s": [round(ours, 3) for _, ours in pairs],
                "overhead": round(statistics.median(shares), 4),
                "images": chosen.images,
            }
        )
    )


def _seconds(chosen: argparse.Namespace, *, bare: bool) -> float:
    """The median epoch of a training of `custom_cnn`."""
    keras.backend.clear_session()
    frozen = manifest.build("drawn", split="patient")
    rows = manifest.rows(frozen)
    pixels = packing.stacked(["drawn"])
    rows["place"] = pixels.places(rows["data"], rows["row"])
    config = settings.make(
        model="custom_cnn", recipe="paper", data="drawn", manifest=frozen.id, classes=frozen.classes,
        settings={"epochs": chosen.epochs},
    )  # fmt: skip
    run = runs.get(runs.create(config))
    clock, fit = Clock(), keras.Model.fit

    def clocked(model: keras.Model, *given: Any, callbacks: list[Any], **named: Any) -> Any:
        return fit(model, *given, callbacks=[clock] if bare else [clock, *callbacks], **named)

    keras.Model.fit = clocked
    try:
        with Reporter(run.folder) as reporter, Path(os.devnull).open("w") as quiet:
            shown, sys.stdout = sys.stdout, quiet
            try:
                fitting.fit(config, pixels, rows, run.folder, reporter)
            except WorkFailed:
                if not bare:  # a bare fit keeps no model, which the fit around it misses
                    raise
            finally:
                sys.stdout = shown
    finally:
        keras.Model.fit = fit
    return clock.median()


if __name__ == "__main__":
    main()
