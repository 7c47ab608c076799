"""The leaderboard: one metric on one split of runs, groups of runs and published work; and the accuracies of all runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd

from cxr_core import formatting
from cxr_core.evaluation import intervals, paper
from cxr_core.evaluation.metrics import WILSON, Estimate, Metrics, is_percentage
from cxr_core.models import catalogue
from cxr_core.runs.run_store import Run

COLUMNS = ("name", "origin", "data", "recipe", "value", "low", "high", "n", "note", "run")
ACCURACY_COLUMNS = (
    "model", "origin", "data", "recipe", "epochs",
    "train", "test", "test_low", "test_high", "val", "macro_f1", "run",
)  # fmt: skip

MIN_RUNS = 3  # of a group that gets an interval
T_INTERVAL = "t interval of the mean"

Entry = tuple[Run, str, Metrics, int]  # a run, its title, its metrics on the split, and how many images that has


@dataclass(frozen=True)
class Published:
    """Results that others report on the official test split, as shares rounded as printed; None where not reported."""

    name: str
    source: str
    accuracy: float
    macro_f1: float | None


# The best documented public results for the three classes.
PUBLISHED = (
    Published("ConvNeXt-V2, pretrained", "best documented public result", 0.9135, 0.903),
    Published("Ensembles of several networks", "ensembles by others", 0.907, None),
)


def published_rows(metric: str, split: str) -> pd.DataFrame:
    """The fixed rows (COLUMNS) that report this metric on this split; intervals of accuracies are Wilson's for n images."""
    n = sum(paper.SUPPORTS[split].values()) if split in paper.SUPPORTS else 0
    rows = []
    for model in paper.ACCURACY:
        printed = {
            "accuracy": paper.ACCURACY[model].get(split),
            "macro_f1": paper.MACRO_F1[model] if split == "test" else None,
        }
        base, _, label = metric.partition(":")
        if label in paper.CLASSES and base in ("precision", "recall", "f1") and split in paper.REPORTS:
            column = ("precision", "recall", "f1").index(base)
            printed[metric] = paper.REPORTS[split][model][paper.CLASSES.index(label)][column]
        if (value := printed.get(metric)) is not None:
            rows.append(_fixed_row(catalogue.title(model), "Paper, Table 4.1", metric, value, n))
    if split == "test":
        for result in PUBLISHED:
            value = {"accuracy": result.accuracy, "macro_f1": result.macro_f1}.get(metric)
            if value is not None:
                rows.append(_fixed_row(result.name, f"Published: {result.source}", metric, value, n))
    return _table(rows)


def run_rows(metric: str, entries: Sequence[Entry]) -> pd.DataFrame:
    """One row (COLUMNS) per run that has the metric."""
    rows = []
    for run, title, metrics, n in entries:
        estimate = metrics.get(metric)
        if estimate is None or estimate.value is None:
            continue
        origin = "Ensemble" if run.config.model == "ensemble" else "This workbench"
        data, recipe = run.config.data, run.config.recipe
        interval = (estimate.low, estimate.high)
        rows.append((title, origin, data, recipe, estimate.value, *interval, n, estimate.method, run.id))
    return _table(rows)


