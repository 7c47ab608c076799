"""When a run had better say that it is unsure: the share of its most probable class below which it gives no answer.

Chosen on validation images: the least share at which the images that still get an answer have at most half of the errors
that all of them have, as long as no more than MOST of them go without one (selective classification, Geifman and El-Yaniv,
"Selective classification for deep neural networks", 2017, arXiv 1705.08500).
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cxr_core.evaluation import fitted, prediction_set
from cxr_core.evaluation.intervals import Interval, wilson
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.runs import run_store as runs

FEWEST = 50  # validation images; with less nothing is known of where errors are
MOST = 0.4


@dataclass(frozen=True)
class Band:
    """Answers with a most probable class below `least` are unsure.

    Attributes:
        least: in [0, 1], of the probabilities after the temperature, if there is one.
        images: of validation.
        answered: how many of them are sure.
        right: of these.
        right_of_all: of all.
    """

    least: float
    images: int
    answered: int
    right: int
    right_of_all: int

    @property
    def interval(self) -> Interval:
        """95 % Wilson interval of the share of right answers among the sure ones."""
        return wilson(self.right, self.answered)


def band(found: PredictionSet) -> Band | None:
    """The band of validation answers (with calibrated probabilities); None for fewer than FEWEST images or no error."""
    count, right = len(found), found.correct
    if count < FEWEST or right.all():
        return None
    sure = found.confidence
    order = np.argsort(-sure, kind="stable")
    errors = np.cumsum(~right[order]) / np.arange(1, count + 1)  # among the so many surest
    last = np.append(sure[order][1:] < sure[order][:-1], True)  # equally sure images stand on the same side
    fits = last & (errors <= (1 - right.mean()) / 2)
    enough = np.arange(1, count + 1) >= (1 - MOST) * count
    best = np.flatnonzero(fits & enough)
    place = best[-1] if len(best) else np.flatnonzero(last & enough)[0]
    return Band(
        float(sure[order][place]), count, int(place + 1), int(right[order][: place + 1].sum()), int(right.sum())
    )


def of_run(run_id: str) -> Band | None:
    """The band of a run by its validation predictions and its present temperature; None if it has too few of them."""
    run = runs.get(run_id)
    if fitted.SPLIT not in run.metrics:
        return None
    heat = fitted.temperature(run_id)
    stamp = runs.predictions_path(run_id, fitted.SPLIT).stat().st_mtime_ns
    return _of_run(run_id, stamp, heat.value if heat else 1.0)


def sure(run_id: str, found: PredictionSet) -> npt.NDArray[np.bool_] | None:
    """(n,) whether a run is sure of the class that it called each image; None if it has no band.

    Args:
        found: answers of the run, with the probabilities of the network itself, before any temperature.
    """
    bar = of_run(run_id)
    if bar is None:
        return None
    heat = fitted.temperature(run_id)
    return fitted.tempered(found, heat.value if heat else 1.0).confidence >= bar.least


@lru_cache(maxsize=64)
def _of_run(run_id: str, stamp: int, heat: float) -> Band | None:  # noqa: ARG001 - part of the key
    return band(fitted.tempered(prediction_set.read(run_id, fitted.SPLIT), heat))
