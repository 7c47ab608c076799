"""What may be wrong with a dataset: findings, each with the images concerned, and the shortcuts.

<dataset>/audit.json      the findings in short, the shortcuts, and of what they were made
<dataset>/audit.parquet   one row an image of a finding: kind, group, row (of the index)

The second time, and for any page, an audit is a small file to read; after images were added only those are measured.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core import workspace
from cxr_core.data import datasets, duplicates, index, measures, packing, shortcuts
from cxr_core.data.progress import Progress, silent
from cxr_core.data.shortcuts import Shortcut
from cxr_core.errors import WorkFailed

Severity = Literal["high", "medium", "low"]
_VERSION = 2
_EXAMPLES = 5  # groups or images named in the short form

Groups = npt.NDArray[np.int64]  # (n,): group number of each row of the index, -1 for rows without the finding


@dataclass(frozen=True)
class Kind:
    """One question of the audit. `find` answers it with Groups; findings of single images are groups of one."""

    name: str
    title: str
    severity: Severity
    meaning: str
    find: Callable[[pd.DataFrame], Groups]


@dataclass(frozen=True)
class Finding:
    """How many images and groups a kind concerns, with the ids of the first few."""

    kind: str
    title: str
    severity: Severity
    meaning: str
    images: int
    groups: int
    examples: list[list[str]]


@dataclass(frozen=True)
class Audit:
    """The findings that concern at least one image, most severe first, then the shortcuts, strongest first."""

    data: str
    made: str
    images: int
    findings: tuple[Finding, ...]
    shortcuts: tuple[Shortcut, ...]


def _where(flags: pd.Series) -> Groups:
    """Each flagged row a group of its own."""
    found = flags.to_numpy(dtype=bool)
    return np.where(found, np.cumsum(found) - 1, -1)


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
    return _varying(table, duplicates.exact(table["patient"]), "split")


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


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind(
            "same_patient_in_two_splits",
            "Same patient in two splits",
            "high",
            "A network may recognise the patient: figures on the later split come out too good. Use a patient split.",
            _patients_across,
        ),
        Kind(
            "same_image_in_two_splits",
            "Same image in two splits",
            "high",
            "What is tested was learned before. Exclude the copies from one of the splits.",
            lambda table: _varying(table, table["exact"].to_numpy(), "split"),
        ),
        Kind(
            "duplicates_with_different_labels",
            "Same image, different classes",
            "high",
            "One of the labels is wrong. Relabel or exclude.",
            lambda table: _varying(table, table["exact"].to_numpy(), "class"),
        ),
        Kind(
            "near_duplicates_in_two_splits",
            "Near duplicates in two splits",
            "high",
            "Different files that look the same, such as one picture saved again. If it is the same picture, what is tested "
            "was learned before.",
            lambda table: _varying(table, _only_near(table), "split"),
        ),
        Kind(
            "near_duplicates_with_different_labels",
            "Near duplicates, different classes",
            "high",
            "Different files that look the same. If it is the same picture, one of the labels is wrong.",
            lambda table: _varying(table, _only_near(table), "class"),
        ),
        Kind(
            "exact_duplicates",
            "Exact duplicates",
            "medium",
            "Byte for byte the same file. It counts twice in training or in the figures: keep one of each.",
            lambda table: table["exact"].to_numpy(),
        ),
        Kind(
            "near_duplicates",
            "Near duplicates",
            "medium",
            "Different files that look the same: resized, saved again, or brightened.",
            _only_near,
        ),
        Kind(
            "smaller_than_input",
            "Smaller than the model's input",
            "medium",
            f"Enlarged to {packing.SIZE} pixels; the detail that a network looks for is not there.",
            lambda table: _where(table[["width", "height"]].min(axis=1) < packing.SIZE),
        ),
        Kind(
            "dark",
            "Very dark",
            "medium",
            "95 of 100 pixels lie in the darkest quarter of the grey range.",
            lambda table: _where(table["high"] < 64),
        ),
        Kind(
            "bright",
            "Very bright",
            "medium",
            "95 of 100 pixels lie in the brightest quarter of the grey range.",
            lambda table: _where(table["low"] > 191),
        ),
        Kind(
            "low_information",
            "Hardly any content",
            "medium",
            "The grey values carry less than 3 of 8 bits: a blank or a drawing rather than a film.",
            lambda table: _where(table["entropy"] < 3),
        ),
        Kind(
            "blurry",
            "Blurry",
            "low",
            "Far less fine detail than is usual in this dataset.",
            lambda table: _where(_blurry(table)),
        ),
        Kind(
            "odd_size",
            "Odd size",
            "low",
            "More than ten times as many pixels as the middle image, or less than a tenth.",
            lambda table: _where(_odd_size(table)),
        ),
        Kind(
            "odd_shape",
            "Odd shape",
            "low",
            "More than twice as wide as high, or the reverse: squeezed to a square it is distorted.",
            lambda table: _where(~(table["width"] / table["height"]).between(0.5, 2)),
        ),
        Kind(
            "other_colour_mode",
            "Other colour mode",
            "low",
            "Stored in another way than most (colour, transparency, depth). All are read as grey, but it may mark a source.",
            lambda table: _where(table["mode"].astype(str) != str(table["mode"].mode()[0])),
        ),
    )
}


def run(name: str, *, progress: Progress = silent) -> Audit:
    """Audit a dataset, or return the audit of before if nothing has changed since.

    Raises:
        UnknownName: no such dataset.
        WorkFailed: the disk, or a damaged file.
    """
    if (known := latest(name)) is not None:
        return known
    dataset, table = datasets.get(name), index.read(name)
    found_measures = measures.measured(name, progress=progress)
    progress("Comparing images", 0, 0)
    table = table.assign(
        **found_measures,
        exact=duplicates.exact(table["sha256"]),
        near=duplicates.near(found_measures["phash"].tolist()),
    )
    members = {kind: one.find(table) for kind, one in KINDS.items()}
    findings = [_short(KINDS[kind], groups, table["id"]) for kind, groups in members.items() if (groups >= 0).any()]
    if dataset.skipped:
        findings.append(_unreadable(dataset))
    audit = Audit(
        data=name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        images=len(table),
        findings=tuple(sorted(findings, key=lambda one: ("high", "medium", "low").index(one.severity))),
        shortcuts=tuple(shortcuts.find(table, found_measures)),
    )
    folder = workspace.dataset(name)
    workspace.write_bytes(folder / "audit.parquet", _members(members).to_parquet(index=False))
    workspace.write_json(folder / "audit.json", {"of": _stamp(dataset), **asdict(audit)})
    return audit


def latest(name: str) -> Audit | None:
    """The audit on disk, if it is of the dataset as it stands."""
    try:
        document = workspace.read_json(workspace.dataset(name) / "audit.json")
    except (FileNotFoundError, WorkFailed):
        return None
    if document.pop("of", None) != _stamp(datasets.get(name)):
        return None
    return Audit(
        **{
            **document,
            "data": name,
            "findings": tuple(Finding(**one) for one in document["findings"]),
            "shortcuts": tuple(Shortcut(**{**one, "ci95": tuple(one["ci95"])}) for one in document["shortcuts"]),
        }
    )


def rows(name: str, kind: str) -> pd.DataFrame:
    """The images of one finding: columns group and row (of the index), sorted; empty if there are none.

    Raises:
        WorkFailed: there is no audit yet, or its file is damaged.
    """
    path = workspace.dataset(name) / "audit.parquet"
    try:
        table = pd.read_parquet(path, filters=[("kind", "==", kind)])
    except (OSError, ValueError) as error:
        raise WorkFailed(f"The audit of '{name}' is missing or damaged. Run it again: data audit {name}") from error
    return table[["group", "row"]].sort_values(["group", "row"], ignore_index=True)


def _short(kind: Kind, groups: Groups, ids: pd.Series) -> Finding:
    inside = np.flatnonzero(groups >= 0)
    first = inside[groups[inside] < _EXAMPLES]
    examples = [ids.to_numpy()[first[groups[first] == number]].tolist() for number in range(_EXAMPLES)]
    return Finding(
        kind.name,
        kind.title,
        kind.severity,
        kind.meaning,
        images=len(inside),
        groups=int(groups.max()) + 1,
        examples=[one for one in examples if one],
    )


def _unreadable(dataset: datasets.Dataset) -> Finding:
    return Finding(
        "unreadable",
        "Files left out",
        "medium",
        "They could not be read, or say nothing of their class, so they are not part of the dataset.",
        images=len(dataset.skipped),
        groups=len(dataset.skipped),
        examples=[[one["file"]] for one in dataset.skipped[:_EXAMPLES]],
    )


def _members(members: dict[str, Groups]) -> pd.DataFrame:
    parts = []
    for kind, groups in members.items():
        inside = np.flatnonzero(groups >= 0)
        parts.append(pd.DataFrame({"kind": kind, "group": groups[inside], "row": inside}))
    return pd.concat(parts, ignore_index=True)


def _stamp(dataset: datasets.Dataset) -> dict[str, Any]:
    """What an audit depends on."""
    return {"version": _VERSION, "created": dataset.created, "images": dataset.images}
