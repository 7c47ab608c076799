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
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from cxr_core import workspace
from cxr_core.data import index, packing, sources
from cxr_core.data.progress import Progress, no_progress, recorded_progress
from cxr_core.data.staging import staging
from cxr_core.errors import AlreadyExists, BadDataset, BadInput, CxrError, UnknownName, WorkFailed

EXTENDED = "extended.json"
SYNTHETIC_IMAGES = 900  # made at the first start: enough to learn from in a minute, drawn in seconds


NO_SPLIT = (
    "The source has no split, so all images are in train. Build with a new split, patient by patient; to test, images of "
    "other patients are needed, in a folder test beside a folder train."
)


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset without reading its index.

    `counts` are images per split and class; `skipped` lists {"file", "reason"}; `root` is the folder that ids are below,
    relative to the dataset's own folder if it keeps its own images; `additions` lists {"time", "source", "images"} of what was
    added later.
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

    @property
    def version(self) -> str:
        """Another one whenever its images are others; for caches."""
        return f"{self.created} {self.images}"

    @property
    def advice(self) -> str:
        """What a person should know before using it, "" if nothing."""
        return NO_SPLIT if list(self.counts) == ["train"] else ""


def list_names() -> list[str]:
    """The datasets of this workspace that can be read, sorted by name."""
    return [one.name for one in list_datasets()]


def list_datasets() -> list[Dataset]:
    """The datasets of this workspace that can be read, sorted by name; the others are named by `damaged`."""
    return [one for one in map(_described, _folders()) if isinstance(one, Dataset)]


def list_damaged() -> dict[str, str]:
    """Datasets whose description or index cannot be read, with the sentence that says so."""
    return {name: str(one) for name in _folders() if isinstance(one := _described(name), CxrError)}


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
    except (TypeError, KeyError, WorkFailed):
        return WorkFailed(
            f"The description of dataset '{name}' is damaged. Remove it (data remove {name}) and add it again."
        )
    except FileNotFoundError:
        gone = not (workspace.datasets() / name / "dataset.json").is_file()
        return UnknownName("dataset", name, ()) if gone else index.damaged_error(name)
    except BadInput:  # a folder of somebody else's
        return UnknownName("dataset", name, ())


def _read(name: str, file: str) -> Dataset:
    document = workspace.read_json(workspace.dataset(name) / file)
    lists = {key: tuple(document[key]) for key in ("classes", "skipped")}
    lists["additions"] = tuple(document.get("additions", ()))
    return Dataset(**{**document, **lists, "name": name})  # what the folder is called, if it was copied or renamed


def get(name: str) -> Dataset:
    """One dataset.

    Raises:
        UnknownName: there is none of this name.
        WorkFailed: its description or its index is damaged.
    """
    if name not in _folders():
        raise UnknownName("dataset", name, list_names())
    found = _described(name)
    if isinstance(found, CxrError):
        raise found
    return found


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
        source: "kaggle", "synthetic", a folder, or a .zip (see sources.py).
        name: of the dataset; by default the source's own name.
        images: how many phantoms, for "synthetic".
        seed: of the phantoms.
        labels: NIH's table of findings, if it does not lie in the folder itself.
        findings: class to the findings that make it, for NIH; by default normal against abnormal.
        progress: told stage by stage.

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
        listing = sources.list_images(material.root, labels=labels_file(labels), findings=findings)
        dataset = _build(name, material, listing, folder, progress)
        workspace.write_json(folder / "dataset.json", asdict(dataset))
        _refuse_taken(name)
        (folder / "progress.json").unlink(missing_ok=True)
        folder.replace(workspace.dataset(name))
    return dataset


def default_name(source: str) -> str:
    """A dataset name made of the source's own: 'chest_xray_224.zip' becomes 'chest_xray_224'."""
    if source in sources.SOURCES:
        return {"kaggle": "kermany"}.get(source, source)
    stem = Path(source).stem if source.lower().endswith(".zip") else Path(source).resolve().name
    return re.sub(r"[^A-Za-z0-9._-]", "-", stem).lstrip("._-")[:80] or "dataset"


def remove(name: str) -> Path | None:
    """Forget a dataset and delete what it keeps of its own; a folder that it only points to stays as it is.

    Returns:
        Where its record of decisions is kept, if it had one: that is a person's work.
    """
    folder = workspace.dataset(name)
    if not folder.is_dir():
        raise UnknownName("dataset", name, list_names())
    trash = folder.with_name(f".{name}.removed")
    shutil.rmtree(trash, ignore_errors=True)
    folder.replace(trash)
    kept, record = workspace.removed_decisions(name), trash / "decisions.jsonl"
    has_record = record.is_file() and record.stat().st_size > 0
    if has_record:
        workspace.ensure_dir(kept.parent)
        record.replace(kept)
    shutil.rmtree(trash, ignore_errors=True)
    return kept if has_record else None


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


def labels_file(labels: str) -> Path | None:
    path = Path(labels) if labels else None
    if path is not None and not path.is_file():
        raise BadDataset(f"There is no table of findings at '{labels}'. Expected: NIH's Data_Entry_2017.csv.")
    return path


def _build(
    name: str, material: sources.SourceFolder, listing: sources.Listing, folder: Path, progress: Progress
) -> Dataset:
    files = [listing.root / one.id for one in listing.found]
    facts = packing.pack(files, folder / "packed" / f"{packing.SIZE}.npy", progress=progress)
    bad = [(one.id, fact.problem) for one, fact in zip(listing.found, facts, strict=True) if fact.problem]
    good = [(one, fact) for one, fact in zip(listing.found, facts, strict=True) if not fact.problem]
    table = index_rows(good, material.kind)
    if table["class"].nunique() < 2:
        raise BadDataset(
            f"Of {len(files)} images only {len(good)} could be read, which leaves fewer than two classes. "
            f"The first problem: {bad[0][1]}"
        )
    index.write(folder, table)
    own = listing.root.is_relative_to(folder)
    return Dataset(
        name=name,
        classes=listing.classes,
        counts=counts(table, listing.classes),
        images=len(table),
        patients=int(table["patient"].nunique()),
        kind=material.kind,
        origin=material.origin,
        citation=material.citation or listing.citation,
        synthetic=material.synthetic,
        root=str(listing.root.relative_to(folder)) if own else str(listing.root),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        skipped=tuple({"file": file, "reason": reason} for file, reason in [*material.skipped, *listing.skipped, *bad]),
    )


def index_rows(good: Sequence[tuple[sources.ImageFile, packing.FileFacts]], kind: str) -> pd.DataFrame:
    rows = [
        (
            one.id,
            one.split,
            one.label,
            fact.patient or one.patient,
            kind,
            fact.format,
            fact.mode,
            fact.width,
            fact.height,
            fact.bytes,
            fact.sha256,
            fact.quality,
        )
        for one, fact in good
    ]
    return pd.DataFrame(rows, columns=list(index.COLUMNS))


def counts(table: pd.DataFrame, classes: Sequence[str]) -> dict[str, dict[str, int]]:
    """Images per split and class, both in the agreed order; every class is named in every split that has images."""
    found = table.groupby(["split", "class"], observed=True).size().to_dict()
    present = [split for split in sources.SPLITS if (table["split"] == split).any()]
    return {split: {label: int(found.get((split, label), 0)) for label in classes} for split in present}
