"""The leaderboard: one figure on one split of all runs, of groups of runs, of the paper and of other published work."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from cxr_core.evaluation import intervals, paper, subgroups
from cxr_core.evaluation.scorecard import Card, Figure
from cxr_core.models import catalogue
from cxr_core.runs.folder import Run

COLUMNS = ("name", "origin", "data", "recipe", "value", "low", "high", "n", "note", "run")


@dataclass(frozen=True)
class Published:
    """Results that others report on the official test split, as shares rounded as printed; None where not reported."""

    name: str
    source: str
    accuracy: float
    macro_f1: float | None


# Issue 8 names them as the best documented public results for the three classes.
PUBLISHED = (
    Published("ConvNeXt-V2, pretrained", "best documented public result", 0.9135, 0.903),
    Published("Ensembles of several networks", "ensembles by others", 0.907, None),
)
_N = sum(paper.SUPPORTS["test"].values())


def published(figure: str, split: str) -> pd.DataFrame:
    """The fixed rows (COLUMNS) that report this figure on this split; intervals of accuracies are Wilson's for n images."""
    n = sum(paper.SUPPORTS[split].values()) if split in paper.SUPPORTS else 0
    rows = []
    for model in paper.ACCURACY:
        known = {
            "accuracy": paper.ACCURACY[model].get(split),
            "macro_f1": paper.MACRO_F1[model] if split == "test" else None,
        }
        of, _, label = figure.partition(":")
        if label in paper.CLASSES and of in ("precision", "recall", "f1") and split in paper.REPORTS:
            place = ("precision", "recall", "f1").index(of)
            known[figure] = paper.REPORTS[split][model][paper.CLASSES.index(label)][place]
        if (value := known.get(figure)) is not None:
            rows.append(_fixed(catalogue.title(model), "Paper, Table 4.1", figure, value, n, "official split"))
    if split == "test":
        for one in PUBLISHED:
            value = {"accuracy": one.accuracy, "macro_f1": one.macro_f1}.get(figure)
            if value is not None:
                rows.append(_fixed(one.name, f"Published: {one.source}", figure, value, _N, "official split"))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def of_runs(figure: str, cards: Sequence[tuple[Run, str, Card, int]]) -> pd.DataFrame:
    """One row (COLUMNS) per run.

    Args:
        cards: run, its title, its figures on the split, and how many images that has.
    """
    rows = []
    for run, title, card, n in cards:
        one = card.get(figure)
        if one is None or one.value is None:
            continue
        origin = "Ensemble" if run.config.model == "ensemble" else "This workbench"
        rows.append(
            (title, origin, run.config.data, run.config.recipe, one.value, one.low, one.high, n, one.how, run.id)
        )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def of_groups(figure: str, cards: Sequence[tuple[Run, str, Card, int]]) -> pd.DataFrame:
    """One row (COLUMNS) per group of at least two runs of one model and recipe on one dataset: mean, and ± one standard
    deviation between the runs as low and high.
    """
    groups: dict[tuple[str, str, str, str], list[tuple[float, int]]] = {}
    for run, _, card, n in cards:
        one = card.get(figure)
        if run.config.group and one is not None and one.value is not None:
            key = (run.config.group, run.config.model, run.config.recipe, run.config.data)
            groups.setdefault(key, []).append((one.value, n))
    rows = []
    for (group, model, recipe, data), found in groups.items():
        if len(found) < 2:
            continue
        values = np.array([value for value, _ in found])
        mean, spread = float(values.mean()), float(values.std(ddof=1))
        note = f"mean ± standard deviation of {len(found)} runs"
        name = f"{catalogue.title(model)}, group {group}"
        rows.append((name, "Group of runs", data, recipe, mean, mean - spread, mean + spread, found[0][1], note, ""))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def ranked(parts: Sequence[pd.DataFrame], *, smaller_is_better: bool = False) -> pd.DataFrame:
    """All rows in one table, the best first."""
    full = [part for part in parts if len(part)]
    whole = pd.concat(full, ignore_index=True) if full else pd.DataFrame(columns=list(COLUMNS))
    return whole.sort_values("value", ascending=smaller_is_better, ignore_index=True, kind="stable")


def unpaired(figure: str, value: float, n: int, baseline: float, baseline_n: int) -> Figure:
    """How far a figure is from a published one, of which no image is known.

    The interval, of accuracies only, is Newcombe's for different images; on the same images it is wider than need be.
    """
    low = high = None
    if figure == "accuracy" and n and baseline_n:
        low, high = subgroups.newcombe(round(value * n), n, round(baseline * baseline_n), baseline_n)
    return Figure(value - baseline, low, high, "Newcombe")


def quick(metrics: Mapping[str, object], figure: str) -> tuple[float, float, float, int] | None:
    """Value, low, high and images of a figure that a run's `metrics.json` holds with Wilson's interval; None for others."""
    of, _, label = figure.partition(":")
    known: dict[str, object] = dict(metrics)
    between = known.get("ci95")
    if not isinstance(between, dict) or of not in ("accuracy", "recall", "precision"):
        return None
    per_class = known["per_class"]
    value = known["accuracy"] if of == "accuracy" else per_class.get(label, {}).get(of)  # type: ignore[attr-defined]
    span = between["accuracy"] if of == "accuracy" else between[of].get(label)
    if value is None or span is None:
        return None
    return float(value), float(span[0]), float(span[1]), int(known["n"])  # type: ignore[arg-type, call-overload]


def _fixed(name: str, origin: str, figure: str, value: float, n: int, note: str) -> tuple[object, ...]:
    low, high = intervals.wilson(round(value * n), n) if figure == "accuracy" else (np.nan, np.nan)
    return (name, origin, "official set", "paper" if "Paper" in origin else "", value, low, high, n, note, "")
