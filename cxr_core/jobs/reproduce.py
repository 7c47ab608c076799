"""The paper's three trainings, started as one: its recipe, its models, the official split."""

from collections.abc import Mapping
from typing import Any

from cxr_core.data import datasets, manifest
from cxr_core.jobs import queue
from cxr_core.models import catalogue, recipes
from cxr_core.runs import config as settings
from cxr_core.runs.config import RunConfig


def configs(data: str, *, weights: Mapping[str, str], changes: Mapping[str, Any]) -> list[RunConfig]:
    """The settings of the three runs.

    Args:
        data: dataset; its official split is used.
        weights: what a model starts from, by model; others start from the recipe's.
        changes: of settings, for all three.

    Raises:
        UnknownName, BadInput: no such dataset, weights or setting.
    """
    classes = datasets.get(data).classes
    made = [
        settings.make(
            model=model,
            recipe=recipes.PAPER,
            data=data,
            manifest="",
            classes=classes,
            settings={**changes, **({"weights": weights[model]} if model in weights else {})},
        )
        for model in catalogue.PAPER_MODELS
    ]
    frozen = manifest.build(data, split="official")
    return [settings.with_manifest(one, frozen.id, frozen.classes) for one in made]


def submit(data: str, *, weights: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, str]:
    """Queue the three runs; returns their ids by model."""
    return {config.model: queue.submit(config) for config in configs(data, weights=weights, changes=changes)}
