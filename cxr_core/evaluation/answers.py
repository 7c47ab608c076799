"""A predictions table as arrays, row by row of the same images: what every figure beyond the table is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.errors import BadInput
from cxr_core.evaluation import confusion, predictions
from cxr_core.runs import folder as runs

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Answers:
    """n images, k classes.

    Attributes:
        ids: (n,) str, unique.
        true: (n,) codes of the true classes, 0 to k - 1.
        probabilities: (n, k) float64 in [0, 1], rows summing to 1.
        classes: k names.
        called: (n,) codes of the classes that an operating point gives; None: the most probable ones.
    """

    ids: npt.NDArray[np.object_]
    true: Codes
    probabilities: Floats
    classes: tuple[str, ...]
    called: Codes | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def predicted(self) -> Codes:
        """(n,) the code that each image is called: what `called` says, else the most probable class; the first of equals."""
        found: Codes = self.probabilities.argmax(axis=1) if self.called is None else self.called
        return found

    @cached_property
    def confidence(self) -> Floats:
        """(n,) in [0, 1], the probability of the class that each image is called."""
        found: Floats = self.probabilities[np.arange(len(self)), self.predicted]
        return found

    @cached_property
    def right(self) -> Flags:
        """(n,) whether each image is called what it is."""
        return self.predicted == self.true

    @cached_property
    def confusion(self) -> confusion.Counts:
        """(k, k) int64, rows true, columns predicted."""
        return confusion.matrix(self.true, self.predicted, len(self.classes))

    @cached_property
    def support(self) -> npt.NDArray[np.int64]:
        """(k,) images of each true class."""
        return np.bincount(self.true, minlength=len(self.classes)).astype(np.int64)

    def take(self, places: npt.ArrayLike) -> "Answers":
        """The images at these places, or where this mask is true."""
        chosen = np.asarray(places)
        called = None if self.called is None else self.called[chosen]
        return Answers(self.ids[chosen], self.true[chosen], self.probabilities[chosen], self.classes, called)

    def with_probabilities(self, probabilities: Floats) -> "Answers":
        """The same images with other answers, (n, k), each called its most probable class."""
        return Answers(self.ids, self.true, probabilities, self.classes)

    def with_called(self, codes: Codes) -> "Answers":
        """The same answers, each image called what these (n,) codes say."""
        return Answers(self.ids, self.true, self.probabilities, self.classes, codes)

    def table(self) -> pd.DataFrame:
        """As a predictions table."""
        names = np.array(self.classes, dtype=object)
        return predictions.make(self.ids.tolist(), names[self.true].tolist(), self.probabilities, self.classes)

    def code(self, name: str) -> int:
        return self.classes.index(name)


def of(table: pd.DataFrame) -> Answers:
    """The arrays of a predictions table."""
    return Answers(
        ids=table["id"].to_numpy(dtype=object),
        true=predictions.true_codes(table),
        probabilities=predictions.probabilities(table),
        classes=tuple(predictions.classes(table)),
    )


def read(run_id: str, split: str) -> Answers:
    """The answers of a run on one split.

    Raises:
        UnknownName: no such run or split.
        WorkFailed: the file is damaged or not valid; the message names the row.
    """
    return of(predictions.read(runs.predictions_path(run_id, split)))


@dataclass(frozen=True, eq=False)
class Common:
    """The same images as several runs answered them, in one order.

    Attributes:
        members: one Answers per run, row by row the same images with the same true classes.
        images: how many each run has answered.
        relabelled: images that all have, but whose true class differs between them; they are left out.
    """

    members: tuple[Answers, ...]
    images: tuple[int, ...]
    relabelled: int

    def __len__(self) -> int:
        return len(self.members[0])


def common(several: Sequence[Answers]) -> Common:
    """What several runs said of the images that all of them have answered, in the order of the first.

    Raises:
        BadInput: no run, other classes, or not one image in common.
    """
    if not several:
        raise BadInput("There is nothing to compare. Choose at least one run.")
    first = several[0]
    for other in several[1:]:
        if other.classes != first.classes:
            raise BadInput(
                "Runs can be compared if they know the same classes in the same order. Received: "
                f"{', '.join(first.classes)} and {', '.join(other.classes)}."
            )
    places = [pd.Index(one.ids).get_indexer(pd.Index(first.ids)) for one in several]
    there = np.all([place >= 0 for place in places], axis=0)
    if not there.any():
        raise BadInput("The runs have no image in common in this split, so they cannot be compared. Choose others.")
    found = [one.take(place[there]) for one, place in zip(several, places, strict=True)]
    same = np.all([one.true == found[0].true for one in found], axis=0)
    if not same.any():
        raise BadInput("Every image that the runs have in common has another true class in each: nothing to compare.")
    return Common(tuple(one.take(same) for one in found), tuple(map(len, several)), int((~same).sum()))
