"""Checks of an audit: the title, severity and meaning of each finding, and how it is computed."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core.data import packing
from cxr_core.data.audit import duplicates

Severity = Literal["high", "medium", "low"]
Groups = npt.NDArray[np.int64]  # (n,): number of the group that each row of the index is in, -1 for rows in none


@dataclass(frozen=True)
class AuditCheck:
    """One check of the audit.

    Attributes:
        name: key of CHECKS.
        title, meaning: for people.
        severity: high, medium or low.
        find: index with image statistics and groups of duplicates to Groups; single images are groups of one.
        differing: the column that differs within each group, if that is what the finding says.
    """

    name: str
    title: str
    severity: Severity
    meaning: str
    find: Callable[[pd.DataFrame], Groups]
    differing: str = ""


def _where(flags: pd.Series) -> Groups:
    """Each flagged row a group of its own."""
    flagged = flags.to_numpy(dtype=bool)
    return np.where(flagged, np.cumsum(flagged) - 1, -1)


def _varying(table: pd.DataFrame, groups: Groups, column: str) -> Groups:
    """Only those groups whose rows differ in `column`, numbered anew."""
    inside = groups >= 0
    values = pd.factorize(table[column].astype(str))[0]
    frame = pd.DataFrame({"group": groups[inside], "value": values[inside]})
    many = frame.groupby("group")["value"].transform("nunique").to_numpy() > 1
    numbers = np.full(len(groups), -1, np.int64)
    numbers[np.flatnonzero(inside)[many]] = pd.factorize(frame["group"].to_numpy()[many])[0]
    return numbers


def _patients_across(table: pd.DataFrame) -> Groups:
    return _varying(table, duplicates.exact_groups(table["patient"]), "split")


def _only_near(table: pd.DataFrame) -> Groups:
    return _varying(table, table["near"].to_numpy(), "sha256")


def _blurry(table: pd.DataFrame) -> pd.Series:
    """Far below what is usual here: four robust standard deviations of the logarithm (1.4826 × the median deviation)."""
    log = np.log(table["sharpness"] + 1)
    usual = log.median()
    return log < usual - 4 * 1.4826 * max(float((log - usual).abs().median()), 0.05)


def _odd_size(table: pd.DataFrame) -> pd.Series:
    area = table["width"] * table["height"]
    return (area > 10 * area.median()) | (area < area.median() / 10)


CHECKS: dict[str, AuditCheck] = {
    check.name: check
    for check in (
        AuditCheck(
            "same_patient_in_two_splits",
            "Same patient in two splits",
            "high",
            "A network may recognise the patient: metrics on the later split come out too high. Use a patient split.",
            _patients_across,
            "split",
        ),
        AuditCheck(
            "same_image_in_two_splits",
            "Same image in two splits",
            "high",
            "What is tested was learned before. Exclude the copies from one of the splits.",
            lambda table: _varying(table, table["exact"].to_numpy(), "split"),
            "split",
        ),
        AuditCheck(
            "duplicates_with_different_labels",
            "Same image, different classes",
            "high",
            "One of the labels is wrong. Relabel or exclude.",
            lambda table: _varying(table, table["exact"].to_numpy(), "class"),
            "class",
        ),
        AuditCheck(
            "near_duplicates_in_two_splits",
            "Near duplicates in two splits",
            "high",
            "Different files that look the same, such as one picture saved again. If it is the same picture, what is tested "
            "was learned before.",
            lambda table: _varying(table, _only_near(table), "split"),
            "split",
        ),
        AuditCheck(
            "near_duplicates_with_different_labels",
            "Near duplicates, different classes",
            "high",
            "Different files that look the same. If it is the same picture, one of the labels is wrong.",
            lambda table: _varying(table, _only_near(table), "class"),
            "class",
        ),
        AuditCheck(
            "exact_duplicates",
            "Exact duplicates",
            "medium",
            "Byte for byte the same file. It counts twice in training or in the metrics: keep one of each.",
            lambda table: table["exact"].to_numpy(),
        ),
        AuditCheck(
            "near_duplicates",
            "Near duplicates",
            "medium",
            "Different files that look the same: resized, saved again, or brightened.",
            _only_near,
        ),
        AuditCheck(
            "smaller_than_input",
            "Smaller than the model's input",
            "medium",
            f"Enlarged to {packing.SIZE} pixels; the detail that a network looks for is not there.",
            lambda table: _where(table[["width", "height"]].min(axis=1) < packing.SIZE),
        ),
        AuditCheck(
            "dark",
            "Very dark",
            "medium",
            "95 of 100 pixels lie in the darkest quarter of the grey range.",
            lambda table: _where(table["high"] < 64),
        ),
        AuditCheck(
            "bright",
            "Very bright",
            "medium",
            "95 of 100 pixels lie in the brightest quarter of the grey range.",
            lambda table: _where(table["low"] > 191),
        ),
        AuditCheck(
            "low_information",
            "Hardly any content",
            "medium",
            "The grey values carry less than 3 of 8 bits: a blank or a drawing rather than a film.",
            lambda table: _where(table["entropy"] < 3),
        ),
        AuditCheck(
            "blurry",
            "Blurry",
            "low",
            "Far less fine detail than is usual in this dataset.",
            lambda table: _where(_blurry(table)),
        ),
        AuditCheck(
            "odd_size",
            "Odd size",
            "low",
            "More than ten times as many pixels as the middle image, or less than a tenth.",
            lambda table: _where(_odd_size(table)),
        ),
        AuditCheck(
            "odd_shape",
            "Odd shape",
            "low",
            "More than twice as wide as high, or the reverse: squeezed to a square it is distorted.",
            lambda table: _where(~(table["width"] / table["height"]).between(0.5, 2)),
        ),
        AuditCheck(
            "other_colour_mode",
            "Other colour mode",
            "low",
            "Stored in another way than most (colour, transparency, depth). All are read as grey, but it may mark a source.",
            lambda table: _where(table["mode"].astype(str) != str(table["mode"].mode()[0])),
        ),
    )
}
