"""The bootstrap: how the metrics of a run spread when patients are drawn again, with replacement, within their class.

Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13. Whole patients are drawn,
since images of one person resemble each other; a patient with images of several classes counts for the most frequent.
Everything is a matrix product over patients, so thousands of resamples of thousands of images take a fraction of a second.

Where a class has very many patients, random groups of them are drawn instead: the mean of groups spreads as the mean of their
members does (K. M. Wolter, Introduction to Variance Estimation, 2007, chapter 2), and there are fewer of them.
"""

import threading
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr, stdtrit

from cxr_core.arrays import Flags, Floats
from cxr_core.evaluation import calibration, confusion
from cxr_core.evaluation.intervals import Interval
from cxr_core.evaluation.prediction_set import PredictionSet

RESAMPLES = 2000
LEVELS = 512  # of a score: finer steps than that change no interval
GROUPS = 1500  # of patients in a class, at most
PARTS = ("counts", "terms", "levels")
CACHED_CHUNKS = 20  # of at most 1 MB each: runs on the same images share their draws, and two splits fit
RELEASE_S = 60.0  # seconds without a draw until the cache is emptied
_CHUNK = 1_000_000  # patients × resamples at once: as float32 4 MB, which stays in the processor's cache
_BLOCK = 128  # resamples whose levels are processed together: 256 KB, for the same reason

