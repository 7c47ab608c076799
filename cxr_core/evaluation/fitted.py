"""What is fitted on a run's validation images and kept beside it: the temperature and the operating point.

    <run>/temperature.json      see Temperature
    <run>/operating_point.json  see Point

Both name the validation predictions that they were fitted on; if those have changed since, they are void and read as None.
The Predict page applies them by `temperature`, `point`, `Temperature.applied` and `Point.label`.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from cxr_core import workspace
from cxr_core.arrays import Floats
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.evaluation import calibration, operating_point, prediction_set
from cxr_core.evaluation.prediction_set import PredictionSet
from cxr_core.formatting import percent
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run

FEWEST = 50  # validation images
SPLIT, SHIFTED = "val", "shifted"  # the second where a run has answered shifted copies of its validation images
_TEMPERATURE, _POINT = "temperature.json", "operating_point.json"
Fitted = TypeVar("Fitted")
Made = TypeVar("Made", "Temperature", "Point")


@dataclass(frozen=True)
class Temperature:
    """`value` divides the logarithms of the probabilities; `images` it was fitted on; `of` are their predictions."""

    value: float
    images: int
    of: str

    def applied(self, probabilities: npt.ArrayLike) -> Floats:
        """(…, k) the probabilities after it; the most probable class stays the same."""
        return calibration.apply_temperature(probabilities, self.value)


@dataclass(frozen=True)
class Point:
    """An operating point.

    Attributes:
        positive: the classes whose probabilities are summed to the score.
        threshold: of the score, in [0, 1]; at or above it an image is called positive.
        temperature: of the probabilities that the threshold belongs to; 1 for those of the network itself.
        rule: how it was chosen, in words.
        sensitivity, specificity: on the `images` validation images.
        of: the validation predictions.
    """

    positive: tuple[str, ...]
    threshold: float
    temperature: float
    rule: str
    sensitivity: float | None
    specificity: float | None
    images: int
    of: str

    def score(self, probabilities: npt.ArrayLike, classes: tuple[str, ...]) -> Floats:
        """(…,) the score, from (…, k) probabilities of the network itself, before any temperature."""
        values = calibration.apply_temperature(probabilities, self.temperature)
        return values[..., [classes.index(name) for name in self.positive]].sum(axis=-1)

    def told(self, title: Callable[[str], str] = str) -> str:
        """In words: 'viral or bacterial from 84.8 % on (finds at least 95 % of them …)'; `title` is how a class is called."""
        return f"{' or '.join(map(title, self.positive))} from {percent(self.threshold)} on ({self.rule})"

    def document(self) -> dict[str, Any]:
        """What scripts are told of it."""
        return {"positive": list(self.positive), "threshold": self.threshold, "rule": self.rule}

    def label(self, probabilities: npt.ArrayLike, classes: tuple[str, ...]) -> npt.NDArray[np.intp]:
        """(…,) codes: the most probable class on that side of the threshold on which the image lies.

        Args:
            probabilities: (…, k) of the network itself, before any temperature.
        """
        values = np.asarray(probabilities, dtype=np.float64)
        is_positive = np.array([name in self.positive for name in classes])
        called = self.score(values, classes) >= self.threshold
        return np.where(called[..., None] == is_positive, values, -1.0).argmax(axis=-1)


def temperature(run_id: str) -> Temperature | None:
    """The temperature kept with a run, if it fits its validation predictions.

    Raises:
        WorkFailed: its file is damaged.
    """
    return _kept(run_id, _TEMPERATURE, _as_temperature)


def point(run_id: str) -> Point | None:
    """The operating point kept with a run, if it fits its validation predictions.

    Raises:
        WorkFailed: its file is damaged.
    """
    return _kept(run_id, _POINT, _as_point)


def _as_temperature(document: dict[str, Any]) -> Temperature:
    found = Temperature(float(document["value"]), int(document["images"]), document["of"])
    if not 0 < found.value < float("inf"):
        raise ValueError(found.value)
    return found


def _as_point(document: dict[str, Any]) -> Point:
    numbers = {name: float(document[name]) for name in ("threshold", "temperature")}
    found = Point(**{**document, **numbers, "positive": tuple(map(str, document["positive"]))})
    if not (0 <= found.threshold <= 1 and 0 < found.temperature < float("inf")):
        raise ValueError(found)
    return found


def fit_temperature(run_id: str) -> Temperature:
    """Fit it on the run's validation images, without keeping it.

    Raises:
        UnknownName: no such run, or it has no validation predictions.
    """
    found = prediction_set.read(run_id, SPLIT)
    return Temperature(calibration.fit_temperature(found.true, found.probabilities), len(found), _stamp(run_id))


def keep_temperature(run_id: str) -> Temperature:
    """Fit it and write it into the run's folder."""
    return _kept_now(run_id, _TEMPERATURE, fit_temperature(run_id))


