"""Runs with made-up predictions, on disk as a training would leave them: realistic errors without an hour of training."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core import workspace
from cxr_core.data import datasets, index, manifest, packing
from cxr_core.evaluation import metrics, paper, prediction_set, predictions
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
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
    state: str = "finished",
    **settings_: object,
) -> str:
    """Write a finished run and return its id.

    Args:
        splits: split to (ids, true classes).
        skill: how well it tells the classes apart.
        shift: how many normals it misses on test.
        age: seconds since it was made.
        state: it ended in; only a finished one has predictions.
        settings_: further changes of the recipe.
    """
    config = settings.make(
        model=model, recipe=recipe, data=data, manifest=manifest_id, classes=classes,
        settings={"epochs": epochs, "seed": seed, **settings_},
    )  # fmt: skip
    config = replace(config, group=group)
    run_id = f"{model}-{data[:30]}-{time.strftime('%Y%m%d-%H%M%S', time.localtime(time.time() - age))}-{seed:03x}"
    place = workspace.run(run_id)
    workspace.write_json(place / "config.json", settings.to_document(config))
    tables = {}
    for number, (split, (ids, true)) in enumerate(splits.items() if state == "finished" else ()):
        codes = np.array([classes.index(one) for one in true])
        lost = shift if split == "test" else 0.0
        given = probabilities(codes, len(classes), skill=skill, shift=lost, seed=10 * seed + number)
        tables[split] = predictions.prediction_table(ids, true, given, classes)
        predictions.write(place / "predictions" / f"{split}.parquet", tables[split])
    if state == "finished":
        workspace.write_json(place / "metrics.json", metrics.summary(tables, data))
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
        place,
        Status(
            state=state, created=made, started=made, ended=made + 60, epoch=epochs, epochs=epochs,  # type: ignore[arg-type]
            reason="" if state == "finished" else "It broke.",
        ),
    )  # fmt: skip
    return run_id


def paper_set(name: str = "kermany", *, synthetic: bool = False) -> str:
    """A dataset of the paper's 5,856 images by their numbers, without one file; returns its official manifest's id."""
    rows = []
    for split, counts in paper.SUPPORTS.items():
        for label, count in counts.items():
            rows += [(f"{split}/{label}/{number:04d}.jpeg", split, label, f"{split}-{label}-{number // 2}")
                     for number in range(count)]  # fmt: skip
    table = pd.DataFrame(rows, columns=["id", "split", "class", "patient"])
    rng = np.random.default_rng(0)
    table = table.assign(
        source="folder", format="JPEG", mode="L", width=rng.integers(900, 2000, len(table)),
        height=rng.integers(900, 2000, len(table)), bytes=rng.integers(10**4, 10**5, len(table)), quality=75,
        sha256=[f"{one:064x}" for one in range(len(table))],
    )  # fmt: skip
    folder = workspace.dataset(name)
    folder.mkdir(parents=True)
    index.write(folder, table)
    dataset = datasets.Dataset(
        name=name, classes=paper.CLASSES, counts=index.counts(table, paper.CLASSES), images=len(table),
        patients=int(table["patient"].nunique()), kind="folder", origin="made up", citation="", synthetic=synthetic,
        root="/nowhere", created="2026-01-01T00:00:00+00:00", skipped=(),
    )  # fmt: skip
    workspace.write_json(folder / "dataset.json", dataset.__dict__)
    (folder / "packed").mkdir()
    with (folder / "packed" / f"{packing.SIZE}.npy").open("wb") as out:  # black images, none of them on the disk
        shape = (len(table), packing.SIZE, packing.SIZE)
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": shape})
        out.truncate(out.tell() + int(np.prod(shape)))
    return manifest.build(name, split="official").id


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


def better(run_id: str, split: str) -> PredictionSet:
    """Give a run that has hardly learned anything answers on a split as a good one has them."""
    plain = prediction_set.read(run_id, split)
    made = plain.with_probabilities(probabilities(plain.true, len(plain.classes), skill=4.0))
    predictions.write(runs.predictions_path(run_id, split), made.table())
    return prediction_set.read(run_id, split)
