"""Section of the report on several runs side by side: differences on the images that both have, and settings."""

import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from cxr_core import formatting
from cxr_core.evaluation import comparison, decision_rule, image_metadata, metrics, prediction_set, rule_store
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.models import catalogue
from cxr_core.runs.run_store import Run


def context(members: Sequence[tuple[Run, PredictionSet]]) -> dict[str, Any]:
    """The values of comparison.html.j2: every run against the first, which is A.

    Args:
        members: runs with predictions of the network itself on one split.
    """
    names = {
        run.id: f"{chr(65 + number)}: {run.name or catalogue.title(run.config.model)}"
        for number, (run, _) in enumerate(members)
    }
    return {
        "names": names,
        "notices": [notice for run, _ in members if (notice := rule_store.of_run_or_default(run.id).notice)],
        "pairs": [_pair(members[0], other, chr(65 + number)) for number, other in enumerate(members[1:], start=1)],
        "settings": comparison.settings({names[run.id]: run.config for run, _ in members}),
    }


def _pair(first: tuple[Run, PredictionSet], second: tuple[Run, PredictionSet], letter: str) -> dict[str, Any]:
    """Both by their decision rules; what depends on probabilities, after their temperatures."""
    rules = [rule_store.of_run_or_default(run.id) for run, _ in (first, second)]
    decided = [
        decision_rule.decided(predictions, rule) for (_, predictions), rule in zip((first, second), rules, strict=True)
    ]
    a, b = prediction_set.shared_images(decided).members
    calibrated = [decision_rule.calibrated(each, rule.temperature) for each, rule in zip((a, b), rules, strict=True)]
    patients = image_metadata.patients(a, first[0].config.data)
    differences = comparison.differences(a, b, patients, parts=("counts", "levels"))
    differences |= comparison.differences(calibrated[0], calibrated[1], patients, parts=("terms",))
    values_a, values_b = (
        metrics.values(each, parts=("counts", "levels")) | metrics.values(after, parts=("terms",))
        for each, after in zip((a, b), calibrated, strict=True)
    )
    rows = {
        title: {
            "A": _value(name, values_a[name]),
            letter: _value(name, values_b[name]),
            f"{letter} − A": formatting.difference(differences[name], share=metrics.is_percentage(name)),
        }
        for name, title in metrics.TITLES.items()
    }
    agreement, kappa = comparison.agreement(a, b)
    return {
        "letter": letter,
        "images": len(a),
        "table": pd.DataFrame.from_dict(rows, orient="index"),
        "mcnemar": comparison.mcnemar(a, b),
        "agreement": agreement,
        "kappa": kappa,
    }


def _value(name: str, value: float) -> str:
    estimate = metrics.Estimate(value if math.isfinite(value) else None, None, None, "")
    return formatting.estimate(estimate, share=metrics.is_percentage(name))