def keep_point(
    run_id: str, positive: tuple[str, ...], threshold: float, *, rule: str = "by hand", temperature_: float = 1.0
) -> Point:
    """Write an operating point into the run's folder, with what it gives on the validation images.

    Raises:
        BadInput: the threshold is not in [0, 1].
    """
    if not 0 <= threshold <= 1:
        raise BadInput(f"A threshold lies between 0 and 1. Received: {threshold}.")
    found = prediction_set.read(run_id, SPLIT)
    made = Point(tuple(positive), float(threshold), float(temperature_), rule, None, None, len(found), _stamp(run_id))
    gives = outcome(found, made)
    return _kept_now(run_id, _POINT, replace(made, sensitivity=gives.sensitivity, specificity=gives.specificity))


def threshold_for(found: Sequence[PredictionSet], positive: Sequence[str], least: float) -> float:
    """The most specific threshold that finds at least this share of the positives in each of several sets of answers.

    Args:
        found: validation answers, and those on their shifted copies if there are any; after the temperature.
        least: in (0, 1].

    Raises:
        UnknownName, BadInput: as `operating.question` and `operating.for_sensitivity`.
    """
    return min(
        operating_point.threshold_for_sensitivity(*operating_point.question(one, positive), least) for one in found
    )


def keep_calibrated(run_id: str, least: float = 0.0, *, positive: Sequence[str] = ()) -> Point | None:
    """Keep a run's temperature, and the operating point that finds at least this share of the positives on validation.

    Args:
        least: in (0, 1]; 0 for no operating point.
        positive: by default the classes that are not normal.

    Returns:
        The point, or None where none was asked for or no class is normal.

    Raises:
        UnknownName: no such run or class, or the run has no validation predictions.
        BadInput: there are fewer than FEWEST validation images, or none is positive; no class is positive, or all are; the run
            ships with the project.
    """
    heat, run = fit_temperature(run_id), runs.get(run_id)
    if heat.images < FEWEST:
        raise BadInput(
            f"Run '{run_id}' has {heat.images} validation images. At least {FEWEST} are needed: with fewer, a temperature and an "
            "operating point are chance. Train it with a larger validation split."
        )
    asked = tuple(positive) or operating_point.pneumonia_classes(run.config.classes)
    if not (least and asked):
        _kept_now(run_id, _TEMPERATURE, heat)
        return None
    splits = splits_of(run)
    threshold = threshold_for([tempered(prediction_set.read(run_id, one), heat.value) for one in splits], asked, least)
    _kept_now(run_id, _TEMPERATURE, heat)  # now that nothing can go wrong any more
    rule = f"finds at least {100 * least:g} % of them {told(splits)}"
    return keep_point(run_id, asked, threshold, rule=rule, temperature_=heat.value)


def splits_of(run: Run) -> list[str]:
    """Those of a run's splits that a threshold is chosen on."""
    return [one for one in (SPLIT, SHIFTED) if one in run.metrics]


def told(splits: Sequence[str]) -> str:
    """On what a rule was tried, in words."""
    return "on validation images and their shifted copies" if SHIFTED in splits else "on validation images"


def decided(found: PredictionSet, by: Point | None) -> PredictionSet:
    """The answers of a run, before any temperature, each image called what the operating point says; None changes nothing."""
    return found if by is None else found.with_assigned(by.label(found.probabilities, found.classes))


def outcome(found: PredictionSet, by: Point) -> operating_point.Outcome:
    """What an operating point gives on answers of its run, before any temperature."""
    return operating_point.outcome_at(
        *operating_point.question(tempered(found, by.temperature), by.positive), by.threshold
    )


def forget(run_id: str, what: str) -> None:
    """Remove the "temperature" or the "point" of a run; nothing happens if there is none."""
    name = {"temperature": _TEMPERATURE, "point": _POINT}[what]
    (_own_folder(run_id) / name).unlink(missing_ok=True)


def _kept_now(run_id: str, name: str, found: Made) -> Made:
    workspace.write_json(_own_folder(run_id) / name, asdict(found))
    return found


def _own_folder(run_id: str) -> Path:
    """Of a run whose calibration is the user's to change.

    Raises:
        BadInput: it ships with the project.
    """
    run = runs.get(run_id)
    if run.is_bundled:
        raise BadInput(f"Run '{run_id}' ships with the project; its calibration and operating point stay as they are.")
    return run.folder


def tempered(found: PredictionSet, value: float) -> PredictionSet:
    """The same images, called the same, after a temperature; 1 changes nothing."""
    if value == 1:
        return found
    calm = found.with_probabilities(calibration.apply_temperature(found.probabilities, value))
    return calm if found.assigned is None else calm.with_assigned(found.assigned)


def _stamp(run_id: str) -> str:
    path = runs.predictions_path(run_id, SPLIT)
    about = path.stat()
    return _digest(path, about.st_ino, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=256)
def _digest(path: Path, *_: int) -> str:
    """Of a file's content; the numbers change whenever it is written."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def _kept(run_id: str, name: str, parsed: Callable[[dict[str, Any]], Fitted]) -> Fitted | None:
    """What the file `name` of a run holds, if it was fitted on the predictions that are there now."""
    path = runs.folder(run_id) / name
    if not path.is_file():
        return None
    try:
        document = workspace.read_json(path)
        current = document["of"] == _stamp(run_id)
        return parsed(document) if current else None
    except UnknownName:  # the predictions are gone
        return None
    except (TypeError, KeyError, ValueError) as error:
        raise WorkFailed(f"{path} is damaged. Delete it, and fit it again on the Results page.") from error
