"""Metrics by group of images: where a network leans on the file instead of the lungs, its groups differ."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from cxr_core.arrays import Flags
from cxr_core.data import audit
from cxr_core.errors import WorkFailed
from cxr_core.evaluation import image_metadata, intervals
from cxr_core.evaluation.prediction_set import PredictionSet

COLUMNS = ("trait", "group", "n", "right", "accuracy", "low", "high", "difference", "difference_low", "difference_high")
MIN_IMAGES = 10  # images in a group that is worth a line


def subgroup_table(predictions: PredictionSet, metadata: pd.DataFrame) -> pd.DataFrame:
    """One row per group.

    Args:
        metadata: `image_metadata.read` of the same images.

    Returns:
        COLUMNS: accuracy in [0, 1] with its 95 % Wilson interval, and its difference from all images outside the group with
        Newcombe's interval; then `recall <class>` per class, NaN where the group has no image of it.
    """
    rows = []
    for trait, group, inside in _groups(predictions, metadata):
        n, outside = int(inside.sum()), ~inside
        if n < MIN_IMAGES or not outside.any():
            continue
        m = int(outside.sum())
        correct, correct_outside = (int(predictions.correct[images].sum()) for images in (inside, outside))
        interval, difference = intervals.wilson(correct, n), correct / n - correct_outside / m
        difference_interval = intervals.newcombe(correct, n, correct_outside, m)
        of_class = [inside & (predictions.true == code) for code in range(len(predictions.classes))]
        recalls = [float(predictions.correct[images].mean()) if images.any() else np.nan for images in of_class]
        accuracy = (correct, correct / n, *interval)
        rows.append((trait, group, n, *accuracy, difference, *difference_interval, *recalls))
    return pd.DataFrame(rows, columns=[*COLUMNS, *(f"recall {name}" for name in predictions.classes)])


def _groups(predictions: PredictionSet, metadata: pd.DataFrame) -> Iterator[tuple[str, str, Flags]]:
    for code, name in enumerate(predictions.classes):
        yield "True class", name, predictions.true == code
    area = (metadata["width"].astype(float) * metadata["height"]).to_numpy()
    yield from _thirds("Image size", area / 1e6, "megapixels")
    shape = (metadata["width"] / metadata["height"]).to_numpy(dtype=float)
    yield from _thirds("Width : height", shape, "")
    yield from _thirds("File size", metadata["bytes"].to_numpy(dtype=float) / 1024, "KB")
    for trait, column in (("Dataset", "data"), ("Source", "source"), ("Format", "format"), ("Colour mode", "mode")):
        values = metadata[column].astype(str)
        if values.nunique() > 1:
            for value in values.value_counts().index[:8]:
                yield trait, value, (values == value).to_numpy()
    quality = metadata["quality"].to_numpy()
    for value in np.unique(quality[quality > 0])[:8] if len(np.unique(quality)) > 1 else ():
        yield "JPEG quality", str(int(value)), quality == value
    for kind, check in audit.CHECKS.items():
        try:
            flags = image_metadata.flagged(metadata, kind).to_numpy(dtype=bool)
        except WorkFailed:  # not audited
            return
        if flags.any():
            yield "Found by the audit", check.title, flags


def _thirds(trait: str, values: np.ndarray, unit: str) -> Iterator[tuple[str, str, Flags]]:
    low, high = np.quantile(values, [1 / 3, 2 / 3]) if len(values) else (0.0, 0.0)
    if low == high or not len(values):
        return
    tail = f" {unit}" if unit else ""
    yield trait, f"up to {low:.3g}{tail}", values <= low
    yield trait, f"{low:.3g} to {high:.3g}{tail}", (values > low) & (values <= high)
    yield trait, f"above {high:.3g}{tail}", values > high
