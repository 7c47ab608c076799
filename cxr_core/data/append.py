"""More images for a dataset that is there: only what is new is decoded, and what is there keeps its row.

Rows are appended, so manifests, decisions and measures of before stay valid. The new description waits in
`<dataset>/extended.json` while the index is replaced; whichever of the two fits the index is the dataset (datasets.py), so
a kill leaves the dataset as it was or as it should be.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from cxr_core import workspace
from cxr_core.data import datasets, index, packing, sources
from cxr_core.data.datasets import Dataset
from cxr_core.data.progress import Progress, no_progress, recorded_progress
from cxr_core.data.sources import ImageFile
from cxr_core.data.staging import staging
from cxr_core.errors import BadInput, WorkFailed

Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Appended:
    """What came of it: the dataset as it is now, how many images were added, and how many of the source are there already."""

    dataset: Dataset
    added: int
    known: int
    skipped: tuple[tuple[str, str], ...]


def append_images(
    name: str,
    source: str,
    *,
    images: int = datasets.SYNTHETIC_IMAGES,
    seed: int = 0,
    labels: str = "",
    findings: Mapping[str, Sequence[str]] | None = None,
    progress: Progress = no_progress,
) -> Appended:
    """Add the new images of a source to the dataset `name`.

    A dataset that keeps its own images copies them; one that points to a folder takes that folder as `source` and reads it
    again. Images that are there already, by name or by content, are passed over.

    Args:
        name: of the dataset.
        source, images, seed, labels, findings, progress: as in `datasets.add`.

    Raises:
        UnknownName: no such dataset.
        BadInput, BadDataset: the source will not do; nothing has changed.
        AlreadyExists: the dataset is being extended at this moment.
        WorkFailed: disk or network; the dataset is as it was.
    """
    dataset = datasets.get(name)
    with staging(name) as folder:
        progress = recorded_progress(folder, progress)
        material = sources.fetch(source, folder / "images", images=images, seed=seed, progress=progress)
        listing = sources.list_images(
            material.root, labels=datasets.labels_file(labels), findings=findings, fewest_classes=1
        )
        keeps_own = not Path(dataset.root).is_absolute()
        if not keeps_own and listing.root.resolve() != index.root(name).resolve():
            raise BadInput(
                f"'{name}' reads its images in {dataset.root} and keeps none of its own. Put the new ones there, and add that "
                f"folder again: data add {dataset.root} --name {name} --more. Received: {source}."
            )
        table = index.read(name)
        skipped: Skipped = [*material.skipped, *listing.skipped]
        fresh, known = _fresh(dataset, table, listing, keeps_own, skipped, progress)
        if not fresh:
            return Appended(dataset, 0, known, tuple(skipped))
        if keeps_own:
            _copy(fresh, listing.root, index.root(name), staged=listing.root.is_relative_to(folder))
        facts = packing.extend(name, [index.root(name) / one.id for one in fresh], length=len(table), progress=progress)
        good = [(one, fact) for one, fact in zip(fresh, facts, strict=True) if not fact.problem]
        skipped += [(one.id, fact.problem) for one, fact in zip(fresh, facts, strict=True) if fact.problem]
        if good:
            whole = pd.concat([table, datasets.index_rows(good, material.kind)], ignore_index=True)
            dataset = _extended(dataset, whole, material.origin, skipped)
            _commit(dataset, whole)
        return Appended(dataset, len(good), known, tuple(skipped))


def _fresh(
    dataset: Dataset,
    table: pd.DataFrame,
    listing: sources.Listing,
    keeps_own: bool,
    skipped: Skipped,
    progress: Progress,
) -> tuple[list[ImageFile], int]:
    """The images that are new, and how many are known; what cannot be taken is added to `skipped`."""
    content_of = dict(zip(table["id"], table["sha256"], strict=True))
    seen, fresh, known = set(table["sha256"]), [], 0
    for done, one in enumerate(listing.found):
        progress("Looking for new images", done + 1, len(listing.found))
        there = content_of.get(one.id)
        if there is not None and not keeps_own:
            known += 1
            continue
        sha256 = _sha256(listing.root / one.id)
        if sha256 in seen:
            known += 1
        elif there is not None:
            skipped.append((one.id, "Another image of this name is in the dataset already. Rename it to take it in."))
        elif one.label not in dataset.classes:
            skipped.append((one.id, f"'{one.label}' is none of the dataset's classes: {', '.join(dataset.classes)}."))
        else:
            seen.add(sha256)
            fresh.append(one)
    return fresh, known


def _sha256(file: Path) -> str:
    try:
        with file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError:  # told with the unreadable images, when it is to be decoded
        return ""


def _copy(fresh: Sequence[ImageFile], source: Path, root: Path, *, staged: bool) -> None:
    try:
        for one in fresh:
            (root / one.id).parent.mkdir(parents=True, exist_ok=True)
            if staged:
                (source / one.id).replace(root / one.id)
            else:
                shutil.copyfile(source / one.id, root / one.id)
    except OSError as error:
        raise WorkFailed(f"Could not copy images to {root}: {error.strerror or error}.") from error


def _extended(dataset: Dataset, whole: pd.DataFrame, origin: str, skipped: Skipped) -> Dataset:
    there = set(whole["id"])
    left_out = {one["file"]: one["reason"] for one in dataset.skipped} | dict(skipped)
    addition = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": origin,
        "images": len(whole) - dataset.images,
    }
    return replace(
        dataset,
        counts=datasets.counts(whole, dataset.classes),
        images=len(whole),
        patients=int(whole["patient"].nunique()),
        skipped=tuple({"file": file, "reason": why} for file, why in left_out.items() if file not in there),
        additions=(*dataset.additions, addition),
    )


def _commit(dataset: Dataset, whole: pd.DataFrame) -> None:
    folder = workspace.dataset(dataset.name)
    workspace.write_json(folder / datasets.EXTENDED, asdict(dataset))
    index.write(folder, whole)
    workspace.write_json(folder / "dataset.json", asdict(dataset))
    (folder / datasets.EXTENDED).unlink(missing_ok=True)