def group_rows(metric: str, entries: Sequence[Entry]) -> pd.DataFrame:
    """One row (COLUMNS) per group of at least two runs of one model and recipe on one dataset: their mean.

    From MIN_RUNS runs on it has the 95 % t interval of that mean, which knows the spread between seeds or folds, not the chance
    of which images were in the split. Of fewer the interval would tell nothing, and `note` has the values instead.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[float, int]]] = {}
    for run, _, metrics, n in entries:
        estimate = metrics.get(metric)
        if run.config.group and estimate is not None and estimate.value is not None:
            key = (run.config.group, run.config.model, run.config.recipe, run.config.data)
            groups.setdefault(key, []).append((estimate.value, n))
    rows = []
    for (group, model, recipe, data), members in groups.items():
        if len(members) < 2:
            continue
        values = [value for value, _ in members]
        if len(members) < MIN_RUNS:
            interval = (np.nan, np.nan)
            note = f"mean of {len(members)} runs: {' and '.join(_without_interval(metric, value) for value in values)}"
        else:
            interval = intervals.t_interval(values)
            note = f"{T_INTERVAL}, {len(members)} runs"
        name = f"{catalogue.title(model)}, group {group}"
        rows.append((name, "Group of runs", data, recipe, fmean(values), *interval, members[0][1], note, ""))
    return _table(rows)


def ranked(parts: Sequence[pd.DataFrame], *, smaller_is_better: bool = False) -> pd.DataFrame:
    """All rows in one table, the best first."""
    full = [part for part in parts if len(part)]
    whole = pd.concat(full, ignore_index=True) if full else _table([])
    return whole.sort_values("value", ascending=smaller_is_better, ignore_index=True, kind="stable")


def unpaired_difference(metric: str, value: float, n: int, baseline: float, baseline_n: int) -> Estimate:
    """The difference of a metric from a published one, whose images are not known one by one.

    The interval, of accuracies only, is Newcombe's for different images; on the same images it is wider than need be.
    """
    low = high = None
    if metric == "accuracy" and n and baseline_n:
        low, high = intervals.newcombe(round(value * n), n, round(baseline * baseline_n), baseline_n)
    return Estimate(value - baseline, low, high, "Newcombe")


def stored_estimate(stored: Mapping[str, Any], metric: str) -> tuple[Estimate, int] | None:
    """A metric with Wilson's interval and its number of images, from one split of a run's `metrics.json`; None for others."""
    base, _, label = metric.partition(":")
    if "ci95" not in stored or base not in ("accuracy", "recall", "precision"):
        return None
    value = stored["accuracy"] if base == "accuracy" else stored["per_class"].get(label, {}).get(base)
    interval = stored["ci95"]["accuracy"] if base == "accuracy" else stored["ci95"][base].get(label)
    if value is None or interval is None:
        return None
    return Estimate(float(value), float(interval[0]), float(interval[1]), WILSON), int(stored["n"])


def accuracy_table(runs: Sequence[Run]) -> pd.DataFrame:
    """Accuracies in [0, 1] of the paper's models, then of `runs` that have predictions, in their order.

    Returns:
        ACCURACY_COLUMNS; `origin` is "paper" or "run", `test_low` and `test_high` the 95 % interval of the test accuracy,
        `macro_f1` that of the test split; NaN where there is no such metric.
    """
    rows: list[tuple[object, ...]] = []
    for model, printed in paper.ACCURACY.items():
        setting = (catalogue.title(model), "paper", "paper's, official split", "paper", None)
        interval = paper.accuracy_interval(model, "test")
        rows.append((*setting, printed["train"], printed["test"], *interval, printed["val"], paper.MACRO_F1[model], ""))
    for run in (run for run in runs if run.has_predictions):
        train, test, val = (run.metrics.get(split, {}) for split in ("train", "test", "val"))
        low, high = test["ci95"]["accuracy"] if test else (None, None)
        about = (catalogue.title(run.config.model), "run", run.config.data, run.config.recipe, run.status.epoch)
        accuracies = (train.get("accuracy"), test.get("accuracy"), low, high, val.get("accuracy"))
        rows.append((*about, *accuracies, test.get("macro_f1"), run.id))
    return pd.DataFrame(rows, columns=list(ACCURACY_COLUMNS)).astype({"epochs": "Int64"})


def _without_interval(metric: str, value: float) -> str:
    return formatting.estimate(Estimate(value, None, None, ""), share=is_percentage(metric))


def _table(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _fixed_row(name: str, origin: str, metric: str, value: float, n: int) -> tuple[object, ...]:
    low, high = intervals.wilson(round(value * n), n) if metric == "accuracy" else (np.nan, np.nan)
    recipe = "paper" if "Paper" in origin else ""
    return (name, origin, "official set", recipe, value, low, high, n, "official split", "")
