"""Shortcuts: traits of the files that tell the classes apart without the lungs, so that a network may learn those instead."""

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
    """Discrimination of one class from the others in one split by one trait.

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
        """True if a person should know of it."""
        return self.auc >= NOTABLE and self.ci95[0] >= _SURE

    @property
    def severity(self) -> str:
        """high or medium, as of findings; "" if nobody needs to know of it."""
        return ("high" if self.auc >= STRONG else "medium") if self.notable else ""

    @property
    def sentence(self) -> str:
        """Sentence that says what it means."""
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


def traits(index: pd.DataFrame, stats: pd.DataFrame) -> pd.DataFrame:
    """One float column per trait, rows as in the index."""
    return pd.DataFrame(
        {
            "width": index["width"].astype(float),
            "height": index["height"].astype(float),
            "shape": index["width"] / index["height"],
            "bytes_per_pixel": index["bytes"] / (index["width"] * index["height"]),
            "quality": index["quality"].astype(float),
            "mean": stats["mean"],
            "border": stats["border"],
            "sharpness": stats["sharpness"],
        }
    )


def find(index: pd.DataFrame, stats: pd.DataFrame) -> list[Shortcut]:
    """The class that each trait tells best, in each split with at least two classes. Strongest first.

    Args:
        index: of the dataset.
        stats: of `image_stats.dataset_stats`, row by row.
    """
    values = traits(index, stats)
    splits, labels = index["split"].astype(str).to_numpy(), index["class"].astype(str).to_numpy()
    best = [
        _best(trait, split, values[trait].to_numpy()[splits == split], labels[splits == split])
        for split in sorted(set(splits))
        if len(set(labels[splits == split])) > 1
        for trait in TRAITS
    ]
    return sorted(best, key=lambda shortcut: (-shortcut.auc, shortcut.split, shortcut.trait))


def _best(trait: str, split: str, values: npt.NDArray[np.float64], labels: npt.NDArray[np.str_]) -> Shortcut:
    ranks = np.asarray(pd.Series(values).rank(), dtype=np.float64)
    areas = {label: auc(ranks, labels == label) for label in sorted(set(labels))}
    label = max(areas, key=lambda name: abs(areas[name] - 0.5))
    area = max(areas[label], 1 - areas[label])
    count = int((labels == label).sum())
    return Shortcut(trait, split, label, area, interval(area, count, len(labels) - count), areas[label] >= 0.5)


def auc(ranks: npt.NDArray[np.float64], positive: npt.NDArray[np.bool_]) -> float:
    """Area under the ROC curve from ranks (ties averaged), by the Mann-Whitney statistic."""
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ranks) - count)))


def interval(area: float, positives: int, negatives: int) -> tuple[float, float]:
    """95 % interval of an area under the ROC curve (Hanley & McNeil, Radiology 143 (1982) 29-36)."""
    q1, q2 = area / (2 - area), 2 * area * area / (1 + area)
    variance = area * (1 - area) + (positives - 1) * (q1 - area * area) + (negatives - 1) * (q2 - area * area)
    half = 1.96 * math.sqrt(max(0.0, variance) / (positives * negatives))
    return max(0.0, area - half), min(1.0, area + half)
