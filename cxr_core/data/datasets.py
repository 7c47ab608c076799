"""The datasets of a workspace: add one from a source, list, describe, remove.

    <dataset>/dataset.json      name, classes, counts, where it came from, what was skipped
    <dataset>/index.parquet     see index.py
    <dataset>/packed/           see packing.py
    <dataset>/images/           the files, if the dataset keeps its own
    <dataset>/extended.json     the next description, while images are being added (append.py)

An addition is built in `datasets/.adding/<name>/` and moved into place when it is whole, so a dataset is there or not.
"""

import re
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock, Timeout

from cxr_core import locks, trash, typed_json, workspace
from cxr_core.data import deidentify, index, packing, sources
from cxr_core.data.progress import Progress, no_progress, recorded_progress
from cxr_core.errors import (
    AlreadyExists,
    BadDataset,
    BadInput,
    CxrError,
    DamagedFile,
    UnknownName,
    WorkFailed,
    sentence,
)

EXTENDED = "extended.json"
SYNTHETIC_IMAGES = 900  # drawn at the first start: enough to learn from in a minute, drawn in seconds
_JUST_NOW = 60.0  # seconds
_ENTRY = re.compile(r"(.+)\.\d{8}-\d{6}-\d{6}")  # of the trash
NO_SPLIT = (
    "The source has no split, so all images are in train. Build with a new split, patient by patient; to test, images of "
    "other patients are needed, in a folder test beside a folder train."
)


@dataclass(frozen=True)
class Dataset:
    """Description of a dataset, without its index.

    Attributes:
        counts: images per split and class.
        root: folder that ids are below, relative to the dataset's own folder if it keeps its own images.
        skipped: {"file", "reason"} of files that were left out.
        additions: {"time", "source", "images"} of images that were added later.
        patient_key: names the workspace's key that pseudonyms of DICOM patients are made with, see deidentify.py; empty if there
            are no such patients, or if they carry the plain hashes of version 0.2.
    """

    name: str
    classes: tuple[str, ...]
    counts: dict[str, dict[str, int]]
    images: int
    patients: int
    kind: str
    origin: str
    citation: str
    synthetic: bool
    root: str
    created: str
    skipped: tuple[dict[str, str], ...]
    additions: tuple[dict[str, Any], ...] = ()
    patient_key: str = ""

    @property
    def version(self) -> str:
        """Changes whenever the images do; for caches."""
        return f"{self.created} {self.images}"

    @property
    def advice(self) -> str:
        """Advice for people before they use it, "" if there is none."""
        return NO_SPLIT if list(self.counts) == ["train"] else ""


def list_names() -> list[str]:
    """The datasets of this workspace that can be read, sorted by name."""
    return [dataset.name for dataset in list_datasets()]


def list_datasets() -> list[Dataset]:
    """The datasets of this workspace that can be read, sorted by name; the others are named by `damaged`."""
    return [dataset for dataset in map(_described, _folders()) if isinstance(dataset, Dataset)]


def list_damaged() -> dict[str, str]:
    """Datasets whose description or index cannot be read, with the sentence that says so."""
    return {name: str(error) for name in _folders() if isinstance(error := _described(name), CxrError)}


def _folders() -> list[str]:
    root = workspace.datasets()
    return [name for name in workspace.list_dirs(root) if (root / name / "dataset.json").is_file()]


def _described(name: str) -> "Dataset | CxrError":
    try:
        dataset = _read(name, "dataset.json")
        if index.is_complete(name, dataset.images):
            return dataset
        extended = _read(name, EXTENDED)  # an extension was killed after its index was in place
        return extended if index.is_complete(name, extended.images) else index.damaged_error(name)
    except DamagedFile as error:
        return DamagedFile(
            f"The description of dataset '{name}' is damaged. Remove it (data remove {name}) and add it again, or restore the file "
            f"from a backup. {error}"
        )
    except WorkFailed as error:  # it could not be read, or a later version has written it
        return error
    except FileNotFoundError:
        gone = not (workspace.datasets() / name / "dataset.json").is_file()
        return UnknownName("dataset", name, ()) if gone else index.damaged_error(name)
    except BadInput:  # a folder of somebody else's
        return UnknownName("dataset", name, ())


