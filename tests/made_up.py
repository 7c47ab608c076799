"""Runs with made-up predictions, on disk as a training would leave them: realistic errors without an hour of training."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from cxr_core import workspace
from cxr_core.data import manifest
from cxr_core.evaluation import metrics, predictions
from cxr_core.runs import config as settings
from cxr_core.runs import folder as runs
from cxr_core.runs import status as states
from cxr_core.runs.status import Status

CLASSES = ("normal", "viral", "bacterial")


def probabilities(
    true: npt.NDArray[np.int64], k: int, *, skill: float = 1.6, shift: float = 0.0, sure: float = 1.5, seed: int = 0
) -> npt.NDArray[np.float64]:
    """(n, k): the true class gets `skill` more, normals (class 0) `shift` less, all of it `sure` times too sure."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(len(true), k))
    logits[np.arange(len(true)), true] += skill
    logits[true == 0, 0] -= shift
    raised = np.exp(sure * (logits - logits.max(axis=1, keepdims=True)))
    return raised / raised.sum(axis=1, keepdims=True)


def run(
    splits: Mapping[str, tuple[Sequence[str], Sequence[str]]],
    *,
    data: str = "made-up",
    manifest_id: str = "000000000000",
    classes: tuple[str, ...] = CLASSES,
    model: str = "custom_cnn",
    recipe: str = "tuned",
    group: str = "",
    seed: int = 0,
    skill: float = 1.6,
    shift: float = 0.6,
    age: float = 0.0,
    epochs: int = 20,
) -> str:
    """Write a finished run and return its id.

    Args:
        splits: split to (ids, true classes).
        skill: how well it tells the classes apart.
        shift: how many normals it misses on test.
        age: seconds since it was made.
    """
    config = settings.RunConfig(
        model=model, recipe=recipe, data=data, manifest=manifest_id, classes=classes, group=group, seed=seed
    )
    config = replace(config, epochs=epochs)
    run_id = f"{model}-{data[:30]}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(time.time() - age))}-{seed:03x}"
    place = workspace.run(run_id)
    workspace.write_json(place / "config.json", settings.to_document(config))
    tables = {}
    for number, (split, (ids, true)) in enumerate(splits.items()):
        codes = np.array([classes.index(one) for one in true])
        lost = shift if split == "test" else 0.0
        given = probabilities(codes, len(classes), skill=skill, shift=lost, seed=10 * seed + number)
        tables[split] = predictions.make(ids, true, given, classes)
        predictions.write(place / "predictions" / f"{split}.parquet", tables[split])
    workspace.write_json(place / "metrics.json", metrics.summary(tables))
    rng, steps = np.random.default_rng(seed), np.arange(1, epochs + 1)
    runs.write_history(
        place,
        [
            {
                "epoch": int(step), "loss": 0.3 + 1 / step, "accuracy": 0.9 - 0.4 / step,
                "val_loss": 0.5 + 0.9 / step + rng.normal() / 50, "val_accuracy": 0.8 - 0.3 / step + rng.normal() / 60,
                "seconds": 3.0,
            }
            for step in steps
        ],
    )  # fmt: skip
    made = time.time() - age
    states.write(
        place, Status(state="finished", created=made, started=made, ended=made + 60, epoch=epochs, epochs=epochs)
    )
    return run_id


def on(data: str, manifest_id: str, **how: object) -> str:
    """A made-up run on a manifest of a real dataset."""
    rows = manifest.rows(manifest.get(data, manifest_id))
    rows = rows[rows["copy"] == 0]
    splits = {
        split: (part["id"].tolist(), part["class"].astype(str).tolist())
        for split in ("train", "val", "test")
        if len(part := rows[rows["split"] == split])
    }
    return run(splits, data=data, manifest_id=manifest_id, classes=manifest.get(data, manifest_id).classes, **how)  # type: ignore[arg-type]
