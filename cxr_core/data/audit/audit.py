"""Run the audit of a dataset, keep it on disk, and tell what of it is undecided.

<dataset>/audit.json      the findings in short, the shortcuts, and the version of the dataset that they are of
<dataset>/audit.parquet   one row an image of a finding: kind, group, row (of the index)

Both are made again when one is missing, damaged, or of another version of the dataset. Measuring is the slow part and kept
for itself (image_stats.py), so after images were added only those are measured.
"""

from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cxr_core import typed_json, workspace
from cxr_core.data import datasets, image_stats, index
from cxr_core.data.audit import duplicates, shortcuts
from cxr_core.data.audit.checks import CHECKS, AuditCheck, Groups, Severity
from cxr_core.data.audit.shortcuts import Shortcut
from cxr_core.data.progress import Progress, harmless, no_progress
from cxr_core.errors import DamagedFile, WorkFailed, stop_if_shortage

_VERSION = 2
_COLUMNS = ["kind", "group", "row"]
_EXAMPLES = 5  # groups or images named in the short form


@dataclass(frozen=True)
class AuditFinding:
    """Images and groups that a check found, with the ids of the first few; `kind` is a key of CHECKS, or "unreadable"."""

    kind: str
    title: str
    severity: Severity
    meaning: str
    images: int
    groups: int
    examples: list[list[str]]


@dataclass(frozen=True)
class Undecided:
    """Images and groups of a finding that no decision has settled."""

    images: int
    groups: int


@dataclass(frozen=True)
class Audit:
    """The findings that concern at least one image, most severe first, then the shortcuts, strongest first."""

    data: str
    made: str
    images: int
    findings: tuple[AuditFinding, ...]
    shortcuts: tuple[Shortcut, ...]


def run(name: str, *, progress: Progress = no_progress) -> Audit:
    """Audit a dataset, or return the audit on disk if it is whole and nothing has changed since.

    Raises:
        UnknownName: no such dataset.
        WorkFailed: the disk, or images that have changed or gone.
    """
    if (audit := latest(name)) is not None:
        return audit
    progress = harmless(progress)
    dataset, table = datasets.get(name), index.read(name)
    stats = image_stats.dataset_stats(name, progress=progress)
    progress("Comparing images", 0, 0)
    table = table.assign(
        **stats,
        exact=duplicates.exact_groups(table["sha256"]),
        near=duplicates.near_groups(stats["phash"].tolist()),
    )
    groups = {kind: check.find(table) for kind, check in CHECKS.items()}
    findings = [
        _summary(CHECKS[kind], groups_of_kind, table["id"])
        for kind, groups_of_kind in groups.items()
        if (groups_of_kind >= 0).any()
    ]
    if dataset.skipped:
        findings.append(_unreadable(dataset))
    audit = Audit(
        data=name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        images=len(table),
        findings=tuple(sorted(findings, key=lambda finding: ("high", "medium", "low").index(finding.severity))),
        shortcuts=tuple(shortcuts.find(table, stats)),
    )
    folder = workspace.dataset(name)
    workspace.write_bytes(folder / "audit.parquet", _members(groups).to_parquet(index=False))
    workspace.write_json(folder / "audit.json", {"of": _dataset_version(dataset), **asdict(audit)})
    return audit


def latest(name: str) -> Audit | None:
    """The audit on disk, if both of its files are whole and of the dataset as it stands; else None, and `run` makes it again."""
    folder, version = workspace.dataset(name), _dataset_version(datasets.get(name))
    try:
        document = workspace.read_json(folder / "audit.json")
        if not isinstance(document, dict) or document.get("of") != version:
            return None
        audit = typed_json.from_document(Audit, {**document, "data": name})
        members = folder / "audit.parquet"
        counts, length = _count_members(members, workspace.fingerprint(members))
    # A file is missing or damaged.
    except (OSError, ValueError, TypeError, KeyError, AttributeError, DamagedFile) as error:
        stop_if_shortage(error, f"The audit of '{name}'")
        return None
    whole = all(counts.get(finding.kind, 0) == finding.images for finding in audit.findings if finding.kind in CHECKS)
    return audit if whole and length <= audit.images else None


