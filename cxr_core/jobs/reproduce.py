"""The paper's three trainings, started as one group: its models by its recipe on the official split."""

from collections.abc import Mapping
from typing import Any

from cxr_core.jobs import sweep
from cxr_core.models import catalogue, recipes


def submit(data: str, *, weights: Mapping[str, str], changes: Mapping[str, Any]) -> dict[str, str]:
    """Queue the three runs on a dataset, with these starting weights (by model) and changes of settings; ids by model.

    Raises:
        UnknownName, BadInput: no such dataset, weights or setting.
    """
    models, seeds = catalogue.PAPER_MODELS, [changes.get("seed", 0)]
    configs = sweep.configs(data, models=models, recipes=[recipes.PAPER], seeds=seeds, weights=weights, changes=changes)
    _, ids = sweep.submit(configs, split="official")
    return dict(zip(models, ids, strict=True))
