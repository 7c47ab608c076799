"""A predictions table as arrays, row by row of the same images: what every metric beyond the table is computed from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.arrays import Codes, Counts, Flags, Floats
from cxr_core.errors import BadInput
from cxr_core.evaluation import confusion, predictions
from cxr_core.runs import run_store as runs


@dataclass(frozen=True, eq=False)
class PredictionSet:
    """Predictions for n images and k classes.

    Attributes:
        ids: (n,) str, unique.
        true: (n,) codes of the true classes, 0 to k - 1.
        probabilities: (n, k) float64 in [0, 1], rows summing to 1.
        classes: k names.
        assigned: (n,) codes of the classes that a decision rule assigns; None: the most probable ones.
    """

    ids: npt.NDArray[np.object_]
    true: Codes
    probabilities: Floats
    classes: tuple[str, ...]
    assigned: Codes | None = None

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def predicted(self) -> Codes:
        """(n,) codes of the predicted classes: `assigned`, else the most probable class, the first of equals."""
        codes: Codes = self.probabilities.argmax(axis=1) if self.assigned is None else self.assigned
        return codes

    @cached_property
    def confidence(self) -> Floats:
        """(n,) in [0, 1], the probability of the predicted class."""
        shares: Floats = self.probabilities[np.arange(len(self)), self.predicted]
        return shares

    @cached_property
    def correct(self) -> Flags:
        """(n,) whether the predicted class is the true one."""
        return self.predicted == self.true

    @cached_property
    def confusion(self) -> Counts:
        """(k, k) int64, rows true, columns predicted."""
        return confusion.matrix(self.true, self.predicted, len(self.classes))

    @cached_property
    def support(self) -> Counts:
        """(k,) images of each true class."""
        return np.bincount(self.true, minlength=len(self.classes)).astype(np.int64)

    def take(self, rows: npt.ArrayLike) -> "PredictionSet":
        """The images in these rows, or where this mask is true."""
        chosen = np.asarray(rows)
        assigned = None if self.assigned is None else self.assigned[chosen]
        return PredictionSet(self.ids[chosen], self.true[chosen], self.probabilities[chosen], self.classes, assigned)

    def with_probabilities(self, probabilities: Floats) -> "PredictionSet":
        """The same images with other probabilities, (n, k), the most probable class predicted."""
        return PredictionSet(self.ids, self.true, probabilities, self.classes)

    def with_assigned(self, codes: Codes) -> "PredictionSet":
        """The same probabilities, with these (n,) codes as the predicted classes."""
        return PredictionSet(self.ids, self.true, self.probabilities, self.classes, codes)

    def table(self) -> pd.DataFrame:
        """As a predictions table."""
        names = np.array(self.classes, dtype=object)
        return predictions.prediction_table(
            self.ids.tolist(), names[self.true].tolist(), self.probabilities, self.classes
        )

    def code(self, name: str) -> int:
        """The code of a class by its name."""
        return self.classes.index(name)


def from_table(table: pd.DataFrame) -> PredictionSet:
    """The arrays of a predictions table."""
    return PredictionSet(
        ids=table["id"].to_numpy(dtype=object),
        true=predictions.true_codes(table),
        probabilities=predictions.probabilities(table),
        classes=tuple(predictions.classes(table)),
    )


def read(run_id: str, split: str) -> PredictionSet:
    """The predictions of a run on one split.

    Raises:
        UnknownName: no such run or split.
        WorkFailed: the file is damaged or not valid; the message names the row.
    """
    return from_table(predictions.read(runs.predictions_path(run_id, split)))


@dataclass(frozen=True, eq=False)
class SharedImages:
    """Predictions of several runs for the same images, in one order.

    Attributes:
        members: one PredictionSet per run, row by row the same images with the same true classes.
        images: how many each run has predictions for.
        relabelled: images that all have, but whose true class differs between them; they are left out.
    """

    members: tuple[PredictionSet, ...]
    images: tuple[int, ...]
    relabelled: int

    def __len__(self) -> int:
        return len(self.members[0])


def shared_images(several: Sequence[PredictionSet]) -> SharedImages:
    """The predictions of several runs for the images that all of them have, in the order of the first.

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
    rows = [pd.Index(each.ids).get_indexer(pd.Index(first.ids)) for each in several]
    in_all = np.all([positions >= 0 for positions in rows], axis=0)
    if not in_all.any():
        raise BadInput("The runs have no image in common in this split, so they cannot be compared. Choose others.")
    members = [each.take(positions[in_all]) for each, positions in zip(several, rows, strict=True)]
    same = np.all([member.true == members[0].true for member in members], axis=0)
    if not same.any():
        raise BadInput("Every image that the runs have in common has another true class in each: nothing to compare.")
    return SharedImages(tuple(member.take(same) for member in members), tuple(map(len, several)), int((~same).sum()))