@lru_cache(maxsize=64)
def _count_members(path: Path, fingerprint: workspace.Fingerprint) -> tuple[dict[str, int], int]:  # noqa: ARG001 - part of the key
    """Images of each kind in an audit's table, and the length of the index that its rows need."""
    members = pd.read_parquet(path, columns=_COLUMNS)
    counts = {str(kind): int(count) for kind, count in members["kind"].value_counts().items()}
    return counts, int(members["row"].max()) + 1 if len(members) else 0


def finding_rows(name: str, kind: str) -> pd.DataFrame:
    """The images of one finding: columns group and row (of the index), sorted; empty if there are none.

    Raises:
        WorkFailed: there is no audit yet, or its file is damaged.
    """
    table = _read_members(name, filters=[("kind", "==", kind)])
    return table[["group", "row"]].sort_values(["group", "row"], ignore_index=True)


def undecided(name: str, curated: pd.DataFrame) -> dict[str, Undecided]:
    """Images and groups of each finding that the decisions in force have not settled.

    An image counts while it is not excluded and its group still is what the finding says: at least two images, and
    different ones where they have to differ.

    Args:
        curated: of `query.curated`.

    Raises:
        WorkFailed: there is no audit yet, or its file is damaged.
    """
    members = _read_members(name)
    members["in"] = ~curated["excluded"].to_numpy(dtype=bool)[members["row"]]
    counts = {}
    for kind, part in members.groupby("kind", sort=False):
        remaining = part[part["in"]]
        if not part["group"].is_unique:  # findings of single images are groups of one
            column = CHECKS[str(kind)].differing if kind in CHECKS else ""
            value = curated[column].astype(str).to_numpy()[remaining["row"]] if column else remaining["row"]
            groups = remaining.assign(value=value).groupby("group")["value"]
            remaining = remaining[groups.transform("nunique").to_numpy() > 1]
        counts[str(kind)] = Undecided(len(remaining), int(remaining["group"].nunique()))
    return counts


def _read_members(name: str, **options: Any) -> pd.DataFrame:
    try:
        return pd.read_parquet(workspace.dataset(name) / "audit.parquet", columns=_COLUMNS, **options)
    except (OSError, ValueError) as error:
        stop_if_shortage(error, f"The audit of '{name}'")
        raise WorkFailed(f"The audit of '{name}' is missing or damaged. Run it again: data audit {name}") from error


def _summary(check: AuditCheck, groups: Groups, ids: pd.Series) -> AuditFinding:
    inside = np.flatnonzero(groups >= 0)
    first = inside[groups[inside] < _EXAMPLES]
    examples = [ids.to_numpy()[first[groups[first] == number]].tolist() for number in range(_EXAMPLES)]
    return AuditFinding(
        check.name,
        check.title,
        check.severity,
        check.meaning,
        images=len(inside),
        groups=int(groups.max()) + 1,
        examples=[example for example in examples if example],
    )


def _unreadable(dataset: datasets.Dataset) -> AuditFinding:
    return AuditFinding(
        "unreadable",
        "Files left out",
        "medium",
        "They could not be read, or say nothing of their class, so they are not part of the dataset.",
        images=len(dataset.skipped),
        groups=len(dataset.skipped),
        examples=[[file["file"]] for file in dataset.skipped[:_EXAMPLES]],
    )


def _members(groups_of: dict[str, Groups]) -> pd.DataFrame:
    parts = []
    for kind, groups in groups_of.items():
        inside = np.flatnonzero(groups >= 0)
        parts.append(pd.DataFrame({"kind": kind, "group": groups[inside], "row": inside}))
    return pd.concat(parts, ignore_index=True)


def _dataset_version(dataset: datasets.Dataset) -> dict[str, Any]:
    """The facts that an audit depends on."""
    return {"version": _VERSION, "created": dataset.created, "images": dataset.images}