Replicates = dict[str, Floats]  # a metric's name to its value in each resample, (B,), NaN where not defined
Weights = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Draws:
    """Count of each patient in each resample.

    Attributes:
        patients: (n,) int codes 0 to G - 1 of the images' patients.
        strata: (G,) the class that each patient counts for.
        resamples: B.
        seed: the same seed gives the same draws.
    """

    patients: npt.NDArray[np.int64]
    strata: npt.NDArray[np.int64]
    resamples: int
    seed: int

    @property
    def fewest(self) -> int:
        """Patients in the smallest class."""
        counts = np.bincount(self.strata)
        return int(counts[counts > 0].min()) if len(self.strata) else 0

    def chunks(self) -> Iterator[Weights]:
        """(G, b) float32 each, b summing to B: how often a patient was drawn."""
        step = max(1, _CHUNK // max(1, len(self.strata)))
        strata = self.strata.tobytes()
        for number, start in enumerate(range(0, self.resamples, step)):
            width = min(step, self.resamples - start)
            yield _drawn_counts(strata, width, self.seed, number).astype(np.float32)
        _release_later()

    def sums(self, values: Floats) -> Weights:
        """(m, G): values (n, m) of images summed by patient."""
        from scipy.sparse import csr_array  # here and below: a live prediction draws nothing, and would wait for it

        order = np.arange(len(self.patients))
        ones = np.ones(len(order), np.float32)
        members = csr_array((ones, (self.patients, order)), shape=(len(self.strata), len(order)))
        return np.ascontiguousarray((members @ values.astype(np.float32)).T)


def draws(true: npt.ArrayLike, patients: npt.ArrayLike | None, *, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
    """Resampling plan of these images.

    Args:
        true: (n,) codes of the true classes.
        patients: (n,) the patient of each image, any values; None: every image is a patient of its own.
    """
    codes = np.asarray(true, dtype=np.int64)
    if patients is None:
        return _grouped(np.arange(len(codes)), codes, resamples, seed)
    patient_codes = pd.factorize(np.asarray(patients))[0].astype(np.int64)
    classes = int(codes.max()) + 1 if len(codes) else 1
    count = int(patient_codes.max()) + 1 if len(patient_codes) else 0
    by_class = np.bincount(patient_codes * classes + codes, minlength=count * classes).reshape(count, classes)
    return _grouped(patient_codes, by_class.argmax(axis=1).astype(np.int64), resamples, seed)


def _grouped(patients: npt.NDArray[np.int64], strata: npt.NDArray[np.int64], resamples: int, seed: int) -> Draws:
    """Draws of patients, or of random groups of them in classes with more than GROUPS."""
    rng = np.random.default_rng(seed)
    group = np.empty(len(strata), np.int64)
    group_strata: list[npt.NDArray[np.int64]] = []
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        count = min(len(members), GROUPS)
        shuffled = rng.permutation(members) if count < len(members) else members
        group[shuffled] = sum(map(len, group_strata)) + np.arange(len(members)) % count
        group_strata.append(np.full(count, stratum))
    return Draws(group[patients], np.concatenate(group_strata) if group_strata else strata, resamples, seed)


@lru_cache(maxsize=CACHED_CHUNKS)
def _drawn_counts(strata: bytes, width: int, seed: int, number: int) -> npt.NDArray[np.uint8]:
    """(G, width), read-only. A patient is drawn once a resample on average, so 255 times is out of reach."""
    classes = np.frombuffer(strata, np.int64)
    rng = np.random.default_rng([seed, number])
    counts = np.zeros((len(classes), width), np.uint8)
    for stratum in np.unique(classes):
        members = np.flatnonzero(classes == stratum)
        cells = rng.integers(0, len(members), (len(members), width), dtype=np.int32)
        cells *= width
        cells += np.arange(width, dtype=np.int32)
        counts[members] = np.bincount(cells.ravel(), minlength=len(members) * width).reshape(len(members), width)
    counts.flags.writeable = False
    return counts


_timers: list[threading.Timer] = []  # at most one
_timers_lock = threading.Lock()


def _release_later() -> None:
    """Empty the cache of draws once nothing has been drawn for RELEASE_S."""
    timer = threading.Timer(RELEASE_S, _drawn_counts.cache_clear)
    timer.daemon = True
    with _timers_lock:
        while _timers:
            _timers.pop().cancel()
        _timers.append(timer)
        timer.start()


def replicates(predictions: PredictionSet, draws: Draws, *, parts: Collection[str] = PARTS) -> Replicates:
    """Metrics of a run in every resample, by the names in metrics.py.

    Args:
        predictions: for the images that `draws` is of.
        parts: of PARTS: "counts", what the confusion matrix gives; "terms", Brier score, log loss and calibration error;
            "levels", the areas. Each costs more than the one before.
    """
    cells = _cells(predictions) if "counts" in parts else np.empty((len(predictions), 0))
    terms = _terms(predictions) if "terms" in parts else []
    sums = draws.sums(np.concatenate([cells, *terms], axis=1))
    levels = (
        [_levels(predictions, code, draws) for code in range(len(predictions.classes))] if "levels" in parts else []
    )
    chunks: list[Replicates] = []
    for weights in draws.chunks():
        totals = (sums @ weights).astype(np.float64)
        chunk: Replicates = {}
        if "counts" in parts:
            size = len(predictions.classes)
            matrices = np.rint(totals[: cells.shape[1]]).T.reshape(-1, size, size)
            chunk |= confusion.by_name(matrices, predictions.classes)
        if "terms" in parts:
            chunk |= _of_terms(totals[cells.shape[1] :])
        if "levels" in parts:
            blocks = [weights[:, start : start + _BLOCK] for start in range(0, weights.shape[1], _BLOCK)]
            areas = [_of_levels(predictions.classes, levels, np.ascontiguousarray(block)) for block in blocks]
            chunk |= _concatenated(areas)
        chunks.append(chunk)
    values = _concatenated(chunks)
    return _centred(predictions, values) if "terms" in parts else values


def _concatenated(parts: Sequence[Replicates]) -> Replicates:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def interval(name: str, values: npt.ArrayLike, point: float, fewest: int) -> Interval | None:
    """The 95 % interval of the metric `name`: of areas on the logit scale, where they spread evenly; else percentiles.

    Simulation shows percentiles of an area near 1 to cover too little, the logit to be right.

    Args:
        values: (B,) its replicates.
        point: its value on the images themselves.
        fewest: patients in the smallest class (`Draws.fewest`).
    """
    finite = _finite(values)
    if len(finite) and np.ptp(finite) < 1e-12:
        return None  # all resamples agree, which says nothing of the next images
    is_area = name.split(":", maxsplit=1)[0] in ("auc", "ap", "macro_auc", "macro_ap")
    if not is_area or not len(finite) or not 0 < point < 1 or finite.min() <= 0 or finite.max() >= 1:
        return percentile_interval(finite, fewest)
    n = max(fewest, 5)
    reach = np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975) * np.log(finite / (1 - finite)).std()
    middle = np.log(point / (1 - point))
    return float(1 / (1 + np.exp(reach - middle))), float(1 / (1 + np.exp(-reach - middle)))


def percentile_interval(values: npt.ArrayLike, fewest: int, confidence: float = 0.95) -> Interval | None:
    """(low, high): the expanded percentile interval; None if no value is defined.

    Plain percentiles are too narrow for small samples, by the same factor as a normal interval with the standard deviation
    that divides by n; so they are taken further out, as far as Student's t would be. Source: T. C. Hesterberg, "What teachers
    should know about the bootstrap", The American Statistician 69 (2015) 371-386, section 5.3.

    Args:
        values: (B,) replicates.
        fewest: patients in the smallest class (`Draws.fewest`); below 5 it counts as 5.
    """
    n = max(fewest, 5)
    outside = float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + confidence) / 2)))
    finite = _finite(values)
    if not len(finite):
        return None
    low, high = np.quantile(finite, [outside, 1 - outside])
    return float(low), float(high)