def _read(name: str, file: str) -> Dataset:
    # The folder's name counts, if it was copied or renamed.
    return typed_json.read(workspace.dataset(name) / file, Dataset, name=name)


def write_description(folder: Path, file: str, dataset: Dataset) -> None:
    """Write what `get` reads, as `dataset.json` or EXTENDED."""
    workspace.write_json(folder / file, {typed_json.FORMAT: 1, **asdict(dataset)})


def get(name: str) -> Dataset:
    """One dataset.

    Raises:
        UnknownName: there is none of this name.
        WorkFailed: its description or its index is damaged.
    """
    if name not in _folders():
        raise UnknownName("dataset", name, list_names())
    dataset = _described(name)
    if isinstance(dataset, CxrError):
        raise dataset
    return dataset


def add(
    source: str,
    name: str = "",
    *,
    images: int = SYNTHETIC_IMAGES,
    seed: int = 0,
    labels: str = "",
    findings: Mapping[str, Sequence[str]] | None = None,
    progress: Progress = no_progress,
) -> Dataset:
    """Make a dataset of a source: bring the files, read every image once, write index and packed array.

    Args:
        source: "kaggle", "synthetic", a folder, or a .zip (see sources/).
        name: of the dataset; by default the source's own name.
        images: number of phantoms, for "synthetic".
        seed: of the phantoms.
        labels: NIH's table of findings, if it does not lie in the folder itself.
        findings: class to the findings that make it, for NIH; by default normal against abnormal.
        progress: gets each stage and the images so far.

    Raises:
        AlreadyExists: the name is taken, or is being added at this moment.
        BadInput, BadDataset: the name, or what the source holds, will not do; nothing is left behind.
        WorkFailed: disk or network; nothing is left behind.
    """
    name = workspace.validate_name(name or default_name(source))
    _refuse_taken(name)
    with staging(name) as folder:
        progress = recorded_progress(folder, progress)
        material = sources.fetch(source, folder / "images", images=images, seed=seed, progress=progress)
        listing = sources.list_images(material.root, labels=labels, findings=findings)
        patients: dict[str, str] = {}
        if material.root.is_relative_to(folder):
            listing, patients = without_identities(listing, progress)
        dataset = _build(name, material, listing, folder, patients, progress)
        write_description(folder, "dataset.json", dataset)
        _refuse_taken(name)
        (folder / "progress.json").unlink(missing_ok=True)
        folder.replace(workspace.dataset(name))
    return dataset


