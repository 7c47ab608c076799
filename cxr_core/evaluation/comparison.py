"""Two runs on the same images: how far apart, whether by chance, and where they differ."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from cxr_core.arrays import Flags
from cxr_core.evaluation import bootstrap, confusion, metrics
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs.config import RunConfig, to_document


@dataclass(frozen=True)
class McNemar:
    """`first_only` and `second_only`: images that only that run has right; `p`: exact, two-sided."""

    first_only: int
    second_only: int
    p: float


def differences(
    first: PredictionSet,
    second: PredictionSet,
    patients: npt.ArrayLike | None,
    *,
    parts: Collection[str] = bootstrap.PARTS,
    seed: int = 0,
) -> metrics.Metrics:
    """Second less first, figure by figure, with paired bootstrap intervals: both runs meet the same resampled patients.

    Args:
        first, second: of the same images in the same order.
        patients: (n,) who is on each, or None.
        parts: of `bootstrap.PARTS`.
    """
    one, other = (metrics.resample(each, patients, parts=parts, seed=seed) for each in (first, second))
    before, after = (metrics.values(each, parts=parts) for each in (first, second))
    return {name: change(name, before[name], after[name], one, other) for name in before}


def change(
    name: str, before: float | None, after: float | None, one: metrics.Resampled, other: metrics.Resampled
) -> metrics.Estimate:
    """How far a figure has gone from `before` to `after`, of two runs that were drawn on the same images."""
    value = np.nan if before is None or after is None else after - before
    if not np.isfinite(value):
        return metrics.Estimate(None, None, None, one.method)
    low, high = bootstrap.percentile_interval(other.replicates[name] - one.replicates[name], one.fewest) or (None, None)
    return metrics.Estimate(float(value), low, high, one.method)


def mcnemar(first: PredictionSet, second: PredictionSet) -> McNemar:
    """Whether one run is right more often, by the images that only one has right.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; exact by the binomial distribution.
    """
    one, other = int((first.correct & ~second.correct).sum()), int((second.correct & ~first.correct).sum())
    p = float(binomtest(one, one + other, 0.5).pvalue) if one + other else 1.0
    return McNemar(one, other, p)


def agreement(first: PredictionSet, second: PredictionSet) -> tuple[float, float]:
    """Share of images that both answer alike, and Cohen's kappa of it (J. Cohen, Educ. Psychol. Meas. 20 (1960) 37-46).

    Kappa is NaN where both give one and the same class to everything.
    """
    counts = confusion.matrix(first.predicted, second.predicted, len(first.classes))
    n = counts.sum()
    if not n:
        return float("nan"), float("nan")
    alike = float(np.trace(counts) / n)
    by_chance = float(counts.sum(axis=1) @ counts.sum(axis=0) / n**2)
    return alike, (alike - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def only_right(first: PredictionSet, second: PredictionSet) -> Flags:
    """(n,) images that the first has right and the second wrong."""
    return first.correct & ~second.correct


def settings(configs: Mapping[str, RunConfig]) -> pd.DataFrame:
    """The settings that differ between runs, as text: one row a setting, one column a run (by title)."""
    documents = {title: to_document(config) for title, config in configs.items()}
    names: Sequence[str] = list(next(iter(documents.values()))) if documents else []
    rows: dict[str, list[Any]] = {name: [str(one[name]) for one in documents.values()] for name in names}
    differing = {name: values for name, values in rows.items() if len(set(values)) > 1}
    return pd.DataFrame.from_dict(differing, orient="index", columns=list(documents))
