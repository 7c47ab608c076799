"""The paper's Table 4.1 beside the same three trainings done here, and what other runs of its models have that it had not."""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import pandas as pd

from cxr_core.data import datasets, manifest
from cxr_core.errors import CxrError
from cxr_core.evaluation import leaderboard, paper
from cxr_core.models import catalogue, recipes
from cxr_core.runs import config as settings
from cxr_core.runs.run_store import Run
from cxr_core.runs.status import ENDED

COLUMNS = ("model", "split", "paper", "here", "low", "high", "difference", "within", "state", "weights", "run")
_FREE = ("seed", "weights")  # the paper tells neither seed nor file; what else weights may be is looked at by itself


def latest_reproductions(runs: Sequence[Run], data: str) -> dict[str, Run]:
    """The run of each of the paper's models on the dataset `data` that reproduces it: see `differences`.

    Of several a finished one comes before one that is under way, and that before one that ended otherwise; then the newest.

    Args:
        runs: newest first.
    """
    found: dict[str, Run] = {}
    images = cache(_other_images)  # for this once: hundreds of runs are of the same few manifests
    for run in runs:
        model = run.config.model
        if model not in paper.ACCURACY or run.config.data != data or differences(run, images=images):
            continue
        if model not in found or _rank(run) < _rank(found[model]):
            found[model] = run
    return found


def other_runs(runs: Sequence[Run], data: str) -> list[tuple[Run, list[str]]]:
    """Runs of the paper's models on `data` that have figures and are no reproduction, newest first, with what differs."""
    wanted = [
        run for run in runs if run.config.model in paper.ACCURACY and run.config.data == data and run.has_predictions
    ]
    images = cache(_other_images)
    return [(run, found) for run in wanted if (found := differences(run, images=images))]


def _other_images(data: str, manifest_id: str) -> list[str]:
    try:
        dataset, made = datasets.get(data), manifest.get(data, manifest_id)
    except CxrError:
        return ["its dataset or manifest is not here any more"]
    if dataset.synthetic:
        return ["synthetic images"]
    if made.split != "official":
        return [f"split by {made.split}, not the official one"]
    found = [f"{split}: {_told(made.counts.get(split, {}))}, not {_told(paper.SUPPORTS[split])}"
             for split in leaderboard.SPLITS if made.counts.get(split) != paper.SUPPORTS[split]]  # fmt: skip
    return found + (["images of other datasets"] if made.supplements else [])


def differences(run: Run, *, images: Callable[[str, str], list[str]] = _other_images) -> list[str]:
    """What a run of one of the paper's models has otherwise than the paper, as short phrases; empty for a reproduction.

    A reproduction has the paper's three classes and images as the source has them, real ones, and its recipe with nothing
    changed but the seed; what starts from pretrained weights starts from ImageNet's, or from a file that a person vouches for.

    Args:
        images: what a dataset and manifest have otherwise; given by those who ask for many runs.
    """
    config, found = run.config, []
    if config.classes != paper.CLASSES:
        return [f"other classes: {', '.join(config.classes)}"]
    if config.recipe != recipes.PAPER:
        return [f"recipe {config.recipe}"]
    found += images(config.data, config.manifest)
    model = catalogue.get(config.model)
    usual = settings.make(
        model=config.model, recipe=recipes.PAPER, data=config.data, manifest=config.manifest, classes=config.classes
    )
    if model.has_backbone and config.weights in catalogue.WEIGHTS and config.weights != usual.weights:
        found.append(f"starts from {config.weights}, not {usual.weights}")
    found += [
        f"{one.metadata['title'].lower()} {getattr(config, name)}, not {getattr(usual, name)}"
        for name, one in settings.SETTINGS.items()
        if name not in _FREE and getattr(config, name) != getattr(usual, name)
    ]
    return found


def _told(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{counts.get(name, 0):,}" for name in paper.CLASSES) + " images"


def _rank(run: Run) -> int:
    return 0 if run.status.state == "finished" else 1 if run.status.state not in ENDED else 2


def is_suitable(name: str) -> bool:
    """Whether a reproduction can be trained on this dataset: real images of the paper's classes, in its numbers."""
    try:
        dataset = datasets.get(name)
    except CxrError:
        return False
    return not dataset.synthetic and dataset.counts == paper.SUPPORTS


def has_imagenet_weights(model: str) -> bool:
    """Whether Keras has downloaded the ImageNet weights of a model to this machine, by the name of their file."""
    cache = Path(os.environ.get("KERAS_HOME") or "~/.keras").expanduser() / "models"
    return any(cache.glob(f"{model}_weights*notop*.h5"))


def table(found: Mapping[str, Run]) -> pd.DataFrame:
    """Table 4.1, one row a model and split.

    Args:
        found: runs by model, as `latest` gives them; of models without one only the paper's figures are there.

    Returns:
        COLUMNS; accuracies in [0, 1], `low` and `high` the 95 % interval of the one found here (Wilson), `difference` here
        less the paper's, `within` whether the paper's lies in the interval; None where there is nothing yet, which is so for
        runs that have not finished too.
    """
    rows = []
    for model, printed in paper.ACCURACY.items():
        run = found.get(model)
        for split in leaderboard.SPLITS:
            figures = run.metrics.get(split) if run and run.status.state == "finished" else None
            here = figures["accuracy"] if figures else None
            low, high = figures["ci95"]["accuracy"] if figures else (None, None)
            rows.append(
                {
                    "model": model,
                    "split": split,
                    "paper": printed[split],
                    "here": here,
                    "low": low,
                    "high": high,
                    "difference": None if here is None else here - printed[split],
                    "within": None if low is None or high is None else low <= printed[split] <= high,
                    "state": run.status.state if run else "",
                    "weights": run.config.weights if run else "",
                    "run": run.id if run else "",
                }
            )
    return pd.DataFrame(rows, columns=list(COLUMNS))
