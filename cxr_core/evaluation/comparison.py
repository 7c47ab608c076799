"""Two runs on the same images: how far apart, whether by chance, and where they differ."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import binomtest

from cxr_core.evaluation import confusion, resampling, scorecard
from cxr_core.evaluation.answers import Answers, Flags
from cxr_core.runs.config import RunConfig, to_document

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class McNemar:
    """`first_only` and `second_only`: images that only that run has right; `p`: exact, two-sided."""

    first_only: int
    second_only: int
    p: float


def differences(
    first: Answers,
    second: Answers,
    patients: npt.ArrayLike | None,
    *,
    parts: Collection[str] = resampling.PARTS,
    seed: int = 0,
) -> scorecard.Card:
    """Second less first, figure by figure, with paired bootstrap intervals: both runs meet the same resampled patients.

    Args:
        first, second: of the same images in the same order.
        patients: (n,) who is on each, or None.
        parts: of `resampling.PARTS`.
    """
    one, other = (scorecard.spread(each, patients, parts=parts, seed=seed) for each in (first, second))
    before, after = (scorecard.points(each, parts=parts) for each in (first, second))
    return {name: apart(name, before[name], after[name], one, other) for name in before}


def apart(
    name: str, before: float | None, after: float | None, one: scorecard.Spread, other: scorecard.Spread
) -> scorecard.Figure:
    """How far a figure has gone from `before` to `after`, of two runs that were drawn on the same images."""
    value = np.nan if before is None or after is None else after - before
    if not np.isfinite(value):
        return scorecard.Figure(None, None, None, one.how)
    low, high = resampling.percentiles(other.drawn[name] - one.drawn[name], one.fewest) or (None, None)
    return scorecard.Figure(float(value), low, high, one.how)


def mcnemar(first: Answers, second: Answers) -> McNemar:
    """Whether one run is right more often, by the images that only one has right.

    Source: Q. McNemar, Psychometrika 12 (1947) 153-157; exact by the binomial distribution.
    """
    one, other = int((first.right & ~second.right).sum()), int((second.right & ~first.right).sum())
    p = float(binomtest(one, one + other, 0.5).pvalue) if one + other else 1.0
    return McNemar(one, other, p)


def agreement(first: Answers, second: Answers) -> tuple[float, float]:
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


def only_right(first: Answers, second: Answers) -> Flags:
    """(n,) images that the first has right and the second wrong."""
    return first.right & ~second.right


def settings(configs: Mapping[str, RunConfig]) -> pd.DataFrame:
    """The settings that differ between runs, as text: one row a setting, one column a run (by title)."""
    documents = {title: to_document(config) for title, config in configs.items()}
    names: Sequence[str] = list(next(iter(documents.values()))) if documents else []
    rows: dict[str, list[Any]] = {name: [str(one[name]) for one in documents.values()] for name in names}
    differing = {name: values for name, values in rows.items() if len(set(values)) > 1}
    return pd.DataFrame.from_dict(differing, orient="index", columns=list(documents))
