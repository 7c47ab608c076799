"""Measure how busy an epoch keeps the processor: `python benchmarks/epoch.py DATASET [--model custom_cnn] [--epochs 3]`.

DATASET is one of the workspace (CXR_HOME). Trains it in this process by the usual settings and prints, over the epochs after
the first (which builds the graphs), the share of all cores' time that was used, images/s, and how many image files were
opened: none may be, since an epoch reads the packed array only.

`--at-once N` then lets N processes do the same at the same time, and prints what all of them together make of the images/s of
one: what `CXR_PLACES=N` gives on a machine without a card.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import psutil

from cxr_core import images, process
from cxr_core.data import manifest
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import trash
from cxr_core.training import fit as fitting
from cxr_core.training import run_training

OPENED: list[str] = []


def note(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and str(arguments[0]).lower().endswith(tuple(images.SUFFIXES)):
        OPENED.append(str(arguments[0]))


class Clock(keras.callbacks.Callback):
    """Processor seconds and wall seconds of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.marks: list[tuple[float, float, int]] = [self.now()]

    def now(self) -> tuple[float, float, int]:
        used = psutil.Process().cpu_times()
        return used.user + used.system, time.perf_counter(), len(OPENED)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.marks.append(self.now())


def at_once(count: int, arguments: list[str]) -> float:
    """Images/s of so many processes together."""
    command = [sys.executable, __file__, *arguments]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(count)]
    return sum(json.loads(one.communicate()[0])["images_per_s"] for one in started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data")
    parser.add_argument("--model", default="custom_cnn")
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--at-once", type=int, default=1)
    chosen = parser.parse_args()
    frozen = manifest.build(chosen.data, split="patient")
    config = settings.make(
        model=chosen.model, recipe=chosen.recipe, data=chosen.data, manifest=frozen.id, classes=frozen.classes,
        settings={"epochs": chosen.epochs},
    )  # fmt: skip
    run_id, clock = runs.create(config), Clock()
    own = fitting.Watch.on_epoch_end

    def both(watch: Any, epoch: int, logs: Any = None) -> None:
        own(watch, epoch, logs)
        clock.on_epoch_end(epoch)

    fitting.Watch.on_epoch_end = both  # type: ignore[method-assign]
    sys.addaudithook(note)
    with Path(os.devnull).open("w") as quiet:
        before, sys.stdout = sys.stdout, quiet
        run_training.train_run(run_id)
        sys.stdout = before
    (cpu, wall, opened), (cpu_end, wall_end, opened_end) = clock.marks[1], clock.marks[-1]
    seconds = wall_end - wall
    found = {
        "model": chosen.model,
        "recipe": chosen.recipe,
        "cores_busy": round((cpu_end - cpu) / seconds / process.cpu_count(), 3),
        "images_per_s": round((chosen.epochs - 1) * sum(frozen.counts["train"].values()) / seconds, 1),
        "image_files_opened": opened_end - opened,
        "cores": process.cpu_count(),
        "epochs": chosen.epochs - 1,
    }
    if chosen.at_once > 1:
        alike = [chosen.data, "--model", chosen.model, "--recipe", chosen.recipe, "--epochs", str(chosen.epochs)]
        together = at_once(chosen.at_once, alike)
        found |= {
            "at_once": chosen.at_once,
            "images_per_s_at_once": together,
            "ratio": round(together / found["images_per_s"], 2),
        }
    print(json.dumps(found), flush=True)
    trash.delete(run_id)  # last: it ends the process that trained the run, which is this one


if __name__ == "__main__":
    if "GLIBC_TUNABLES" not in os.environ:  # as a training of the service runs
        os.execve(sys.executable, [sys.executable, *sys.argv], process.training_environment())
    main()
