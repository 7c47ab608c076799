"""The paper's Table 4.1 beside the same three trainings done here, and what other runs of its models do otherwise."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import pandas as pd

from cxr_core.data import datasets, manifest
from cxr_core.errors import CxrError
from cxr_core.evaluation import paper
from cxr_core.models import catalogue, recipes
from cxr_core.runs import config as settings
from cxr_core.runs.run_store import Run

_PREFERENCE = {"finished": 0, "running": 1, "queued": 1}  # by state; runs that ended otherwise come last


def latest_reproductions(runs: Sequence[Run], data: str) -> dict[str, Run]:
    """By model, the run on the dataset `data` without `differences`: a finished one if there is one, then the newest.

    Args:
        runs: newest first.
    """
    compare_images = cache(image_differences)  # for this call: hundreds of runs are of the same few manifests
    same = [run for run in runs if run.config.data == data and differences(run, compare_images) == []]
    same.sort(key=lambda run: _PREFERENCE.get(run.status.state, 2))
    return {run.config.model: run for run in reversed(same)}


def differences(run: Run, compare_images: Callable[[str, str], list[str]] | None = None) -> list[str] | None:
    """List how a run differs from the paper, as short phrases; empty for a reproduction, None for other networks.

    A reproduction has the paper's three classes and its real images in the official split, and its recipe with nothing changed
    but the seed; a pretrained network starts from ImageNet's weights, or from a file that a person vouches for.
    `compare_images` is `image_differences`, or a cached one for many runs.
    """
    config = run.config
    if config.model not in paper.ACCURACY:
        return None
    if config.classes != paper.CLASSES:
        return [f"other classes: {', '.join(config.classes)}"]
    if config.recipe != recipes.PAPER:
        return [f"recipe {config.recipe}"]
    usual = settings.make(
        model=config.model, recipe=recipes.PAPER, data=config.data, manifest=config.manifest, classes=config.classes
    )
    phrases = list((compare_images or image_differences)(config.data, config.manifest))
    if catalogue.get(config.model).has_backbone and config.weights in set(catalogue.WEIGHTS) - {usual.weights}:
        phrases.append(f"starts from {config.weights}, not {usual.weights}")
    return phrases + [
        f"{setting.metadata['title'].lower()} {getattr(config, name)}, not {getattr(usual, name)}"
        for name, setting in settings.SETTINGS.items()
        if name not in ("seed", "weights") and getattr(config, name) != getattr(usual, name)
    ]


def image_differences(data: str, manifest_id: str) -> list[str]:
    """List how a manifest differs from the paper's images and splits."""
    try:
        dataset, frozen = datasets.get(data), manifest.get(data, manifest_id)
    except CxrError:
        return ["its dataset or manifest is not here"]
    if dataset.synthetic:
        return ["synthetic images"]
    if frozen.split != "official":
        return [f"split by {frozen.split}, not the official one"]
    phrases = [
        f"{split}: {_counts(frozen.counts.get(split, {}))}, not {_counts(supports)}"
        for split, supports in paper.SUPPORTS.items()
        if frozen.counts.get(split) != supports
    ]
    return phrases + (["images of other datasets"] if frozen.supplements else [])


def suitable_datasets() -> list[str]:
    """Datasets on which a reproduction can be trained: real images of the paper's classes, in its numbers."""
    return [each.name for each in datasets.list_datasets() if not each.synthetic and each.counts == paper.SUPPORTS]


def table(reproductions: Mapping[str, Run]) -> pd.DataFrame:
    """Table 4.1, one row a model and split, from runs by model; of models without one only the paper's accuracies are there.

    Returns:
        model, split, paper and here (accuracies in [0, 1]), low and high (the 95 % interval of `here`, Wilson), difference
        (here - paper), within (whether the paper's lies in the interval), state, weights, run; None where a run has not
        finished or there is none.
    """
    rows = []
    for model, printed in paper.ACCURACY.items():
        run = reproductions.get(model)
        for split, published in printed.items():
            row = {"model": model, "split": split, "paper": published}
            row |= dict.fromkeys(("here", "low", "high", "difference", "within"))
            if run and run.status.state == "finished" and (metrics := run.metrics.get(split)):
                here, (low, high) = metrics["accuracy"], metrics["ci95"]["accuracy"]
                row |= {"here": here, "low": low, "high": high, "difference": here - published}
                row["within"] = low <= published <= high
            state, weights, run_id = (run.status.state, run.config.weights, run.id) if run else ("", "", "")
            rows.append({**row, "state": state, "weights": weights, "run": run_id})
    return pd.DataFrame(rows)


def _counts(counts: Mapping[str, int]) -> str:
    return " / ".join(f"{counts.get(name, 0):,}" for name in paper.CLASSES) + " images"
