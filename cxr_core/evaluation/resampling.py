"""The bootstrap: how the figures of a run spread when patients are drawn again, with replacement, within their class.

Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap (1993), chapters 8 and 13. Whole patients are drawn,
since images of one person resemble each other; a patient with images of several classes counts for the most frequent.
Everything is a matrix product over patients, so thousands of resamples of thousands of images take a fraction of a second.

Where a class has very many patients, random groups of them are drawn instead: the mean of groups spreads as the mean of their
members does (K. M. Wolter, Introduction to Variance Estimation, 2007, chapter 2), and there are fewer of them.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import ndtr, stdtrit

from cxr_core.evaluation import calibration, confusion
from cxr_core.evaluation.answers import Answers
from cxr_core.evaluation.intervals import Interval

RESAMPLES = 2000
LEVELS = 512  # of a score: finer steps than that change no interval
GROUPS = 1500  # of patients in a class, at most
_CHUNK = 1_000_000  # patients × resamples held at once: 4 MB, which stays in the processor's cache
_BLOCK = 128  # resamples whose levels are looked at together: 256 KB, for the same reason
_KEPT = 64  # chunks of draws that are remembered, since runs on the same images share them

Drawn = dict[str, npt.NDArray[np.float64]]
Counts = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Draws:
    """Which patients each resample has, how often.

    Attributes:
        patients: (n,) int codes 0 to G - 1 of the images' patients.
        strata: (G,) uint8 or wider, the class that each patient counts for.
        resamples: B.
        seed: the same seed gives the same draws.
    """

    patients: npt.NDArray[np.int64]
    strata: npt.NDArray[np.int64]
    resamples: int
    seed: int

    @property
    def fewest(self) -> int:
        """How many patients the smallest class has."""
        counts = np.bincount(self.strata)
        return int(counts[counts > 0].min()) if len(self.strata) else 0

    def chunks(self) -> Iterator[Counts]:
        """(G, b) float32 each, b summing to B: how often a patient was drawn."""
        step = max(1, _CHUNK // max(1, len(self.strata)))
        for number, start in enumerate(range(0, self.resamples, step)):
            width = min(step, self.resamples - start)
            yield _drawn(self.strata.tobytes(), width, self.seed, number)

    def sums(self, values: npt.NDArray[np.float64]) -> Counts:
        """(m, G): values (n, m) of images summed by patient."""
        from scipy.sparse import csr_array  # here and below: a live prediction draws nothing, and would wait for it

        order = np.arange(len(self.patients))
        ones = np.ones(len(order), np.float32)
        members = csr_array((ones, (self.patients, order)), shape=(len(self.strata), len(order)))
        return np.ascontiguousarray((members @ values.astype(np.float32)).T)


def draws(true: npt.ArrayLike, patients: npt.ArrayLike | None, *, resamples: int = RESAMPLES, seed: int = 0) -> Draws:
    """How to draw these images again.

    Args:
        true: (n,) codes of the true classes.
        patients: (n,) who is on each image, any values; None: every image is a patient of its own.
    """
    codes = np.asarray(true, dtype=np.int64)
    if patients is None:
        return _grouped(np.arange(len(codes)), codes, resamples, seed)
    who = pd.factorize(np.asarray(patients))[0].astype(np.int64)
    classes = int(codes.max()) + 1 if len(codes) else 1
    count = int(who.max()) + 1 if len(who) else 0
    by_class = np.bincount(who * classes + codes, minlength=count * classes).reshape(count, classes)
    return _grouped(who, by_class.argmax(axis=1).astype(np.int64), resamples, seed)


def _grouped(who: npt.NDArray[np.int64], strata: npt.NDArray[np.int64], resamples: int, seed: int) -> Draws:
    """Draws of patients, or of random groups of them in classes with more than GROUPS."""
    rng = np.random.default_rng(seed)
    group = np.empty(len(strata), np.int64)
    kept: list[npt.NDArray[np.int64]] = []
    for name in np.unique(strata):
        own = np.flatnonzero(strata == name)
        count = min(len(own), GROUPS)
        group[rng.permutation(own) if count < len(own) else own] = (
            sum(len(one) for one in kept) + np.arange(len(own)) % count
        )
        kept.append(np.full(count, name))
    return Draws(group[who], np.concatenate(kept) if kept else strata, resamples, seed)


@lru_cache(maxsize=_KEPT)
def _drawn(strata: bytes, width: int, seed: int, number: int) -> Counts:
    """(G, width) float32."""
    classes = np.frombuffer(strata, np.int64)
    rng = np.random.default_rng([seed, number])
    counts = np.zeros((len(classes), width), np.float32)
    for name in np.unique(classes):
        own = np.flatnonzero(classes == name)
        drawn = rng.integers(0, len(own), (len(own), width), dtype=np.int32)
        drawn *= width
        drawn += np.arange(width, dtype=np.int32)
        counts[own] = np.bincount(drawn.ravel(), minlength=len(own) * width).reshape(len(own), width)
    counts.flags.writeable = False
    return counts


PARTS = ("counts", "terms", "levels")


def figures(answers: Answers, how: Draws, *, parts: Collection[str] = PARTS) -> Drawn:
    """Figures of a run in every resample, by the names of `scorecard`; (B,) float64 each, NaN where not defined.

    Args:
        answers: of the images that `how` draws.
        parts: of PARTS: "counts", what the confusion matrix gives; "terms", Brier score, log loss and calibration error;
            "levels", the areas. Each costs more than the one before.
    """
    cells = _cells(answers) if "counts" in parts else np.empty((len(answers), 0))
    terms = _terms(answers) if "terms" in parts else []
    sums = how.sums(np.concatenate([cells, *terms], axis=1))
    levels = [_levels(answers, code, how) for code in range(len(answers.classes))] if "levels" in parts else []
    chunks: list[Drawn] = []
    for drawn in how.chunks():
        totals = (sums @ drawn).astype(np.float64)
        chunk: Drawn = {}
        if "counts" in parts:
            chunk |= _of_counts(answers.classes, totals[: cells.shape[1]])
        if "terms" in parts:
            chunk |= _of_terms(totals[cells.shape[1] :])
        if "levels" in parts:
            blocks = [drawn[:, start : start + _BLOCK] for start in range(0, drawn.shape[1], _BLOCK)]
            chunk |= _joined([_of_levels(answers.classes, levels, np.ascontiguousarray(one)) for one in blocks])
        chunks.append(chunk)
    found = _joined(chunks)
    return _centred(answers, found) if "terms" in parts else found


def _joined(parts: Sequence[Drawn]) -> Drawn:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}


def interval(name: str, drawn: npt.ArrayLike, point: float, fewest: int) -> Interval | None:
    """The 95 % interval of the figure `name`: of areas on the logit scale, where they spread evenly; else percentiles.

    Simulation shows percentiles of an area near 1 to cover too little, the logit to be right (tests/evaluation).
    """
    values = np.asarray(drawn, dtype=np.float64)
    values = values[np.isfinite(values)]
    if len(values) and np.ptp(values) < 1e-12:
        return None  # all draws agree, which says nothing of the next images
    area = name.split(":", maxsplit=1)[0] in ("auc", "ap", "macro_auc", "macro_ap")
    if not area or not len(values) or not 0 < point < 1 or values.min() <= 0 or values.max() >= 1:
        return percentiles(values, fewest)
    n = max(fewest, 5)
    reach = np.sqrt(n / (n - 1)) * stdtrit(n - 1, 0.975) * np.log(values / (1 - values)).std()
    middle = np.log(point / (1 - point))
    return float(1 / (1 + np.exp(reach - middle))), float(1 / (1 + np.exp(-reach - middle)))


def percentiles(drawn: npt.ArrayLike, fewest: int, confidence: float = 0.95) -> Interval | None:
    """(low, high): the expanded percentile interval; None if no value is defined.

    Plain percentiles are too narrow for small samples, by the same factor as a normal interval with the standard deviation
    that divides by n; so they are taken further out, as far as Student's t would be. Source: T. C. Hesterberg, "What teachers
    should know about the bootstrap", The American Statistician 69 (2015) 371-386, section 5.3.

    Args:
        fewest: patients in the smallest class (`Draws.fewest`); below 5 it counts as 5.
    """
    n = max(fewest, 5)
    outside = float(ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + confidence) / 2)))
    values = np.asarray(drawn, dtype=np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return None
    low, high = np.quantile(values, [outside, 1 - outside])
    return float(low), float(high)


def _cells(answers: Answers) -> npt.NDArray[np.float64]:
    """(n, k²) one-hot: which cell of the confusion matrix each image is in."""
    size = len(answers.classes)
    found = np.zeros((len(answers), size * size))
    found[np.arange(len(answers)), answers.true * size + answers.predicted] = 1
    return found


def _of_counts(classes: tuple[str, ...], totals: npt.NDArray[np.float64]) -> Drawn:
    size = len(classes)
    stack = np.rint(totals).T.reshape(-1, size, size)
    whole = stack.sum(axis=(1, 2))
    found = {
        "accuracy": np.trace(stack, axis1=1, axis2=2) / np.where(whole > 0, whole, np.nan),
        "macro_f1": confusion.macro_f1(stack),
        "balanced_accuracy": confusion.balanced_accuracy(stack),
    }
    for name, values in (
        ("precision", confusion.precision(stack)),
        ("recall", confusion.recall(stack)),
        ("f1", confusion.f1(stack)),
    ):
        found |= {f"{name}:{label}": values[:, code] for code, label in enumerate(classes)}
    return found


def _terms(answers: Answers) -> list[npt.NDArray[np.float64]]:
    """(n, 3 + bins): 1, Brier term, log loss term, and the gap of each image in the bin of its confidence."""
    sure = answers.confidence
    gaps = np.zeros((len(answers), calibration.BINS))
    gaps[np.arange(len(answers)), calibration.bins_of(sure)] = answers.right - sure
    true, given = answers.true, answers.probabilities
    terms = [np.ones(len(answers)), calibration.brier_terms(true, given), calibration.log_loss_terms(true, given)]
    return [np.stack(terms, axis=1), gaps]


def _of_terms(totals: npt.NDArray[np.float64]) -> Drawn:
    n = np.where(totals[0] > 0, totals[0], np.nan)
    return {"brier": totals[1] / n, "log_loss": totals[2] / n, "ece": np.abs(totals[3:]).sum(axis=0) / n}


def _levels(answers: Answers, code: int, how: Draws) -> tuple[Any, Any]:
    """(L, G) each: images of the class and of the others per level of its score, highest first, and patient.

    Sparse where most levels of most patients are empty.
    """
    from scipy.sparse import csr_array

    score = answers.probabilities[:, code]
    distinct, place = np.unique(-score, return_inverse=True)
    if len(distinct) > LEVELS:  # even steps of rank, equal scores staying together
        counts = np.bincount(place, minlength=len(distinct))
        steps = ((np.cumsum(counts) - counts / 2) * LEVELS / len(score)).astype(np.intp).clip(0, LEVELS - 1)
        place = steps[place]
    own = answers.true == code
    shape = (int(place.max()) + 1 if len(place) else 1, len(how.strata))
    ones = np.ones(len(score), np.float32)
    found = [csr_array((ones[side], (place[side], how.patients[side])), shape=shape) for side in (own, ~own)]
    first, second = (one if one.nnz * 16 < one.shape[0] * one.shape[1] else one.toarray() for one in found)
    return first, second


def _of_levels(classes: tuple[str, ...], levels: list[tuple[Any, Any]], drawn: npt.NDArray[np.float32]) -> Drawn:
    found: Drawn = {}
    for name, (own, other) in zip(classes, levels, strict=True):
        positives, negatives = own @ drawn, other @ drawn  # (L, b) float32: whole numbers, exact below 2²⁴
        hits, false = np.cumsum(positives, axis=0), np.cumsum(negatives, axis=0)
        all_hits, all_false = hits[-1].astype(np.float64), false[-1].astype(np.float64)
        below = np.einsum("lb,lb->b", negatives, hits - positives / 2, dtype=np.float64)
        called = np.maximum(hits + false, 1)
        gained = np.einsum("lb,lb->b", positives, hits / called, dtype=np.float64)
        found[f"auc:{name}"] = below / np.where(all_hits * all_false > 0, all_hits * all_false, np.nan)
        found[f"ap:{name}"] = gained / np.where(all_hits > 0, all_hits, np.nan)
    for title in ("auc", "ap"):
        values = np.stack([found[f"{title}:{name}"] for name in classes])
        known = np.isfinite(values)
        count = known.sum(axis=0)
        found[f"macro_{title}"] = np.where(known, values, 0).sum(axis=0) / np.where(count > 0, count, np.nan)
    return found


def _centred(answers: Answers, found: Drawn) -> Drawn:
    """Takes out of the calibration error what resampling itself adds: it can only grow by chance, never shrink below 0."""
    point = calibration.expected_error(answers.confidence, answers.right)
    drawn = found["ece"]
    if np.isfinite(drawn).any():
        found["ece"] = np.maximum(drawn - (np.nanmean(drawn) - point), 0.0)
    return found