@contextmanager
def staging(name: str) -> Iterator[Path]:
    """A fresh folder for one addition, held by a lock that the system drops even if this process is killed.

    What is killed or refused leaves nothing behind.

    Raises:
        AlreadyExists: an addition of this name is under way.
    """
    folder = workspace.staging(name)
    workspace.ensure_dir(folder.parent)
    _clear_killed(folder.parent)
    lock = FileLock(folder.with_name(f".{name}.lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise AlreadyExists(
            f"A dataset named '{name}' is being added at this moment. Wait for it, or choose another name."
        ) from error
    except OSError as error:
        raise WorkFailed(f"{folder.parent} cannot be written. {sentence(error)}") from error
    try:
        shutil.rmtree(folder, ignore_errors=True)  # of an addition that was killed
        folder.mkdir()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        Path(lock.lock_file).unlink(missing_ok=True)  # while it is still held: nobody else can be in between
        lock.release()


def discard_staging(name: str) -> None:
    """Remove the folder of an addition that has ended; one that is under way, in whatever process, keeps its own."""
    folder = workspace.staging(name)
    lock_file = folder.with_name(f".{name}.lock")
    if not folder.parent.is_dir():
        return
    with suppress(Timeout), FileLock(lock_file).acquire(timeout=0):
        shutil.rmtree(folder, ignore_errors=True)
        lock_file.unlink(missing_ok=True)


def _clear_killed(folder: Path) -> None:
    """Remove the folders of additions that were killed, of any name; not one that begins at this moment."""
    for lock_file in folder.glob(".*.lock"):
        lock = FileLock(lock_file)
        with suppress(Timeout, FileNotFoundError):
            if time.time() - lock_file.stat().st_mtime < _JUST_NOW:
                continue
            with lock.acquire(timeout=0):
                shutil.rmtree(folder / lock_file.name[1 : -len(".lock")], ignore_errors=True)
                lock_file.unlink(missing_ok=True)


def default_name(source: str) -> str:
    """Name of a dataset, made of its source's: 'chest_xray_224.zip' becomes 'chest_xray_224'."""
    if source in sources.SOURCES:
        return {"kaggle": "kermany"}.get(source, source)
    stem = Path(source).stem if source.lower().endswith(".zip") else Path(source).resolve().name
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip("._-")[:80] or "dataset"


def remove(name: str, *, for_good: bool = False) -> Path | None:
    """Remove a dataset: put its own files aside, so that it can be restored; a folder that it only points to stays as it is.

    What was put aside more than `trash.RETENTION_DAYS` ago is deleted for good.

    Args:
        name: of the dataset.
        for_good: delete its files now, and those of all datasets of this name that were removed before.

    Returns:
        The file that its record of decisions is saved in, if it had one: that is people's work, and stays.

    Raises:
        UnknownName: there is none.
        WorkFailed: it cannot be moved, or a decision is being written at this moment.
    """
    folder = workspace.dataset(name)
    if not folder.is_dir():
        if for_good and (entries := _removed(name)):
            for entry in entries:
                shutil.rmtree(workspace.deleted_dataset(entry), ignore_errors=True)
            return None
        raise UnknownName("dataset", name, list_names())
    moment = f"{time.strftime('%Y%m%d-%H%M%S')}-{time.time_ns() // 1000 % 1_000_000:06d}"
    with locks.hold(folder / ".decisions.lock", f"the record of decisions of '{name}'"):
        kept = _keep_record(name, folder / "decisions.jsonl")
        trash.put_aside(folder, workspace.deleted_dataset(f"{name}.{moment}"))
    for entry in _removed(name) if for_good else ():
        shutil.rmtree(workspace.deleted_dataset(entry), ignore_errors=True)
    trash.purge(workspace.deleted_dataset(), time.time() - trash.RETENTION_DAYS * 86400)
    return kept


def _keep_record(name: str, record: Path) -> Path | None:
    """Save a record of decisions beside the dataset, as a second name of the same file: on a full disk there is room for that."""
    if not record.is_file() or record.stat().st_size == 0:
        return None
    kept = workspace.removed_decisions(name)
    workspace.ensure_dir(kept.parent)
    kept.unlink(missing_ok=True)
    try:
        kept.hardlink_to(record)
    except OSError:  # this disk knows no second names
        shutil.copyfile(record, kept)
    return kept


def restore(name: str) -> Dataset:
    """Bring back the dataset of this name that was removed last.

    Raises:
        UnknownName: none of this name was removed within `trash.RETENTION_DAYS`; lists those that were.
        AlreadyExists: there is a dataset of this name.
    """
    entries = _removed(name)
    if not entries:
        raise UnknownName("removed dataset", name, list_removed())
    _refuse_taken(name)
    source = workspace.deleted_dataset(entries[0])
    record = source / "decisions.jsonl"
    for kept in workspace.removed_decisions(name).parent.glob(f"{name}-*.jsonl"):
        # No second name any longer: the next decision is not of the past.
        if record.is_file() and kept.samefile(record):
            kept.unlink()
    trash.bring_back(source, workspace.dataset(name))
    return get(name)


def list_removed() -> list[str]:
    """Names of the datasets that can be brought back, the latest removed first."""
    entries = trash.names(workspace.deleted_dataset())
    return list(dict.fromkeys(match[1] for entry in entries if (match := _ENTRY.fullmatch(entry))))


def _removed(name: str) -> list[str]:
    """Entries of the trash of a dataset's name, the latest first."""
    entries = trash.names(workspace.deleted_dataset())
    return sorted((entry for entry in entries if (match := _ENTRY.fullmatch(entry)) and match[1] == name), reverse=True)


def image_path(name: str, image_id: str) -> Path:
    """The file of one image.

    Raises:
        UnknownName: no such dataset.
        BadDataset: the id points outside the dataset.
    """
    root = index.root(name)
    path = (root / image_id).resolve()
    if not path.is_relative_to(root.resolve()):
        raise BadDataset(f"'{image_id[:200]}' is not an image of dataset '{name}'.")
    return path


def _refuse_taken(name: str) -> None:
    if workspace.dataset(name).exists():
        raise AlreadyExists(
            f"There is a dataset named '{name}' already. Nothing was changed. Choose another name, or remove it first."
        )


def _build(
    name: str,
    material: sources.SourceFolder,
    listing: sources.ImageListing,
    folder: Path,
    patients: Mapping[str, str],
    progress: Progress,
) -> Dataset:
    paths = [listing.root / file.id for file in listing.files]
    facts = packing.pack(paths, folder / "packed" / f"{packing.SIZE}.npy", progress=progress)
    table, unreadable, key = index_rows(listing.files, facts, material.kind, patients)
    if table["class"].nunique() < 2:
        raise BadDataset(
            f"Of {len(paths)} images only {len(table)} could be read, which leaves fewer than two classes. "
            f"The first problem: {unreadable[0][1]}"
        )
    index.write(folder, table)
    keeps_images = listing.root.is_relative_to(folder)
    skipped = [*material.skipped, *listing.skipped, *unreadable]
    return Dataset(
        name=name,
        classes=listing.classes,
        counts=index.counts(table, listing.classes),
        images=len(table),
        patients=int(table["patient"].nunique()),
        kind=material.kind,
        origin=material.origin,
        citation=material.citation or listing.citation,
        synthetic=material.synthetic,
        root=str(listing.root.relative_to(folder)) if keeps_images else str(listing.root),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        patient_key=key,
        skipped=tuple({"file": file, "reason": reason} for file, reason in skipped),
    )


def without_identities(
    listing: sources.ImageListing, progress: Progress
) -> tuple[sources.ImageListing, dict[str, str]]:
    """Replace the DICOM files of a listing that lies in the workspace, see `deidentify.rewrite`.

    Returns:
        The listing without those that have no copy, which are among its skipped files; and patient keys by id.
    """
    outcomes = deidentify.rewrite(listing.root, [file.id for file in listing.files], progress=progress)
    lost = {name: reason for name, (_, reason) in outcomes.items() if reason}
    files = tuple(file for file in listing.files if file.id not in lost)
    patients = {name: patient for name, (patient, reason) in outcomes.items() if patient and not reason}
    return replace(listing, files=files, skipped=(*listing.skipped, *lost.items())), patients


def index_rows(
    files: Sequence[sources.ImageFile],
    facts: Sequence[packing.FileFacts],
    kind: str,
    patients: Mapping[str, str],
    key: str | None = None,
) -> tuple[pd.DataFrame, list[tuple[str, str]], str]:
    """Rows of the index (index.COLUMNS) of the files that could be read, in their order, and (file, problem) of the others.

    Args:
        files: of the source.
        facts: of each.
        kind: of the source.
        patients: patient keys by id, of files that do not tell them any longer.
        key: `Dataset.patient_key` of a dataset that has DICOM patients already.

    Returns:
        The rows, the problems, and the `Dataset.patient_key` of the pseudonyms in them.

    Raises:
        WorkFailed: the workspace has another key now than that dataset, so one patient would be taken for two.
    """
    rows, unreadable = [], []
    secret = b""
    for file, fact in zip(files, facts, strict=True):
        if fact.problem:
            unreadable.append((file.id, fact.problem))
            continue
        patient = patients.get(file.id) or fact.patient
        if patient and key != "":
            secret = secret or _patient_secret(key)
            patient = deidentify.pseudonym(patient, secret)
        described = (fact.format, fact.mode, fact.width, fact.height, fact.bytes, fact.sha256, fact.quality)
        rows.append((file.id, file.split, file.label, patient or file.patient, kind, *described))
    table = pd.DataFrame(rows, columns=list(index.COLUMNS))
    return table, unreadable, deidentify.key_id(secret) if secret else key or ""


def _patient_secret(key: str | None) -> bytes:
    secret = workspace.secret()
    if key and key != deidentify.key_id(secret):
        raise WorkFailed(
            f"The key of this workspace's pseudonyms, {workspace.home() / '.secret'}, is another than when the dataset was made, "
            "so one patient would be taken for two. Restore that file, or remove the dataset and add all of it again."
        )
    return secret