def _finite(values: npt.ArrayLike) -> Floats:
    numbers = np.asarray(values, dtype=np.float64)
    return numbers[np.isfinite(numbers)]


def _cells(predictions: PredictionSet) -> Floats:
    """(n, k²) one-hot: which cell of the confusion matrix each image is in."""
    size = len(predictions.classes)
    cells = np.zeros((len(predictions), size * size))
    cells[np.arange(len(predictions)), predictions.true * size + predictions.predicted] = 1
    return cells


def _terms(predictions: PredictionSet) -> list[Floats]:
    """(n, 3 + bins): 1, Brier term, log loss term, and the gap of each image in the bin of its confidence."""
    confidence = predictions.confidence
    gaps = np.zeros((len(predictions), calibration.BINS))
    gaps[np.arange(len(predictions)), calibration.bin_numbers(confidence)] = predictions.correct - confidence
    true, shares = predictions.true, predictions.probabilities
    terms = [np.ones(len(predictions)), calibration.brier_terms(true, shares), calibration.log_loss_terms(true, shares)]
    return [np.stack(terms, axis=1), gaps]


def _of_terms(totals: Floats) -> Replicates:
    n = np.where(totals[0] > 0, totals[0], np.nan)
    return {"brier": totals[1] / n, "log_loss": totals[2] / n, "ece": np.abs(totals[3:]).sum(axis=0) / n}


def _levels(predictions: PredictionSet, code: int, draws: Draws) -> tuple[Any, Any]:
    """(L, G) each: images of the class and of the others per level of its score, highest first, and patient.

    Sparse where most levels of most patients are empty.
    """
    from scipy.sparse import csr_array

    score = predictions.probabilities[:, code]
    distinct, level = np.unique(-score, return_inverse=True)
    if len(distinct) > LEVELS:  # even steps of rank, equal scores staying together
        counts = np.bincount(level, minlength=len(distinct))
        steps = ((np.cumsum(counts) - counts / 2) * LEVELS / len(score)).astype(np.intp).clip(0, LEVELS - 1)
        level = steps[level]
    is_positive = predictions.true == code
    shape = (int(level.max()) + 1 if len(level) else 1, len(draws.strata))

    def matrix(rows: Flags) -> Any:
        sparse = csr_array((np.ones(int(rows.sum()), np.float32), (level[rows], draws.patients[rows])), shape=shape)
        return sparse if sparse.nnz * 16 < shape[0] * shape[1] else sparse.toarray()

    return matrix(is_positive), matrix(~is_positive)


def _of_levels(classes: tuple[str, ...], levels: list[tuple[Any, Any]], weights: Weights) -> Replicates:
    values: Replicates = {}
    for name, (of_class, of_others) in zip(classes, levels, strict=True):
        positives, negatives = of_class @ weights, of_others @ weights  # (L, b) float32: whole numbers, exact below 2²⁴
        hits, false_alarms = np.cumsum(positives, axis=0), np.cumsum(negatives, axis=0)
        all_hits, all_false = hits[-1].astype(np.float64), false_alarms[-1].astype(np.float64)
        above = np.einsum("lb,lb->b", negatives, hits - positives / 2, dtype=np.float64)
        called = np.maximum(hits + false_alarms, 1)
        gained = np.einsum("lb,lb->b", positives, hits / called, dtype=np.float64)
        values[f"auc:{name}"] = above / np.where(all_hits * all_false > 0, all_hits * all_false, np.nan)
        values[f"ap:{name}"] = gained / np.where(all_hits > 0, all_hits, np.nan)
    for metric in ("auc", "ap"):
        by_class = np.stack([values[f"{metric}:{name}"] for name in classes])
        defined = np.isfinite(by_class)
        count = defined.sum(axis=0)
        values[f"macro_{metric}"] = np.where(defined, by_class, 0).sum(axis=0) / np.where(count > 0, count, np.nan)
    return values


def _centred(predictions: PredictionSet, values: Replicates) -> Replicates:
    """Take out of the calibration error what resampling itself adds: by chance it can only grow, never shrink below 0."""
    point = calibration.expected_calibration_error(predictions.confidence, predictions.correct)
    errors = values["ece"]
    if np.isfinite(errors).any():
        values["ece"] = np.maximum(errors - (np.nanmean(errors) - point), 0.0)
    return values
