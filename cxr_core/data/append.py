"""Append images to a dataset: only new ones are decoded, and every image keeps its row.

Rows are appended, so earlier manifests, decisions and statistics stay valid. The new description waits in
`<dataset>/extended.json` while the index is replaced; whichever of the two fits the index is the dataset (datasets.py), so
a kill leaves the dataset as it was or as it should be.
"""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

from cxr_core import dicom, workspace
from cxr_core.data import datasets, deidentify, index, packing, sources
from cxr_core.data.datasets import Dataset
from cxr_core.data.progress import Progress, no_progress, recorded_progress
from cxr_core.data.sources import ImageFile
from cxr_core.errors import BadInput, UnreadableImage, WorkFailed, stop_if_shortage

Skipped = list[tuple[str, str]]


@dataclass(frozen=True)
class Appended:
    """Result: the dataset as it is now, and how many images of the source were added, or are in it already."""

    dataset: Dataset
    added: int
    already_there: int
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
    again. Images that are in the dataset already, by name or by content, are passed over.

    Args:
        name: of the dataset.
        source, images, seed, labels, findings, progress: as in `datasets.add`.

    Raises:
        UnknownName: no such dataset.
        BadInput, BadDataset: the source will not do; nothing has changed.
        AlreadyExists: images are being added to the dataset at this moment.
        WorkFailed: disk or network; the dataset is as it was.
    """
    dataset = datasets.get(name)
    with datasets.staging(name) as folder:
        progress = recorded_progress(folder, progress)
        material = sources.fetch(source, folder / "images", images=images, seed=seed, progress=progress)
        listing = sources.list_images(material.root, labels=labels, findings=findings, fewest_classes=1)
        keeps_images = not Path(dataset.root).is_absolute()
        if not keeps_images and listing.root.resolve() != index.root(name).resolve():
            raise BadInput(
                f"'{name}' reads its images in {dataset.root} and keeps none of its own. Put the new ones there, and add that "
                f"folder again: data add {dataset.root} --name {name} --more. Received: {source}."
            )
        table = index.read(name)
        staged, patients = listing.root.is_relative_to(folder), dict[str, str]()
        if staged:
            listing, patients = datasets.without_identities(listing, progress)
        skipped: Skipped = [*material.skipped, *listing.skipped]
        new, already_there = _new_files(dataset, table, listing, keeps_images, skipped, progress)
        if not new:
            return Appended(dataset, 0, already_there, tuple(skipped))
        if keeps_images:
            patients |= _copy(new, listing.root, index.root(name), skipped, staged=staged)
            new = [file for file in new if (index.root(name) / file.id).is_file()]
        paths = [index.root(name) / file.id for file in new]
        facts = packing.extend(name, paths, length=len(table), progress=progress)
        has_patients = bool(dataset.patient_key) or table["patient"].astype(str).str.startswith("dicom-").any()
        known_key = dataset.patient_key if has_patients else None
        rows, unreadable, key = datasets.index_rows(new, facts, material.kind, patients, known_key)
        skipped += unreadable
        if len(rows):
            whole = pd.concat([table, rows], ignore_index=True)
            dataset = replace(_extended(dataset, whole, material.origin, skipped), patient_key=key)
            _commit(dataset, whole)
        return Appended(dataset, len(rows), already_there, tuple(skipped))


def _new_files(
    dataset: Dataset,
    table: pd.DataFrame,
    listing: sources.ImageListing,
    keeps_images: bool,
    skipped: Skipped,
    progress: Progress,
) -> tuple[list[ImageFile], int]:
    """The files that are new, and how many are in the dataset already; what cannot be taken is added to `skipped`."""
    content_of = dict(zip(table["id"], table["sha256"], strict=True))
    contents, new, already_there = set(table["sha256"]), [], 0
    for done, file in enumerate(listing.files):
        progress("Looking for new images", done + 1, len(listing.files))
        is_taken = file.id in content_of
        if is_taken and not keeps_images:
            already_there += 1
            continue
        sha256 = _sha256(listing.root / file.id, as_stored=keeps_images)
        if sha256 in contents:
            already_there += 1
        elif is_taken:
            skipped.append((file.id, "Another image of this name is in the dataset already. Rename it to take it in."))
        elif file.label not in dataset.classes:
            classes = ", ".join(dataset.classes)
            skipped.append((file.id, f"'{file.label}' is none of the dataset's classes: {classes}."))
        else:
            contents.add(sha256)
            new.append(file)
    return new, already_there


def _sha256(path: Path, *, as_stored: bool) -> str:
    """SHA-256 of a file, or of what a dataset that keeps its own images stores of it."""
    if as_stored and dicom.is_dicom(path):
        try:
            return hashlib.sha256(deidentify.deidentified(workspace.read_bytes(path), path.name)[0]).hexdigest()
        except UnreadableImage as error:  # reported when it is to be stored
            stop_if_shortage(error, str(path))
            return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:  # reported with the unreadable images, when it is to be decoded
        stop_if_shortage(error, str(path))
        return ""


def _copy(files: Sequence[ImageFile], source: Path, root: Path, skipped: Skipped, *, staged: bool) -> dict[str, str]:
    """Bring files into the dataset; patient keys by id of the DICOM files among those that were not in the workspace before."""
    patients = {}
    try:
        for file in files:
            (root / file.id).parent.mkdir(parents=True, exist_ok=True)
            if staged:
                (source / file.id).replace(root / file.id)
            elif dicom.is_dicom(source / file.id):
                try:
                    copy, patients[file.id] = deidentify.deidentified((source / file.id).read_bytes(), file.id)
                    (root / file.id).write_bytes(copy)
                except UnreadableImage as error:
                    stop_if_shortage(error, str(source / file.id))
                    skipped.append((file.id, str(error)))
            else:
                shutil.copyfile(source / file.id, root / file.id)
    except OSError as error:
        raise WorkFailed(f"Could not copy images to {root}: {error.strerror or error}.") from error
    return patients


def _extended(dataset: Dataset, table: pd.DataFrame, origin: str, skipped: Skipped) -> Dataset:
    ids = set(table["id"])
    left_out = {file["file"]: file["reason"] for file in dataset.skipped} | dict(skipped)
    addition = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "source": origin,
        "images": len(table) - dataset.images,
    }
    return replace(
        dataset,
        counts=index.counts(table, dataset.classes),
        images=len(table),
        patients=int(table["patient"].nunique()),
        skipped=tuple({"file": file, "reason": reason} for file, reason in left_out.items() if file not in ids),
        additions=(*dataset.additions, addition),
    )


def _commit(dataset: Dataset, table: pd.DataFrame) -> None:
    folder = workspace.dataset(dataset.name)
    datasets.write_description(folder, datasets.EXTENDED, dataset)
    index.write(folder, table)
    datasets.write_description(folder, "dataset.json", dataset)
    (folder / datasets.EXTENDED).unlink(missing_ok=True)
