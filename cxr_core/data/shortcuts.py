"""Do traits that have nothing to do with the lungs tell the classes apart? Then a network may learn those instead."""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

TRAITS = {
    "width": "Image width",
    "height": "Image height",
    "shape": "Width against height",
    "bytes_per_pixel": "File size per pixel",
    "quality": "JPEG quality",
    "mean": "Mean brightness",
    "border": "Brightness of the border",
    "sharpness": "Sharpness",
}
STRONG, NOTABLE = 0.9, 0.75  # areas under the curve
_SURE = 0.6  # the lower end of the interval has to be above, else it may be chance: few images give wide intervals


@dataclass(frozen=True)
class Shortcut:
    """How well one trait tells one class from the others in one split.

    Attributes:
        auc: area under the ROC curve, 0.5 (chance) to 1; the direction is whichever tells more.
        ci95: its interval.
        label: the class that the trait tells best.
        higher: whether that class has the higher values.
    """

    trait: str
    split: str
    label: str
    auc: float
    ci95: tuple[float, float]
    higher: bool

    @property
    def notable(self) -> bool:
        """Whether a person should know of it."""
        return self.auc >= NOTABLE and self.ci95[0] >= _SURE

    @property
    def severity(self) -> str:
        """high or medium, as of findings; "" if nobody needs to know of it."""
        return ("high" if self.auc >= STRONG else "medium") if self.notable else ""

    @property
    def sentence(self) -> str:
        """What it means, for a person."""
        name = TRAITS[self.trait]
        if self.auc >= NOTABLE and not self.notable:
            return f"{name} may say something about the class, but there are too few images to tell."
        if self.auc >= STRONG:
            verdict = "nearly gives the class away: a network can learn it instead of the lungs"
        elif self.auc >= NOTABLE:
            verdict = "hints at the class: a network may lean on it"
        else:
            return f"{name} says little about the class."
        return f"{name} alone {verdict} ({self.label} images have {'higher' if self.higher else 'lower'} values)."


def traits(index: pd.DataFrame, measures: pd.DataFrame) -> pd.DataFrame:
    """One float column per trait, rows as in the index."""
    return pd.DataFrame(
        {
            "width": index["width"].astype(float),
            "height": index["height"].astype(float),
            "shape": index["width"] / index["height"],
            "bytes_per_pixel": index["bytes"] / (index["width"] * index["height"]),
            "quality": index["quality"].astype(float),
            "mean": measures["mean"],
            "border": measures["border"],
            "sharpness": measures["sharpness"],
        }
    )


def find(index: pd.DataFrame, measures: pd.DataFrame) -> list[Shortcut]:
    """For each split with at least two classes and each trait: the class that it tells best. Strongest first."""
    values = traits(index, measures)
    splits, labels = index["split"].astype(str).to_numpy(), index["class"].astype(str).to_numpy()
    found = [
        _best(trait, split, values[trait].to_numpy()[splits == split], labels[splits == split])
        for split in sorted(set(splits))
        if len(set(labels[splits == split])) > 1
        for trait in TRAITS
    ]
    return sorted(found, key=lambda one: (-one.auc, one.split, one.trait))


def _best(trait: str, split: str, values: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]) -> Shortcut:
    ranks = np.asarray(pd.Series(values).rank(), dtype=np.float64)
    areas = {label: auc(ranks, labels == label) for label in sorted(set(labels))}
    label = max(areas, key=lambda one: abs(areas[one] - 0.5))
    area = max(areas[label], 1 - areas[label])
    own = int((labels == label).sum())
    return Shortcut(trait, split, label, area, interval(area, own, len(labels) - own), areas[label] >= 0.5)


def auc(ranks: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve from ranks (ties averaged), by the Mann-Whitney statistic."""
    own = int(positive.sum())
    return float((ranks[positive].sum() - own * (own + 1) / 2) / (own * (len(ranks) - own)))


def interval(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """95 % interval of an area under the ROC curve (Hanley & McNeil, Radiology 143 (1982) 29-36)."""
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area * area) + (negatives - 1) * (q2 - area * area)
    half = 1.96 * math.sqrt(max(0.0, variance) / (positives * negatives))
    return max(0.0, area - half), min(1.0, area + half)
