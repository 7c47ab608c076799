"""Two runs on the same images: differences of metrics, whether they are beyond chance, and where the runs disagree."""

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
    """`first_only` and `second_only`: images that only that run predicts correctly; `p`: exact, two-sided."""

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
    """Second - first, metric by metric, with paired bootstrap intervals: both runs meet the same resampled patients.

    Args:
        first, second: of the same images in the same order.
        patients: (n,) the patient of each, or None.
        parts: of `bootstrap.PARTS`.
    """
    resampled = [metrics.resample(each, patients, parts=parts, seed=seed) for each in (first, second)]
    before, after = (metrics.values(each, parts=parts) for each in (first, second))
    return {name: change(name, before[name], after[name], *resampled) for name in before}


def change(
    name: str, before: float | None, after: float | None, first: metrics.Resampled, second: metrics.Resampled
) -> metrics.Estimate:
    """The change of a metric from `before` to `after`, of two runs that were resampled on the same images."""
    value = np.nan if before is None or after is None else after - before
    if not np.isfinite(value):
        return metrics.Estimate(None, None, None, first.method)
    changes = second.replicates[name] - first.replicates[name]
    low, high = bootstrap.percentile_interval(changes, first.fewest) or (None, None)
    return metrics.Estimate(float(value), low, high, first.method)


def mcnemar(first: PredictionSet, second: PredictionSet) -> McNemar:
    """McNemar's test of whether one run is correct more often, by the images that only one predicts correctly.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; exact by the binomial distribution.
    """
    first_only, second_only = int(only_correct(first, second).sum()), int(only_correct(second, first).sum())
    discordant = first_only + second_only
    p = float(binomtest(first_only, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(first_only, second_only, p)


def agreement(first: PredictionSet, second: PredictionSet) -> tuple[float, float]:
    """Share of images with the same predicted class, and Cohen's kappa of it (Educ. Psychol. Meas. 20 (1960) 37-46).

    Kappa is NaN where both predict one and the same class for everything.
    """
    counts = confusion.matrix(first.predicted, second.predicted, len(first.classes))
    n = counts.sum()
    if not n:
        return float("nan"), float("nan")
    same = float(np.trace(counts) / n)
    by_chance = float(counts.sum(axis=1) @ counts.sum(axis=0) / n**2)
    return same, (same - by_chance) / (1 - by_chance) if by_chance < 1 else float("nan")


def only_correct(first: PredictionSet, second: PredictionSet) -> Flags:
    """(n,) images that the first predicts correctly and the second does not."""
    return first.correct & ~second.correct


def settings(configs: Mapping[str, RunConfig]) -> pd.DataFrame:
    """The settings that differ between runs, as text: one row a setting, one column a run (by title)."""
    documents = {title: to_document(config) for title, config in configs.items()}
    names: Sequence[str] = list(next(iter(documents.values()))) if documents else []
    rows: dict[str, list[Any]] = {name: [str(document[name]) for document in documents.values()] for name in names}
    differing = {name: values for name, values in rows.items() if len(set(values)) > 1}
    return pd.DataFrame.from_dict(differing, orient="index", columns=list(documents))
