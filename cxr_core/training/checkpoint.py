"""State of a training after its last whole epoch: all that it takes to resume as if it had never been interrupted.

<run>/checkpoint/<epoch>.npz        every variable of the network and of its optimizer, random seeds included
<run>/checkpoint/checkpoint.json    which file that is, and what the callbacks knew

The description is written last and whole, so a kill leaves the epoch before. The folder goes when the run is finished.
"""

import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_core import workspace
from cxr_core.errors import WorkFailed

FOLDER = "checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """State after `epoch` whole epochs.

    Attributes:
        began: epochs that were done when the phase under way began; its schedule and optimizer are as old as that.
        batch_size: as it is now, after any halving.
        best: rank of the best epoch so far (`run_store.epoch_score`), empty before the first.
        since: epochs since the best one.
    """

    epoch: int
    began: int
    batch_size: int
    best: tuple[float, ...]
    since: int


def write(run_folder: Path, state: Checkpoint, model: keras.Model) -> None:
    """Keep `state` and every variable of a compiled model in a run's folder.

    Raises:
        WorkFailed: the disk is full or cannot be written.
    """
    folder = run_folder / FOLDER
    whole = folder / f"{state.epoch}.npz"
    # The description must never be on the disk before what it describes.
    with workspace.replacing(whole, sync=True) as part:
        np.savez(part, *[keras.ops.convert_to_numpy(variable) for variable in _variables(model)])
    workspace.write_json(folder / "checkpoint.json", asdict(state))
    for old in folder.glob("*.npz"):
        if old != whole:
            old.unlink(missing_ok=True)


def read(run_folder: Path) -> Checkpoint | None:
    """Read the state in a run's folder; None if none is usable, and the training begins anew."""
    folder = run_folder / FOLDER
    try:
        document = workspace.read_json(folder / "checkpoint.json")
        state = Checkpoint(**{**document, "best": tuple(document["best"])})
        with zipfile.ZipFile(folder / f"{state.epoch}.npz") as file:
            return None if file.testzip() else state
    except FileNotFoundError:
        return None
    except (WorkFailed, OSError, TypeError, KeyError, zipfile.BadZipFile) as error:
        print(f"The state of the training cannot be read, so it begins anew ({error}).", flush=True)
        return None


def restore(run_folder: Path, state: Checkpoint, model: keras.Model, *, optimizer: bool) -> None:
    """Put the variables back into a compiled model of the same shape.

    Args:
        optimizer: its variables too; not at the beginning of a phase, which has an optimizer of its own.
    """
    if optimizer:
        model.optimizer.build(model.trainable_variables)
    with np.load(run_folder / FOLDER / f"{state.epoch}.npz") as file:
        arrays = [file[name] for name in file.files]
    for variable, array in zip(_variables(model, optimizer=optimizer), arrays, strict=False):
        variable.assign(array)


def clear(run_folder: Path) -> None:
    """Remove the checkpoint of a run."""
    shutil.rmtree(run_folder / FOLDER, ignore_errors=True)


def _variables(model: keras.Model, *, optimizer: bool = True) -> Sequence[Any]:
    """The network's, weights and random seeds, then the optimizer's; metrics begin anew with each epoch."""
    return [*model.variables, *(model.optimizer.variables if optimizer else ())]
