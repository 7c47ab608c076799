"""Many trainings started as one group: models × recipes × seeds × folds, a group of runs (runs/groups.py)."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from cxr_core.data import datasets, manifest
from cxr_core.errors import BadInput, UnknownName
from cxr_core.jobs import queue
from cxr_core.runs import config as settings
from cxr_core.runs.config import RunConfig

MAX_RUNS = 200  # runs of one sweep


def configs(
    data: str,
    *,
    models: Sequence[str],
    recipes: Sequence[str],
    seeds: Sequence[int],
    weights: Mapping[str, str],
    changes: Mapping[str, Any],
) -> list[RunConfig]:
    """The settings of every combination, models first; the splits are not frozen yet.

    Args:
        data: dataset.
        weights: what a model starts from, by model; others start from the recipe's.
        changes: of settings, for all.

    Raises:
        UnknownName, BadInput: no such name, or a setting out of range.
    """
    classes = datasets.get(data).classes
    for model in weights:
        if model not in models:
            raise UnknownName("model of this sweep to give weights to", model, models)
    return [
        settings.make(
            model=model,
            recipe=recipe,
            data=data,
            manifest="",
            classes=classes,
            settings={**changes, **({"weights": weights[model]} if model in weights else {}), "seed": seed},
        )
        for model, recipe, seed in product(models, recipes, seeds)
    ]


def submit(
    configs_: Sequence[RunConfig], *, folds: int = 0, split_seed: int = 0, **build: Any
) -> tuple[str, list[str]]:
    """Queue all runs as one group.

    Args:
        configs_: their settings, of one dataset.
        folds: of a cross-validation by patients: each of `configs_` is trained once for each fold. 0: one split for all.
        split_seed: of the split, the same for all, so that their metrics can be compared.
        build: how the splits are made, as for `manifest.build`.

    Returns:
        The group, and the ids of its runs.

    Raises:
        BadInput: none or more than MOST, or a split that cannot be made.
    """
    count = len(configs_) * max(1, folds)
    if not 0 < count <= MAX_RUNS:
        raise BadInput(
            f"A sweep has 1 to {MAX_RUNS} runs. Received: {count}. Choose fewer models, recipes, seeds or folds."
        )
    data = configs_[0].data
    parts = [{"folds": folds, "fold": fold, "split": "patient"} for fold in range(1, folds + 1)] or [{}]
    frozen = [manifest.build(data, seed=split_seed, **{**build, **part}) for part in parts]
    return submit_on_manifests(configs_, frozen)


def submit_on_manifests(configs_: Sequence[RunConfig], frozen: Sequence[manifest.Manifest]) -> tuple[str, list[str]]:
    """As `submit`, on manifests that are there already: each of `configs_` is trained on each of them."""
    data = configs_[0].data
    group = f"sweep-{data[:30]}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)[:3]}"
    grouped = [
        replace(settings.with_manifest(config, splits.id, splits.classes), group=group)
        for config, splits in product(configs_, frozen)
    ]
    return group, [queue.submit(config) for config in grouped]
