"""Decode every image once, in parallel, into one uint8 array on disk; nothing is decoded in an epoch again.

<dataset>/packed/<size>.npy    uint8 (N, size, size), row i is row i of the index, memory-mapped when read
"""

import hashlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from cxr_core import images, locks, process, workspace
from cxr_core.data import index
from cxr_core.data.progress import Progress, no_progress
from cxr_core.errors import UnreadableImage, WorkFailed, stop_if_shortage

_log = logging.getLogger(__name__)

SIZE = 180  # pixels; the paper's
_CHUNK = 64
_ALONE = 256  # up to so many images, starting more processes costs more than it saves

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FileFacts:
    """One decoded file; `problem` is empty, or the sentence that says why there are no pixels.

    `patient` is the pseudonym of a DICOM file's patient, "" where the file does not tell.
    """

    format: str = ""
    mode: str = ""
    width: int = 0
    height: int = 0
    bytes: int = 0
    sha256: str = ""
    quality: int = 0
    patient: str = ""
    problem: str = ""


def pack(files: Sequence[Path], target: Path, *, size: int = SIZE, progress: Progress = no_progress) -> list[FileFacts]:
    """Decode `files` and write their pixels, pre-processed by `images.prepare`, as one array.

    Args:
        files: N image files.
        target: the .npy file; it appears when it is whole. Unreadable files have no row in it, the others keep their order.
        size: side of the square, in pixels.
        progress: counts images.

    Returns:
        N facts, in the order of `files`.

    Raises:
        WorkFailed: the disk is full or cannot be written.
    """
    facts: list[FileFacts] = []
    with workspace.replacing(target) as part, part.open("wb") as out:
        _write_header(out, len(files), size)
        for chunk, pixels in _decode_all(files, size):
            out.write(pixels.tobytes())
            facts.extend(chunk)
            progress("Reading images", len(facts), len(files))
        out.seek(0)
        _write_header(out, sum(not fact.problem for fact in facts), size)
    return facts


def open_packed(name: str, *, size: int = SIZE, progress: Progress = no_progress) -> Pixels:
    """Pixels of a dataset, memory-mapped and read-only; packed now if the array of this size is missing, short or damaged.

    Returns:
        uint8 (N, size, size), row i is row i of the index.

    Raises:
        UnknownName: there is no such dataset.
        WorkFailed: images that were there when it was added have changed or gone.
    """
    target, length = workspace.dataset(name) / "packed" / f"{size}.npy", index.count_rows(name)
    array = _usable_rows(name, target, size, length)
    if len(array) < length:
        _pack_once(name, target, size, progress)
        array = _usable_rows(name, target, size, length)
    return array[:length]  # rows beyond are of an extension that was killed


def extend(name: str, files: Sequence[Path], *, length: int, progress: Progress = no_progress) -> list[FileFacts]:
    """Decode `files` and write their pixels behind the first `length` rows of the dataset's array of SIZE.

    Returns:
        Facts in the order of `files`; unreadable ones have no row.

    Raises:
        WorkFailed: the disk is full or cannot be written; the rows of before are as they were.
    """
    open_packed(name, progress=progress)
    target = workspace.dataset(name) / "packed" / f"{SIZE}.npy"
    with locks.hold(target.with_name(f".{SIZE}.lock"), f"the images of '{name}'", waiting=_waiting(progress)):
        return _append(files, target, size=SIZE, length=length, progress=progress)


def _append(files: Sequence[Path], target: Path, *, size: int, length: int, progress: Progress) -> list[FileFacts]:
    """The header tells of the new rows when all are written; a reader of before keeps the old ones."""
    facts: list[FileFacts] = []
    try:
        with target.open("r+b") as out:
            np.lib.format.read_magic(out)
            np.lib.format.read_array_header_1_0(out)
            out.truncate(out.tell() + length * size * size)
            out.seek(0, os.SEEK_END)
            for chunk, pixels in _decode_all(files, size):
                out.write(pixels.tobytes())
                facts.extend(chunk)
                progress("Reading images", len(facts), len(files))
            out.flush()
            os.fsync(out.fileno())
            out.seek(0)
            _write_header(out, length + sum(not fact.problem for fact in facts), size)
    except OSError as error:
        raise WorkFailed(f"Could not write {target}: {error.strerror or error}.") from error
    return facts


def _usable_rows(name: str, target: Path, size: int, length: int) -> Pixels:
    """The rows of an array on disk that are those of the index; none if the file is missing, damaged or of another length."""
    try:
        array: Pixels = np.load(target, mmap_mode="r")
    except FileNotFoundError:
        return np.empty((0, size, size), np.uint8)
    except (OSError, ValueError, EOFError) as error:
        stop_if_shortage(error, str(target))
        _log.warning("%s is damaged (%s). The images are read again.", target, error)
        return np.empty((0, size, size), np.uint8)
    fits = len(array) >= length or len(array) in index.row_counts(name)
    if array.shape[1:] != (size, size) or array.dtype != np.uint8 or not fits:
        _log.warning("%s does not fit the index of '%s'. The images are read again.", target, name)
        return np.empty((0, size, size), np.uint8)
    return array


def _pack_once(name: str, target: Path, size: int, progress: Progress) -> None:
    """Pack what a size lacks; other callers wait for it."""
    root = index.root(name)
    workspace.ensure_dir(target.parent)
    with locks.hold(target.with_name(f".{size}.lock"), f"the images of '{name}'", waiting=_waiting(progress)):
        for part in target.parent.glob(f".part-*.{target.name}"):  # of a process that was killed
            part.unlink(missing_ok=True)
        table = index.read(name, ("id", "sha256"))
        done = len(_usable_rows(name, target, size, len(table)))
        table = table.iloc[done:]
        if table.empty:
            return
        files = [root / image for image in table["id"]]
        facts = (
            _append(files, target, size=size, length=done, progress=progress)
            if done
            else pack(files, target, size=size, progress=progress)
        )
        lost = [file for file, fact in zip(files, facts, strict=True) if fact.problem]
        other = [
            file for file, fact, sha256 in zip(files, facts, table["sha256"], strict=True) if fact.sha256 != sha256
        ]
        if other:
            target.unlink()
            what = "can no longer be read" if lost else "are not the ones that were added"
            raise WorkFailed(
                f"{len(lost or other)} images of '{name}' {what}, the first is {(lost or other)[0]}. "
                "Put them back, or remove the dataset and add it again."
            )


def _waiting(progress: Progress) -> Callable[[], None]:
    """Packing takes as long as it takes, and whoever waits for it sees so."""
    return lambda: progress("Waiting for another process that reads the images", 0, 0)


class StackedPixels:
    """The packed images of several datasets, one after the other, read as one uint8 (N, S, S) array.

    Args:
        arrays: one (n, S, S) array per dataset.
    """

    def __init__(self, arrays: Mapping[str, Pixels]):
        self._arrays = list(arrays.values())
        ends = np.cumsum([len(array) for array in self._arrays])
        self._starts = np.concatenate([[0], ends[:-1]]).astype(np.int64)
        self._first = dict(zip(arrays, self._starts.tolist(), strict=True))
        self.shape = (int(ends[-1]), *self._arrays[0].shape[1:])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, positions: npt.NDArray[np.int64]) -> Pixels:
        """uint8 (n, S, S) of int (n,) places."""
        selected = np.empty((len(positions), *self.shape[1:]), np.uint8)
        whose = np.searchsorted(self._starts, positions, side="right") - 1
        for number, array in enumerate(self._arrays):
            is_of = whose == number
            if is_of.any():
                selected[is_of] = array[positions[is_of] - self._starts[number]]
        return selected

    def followed_by(self, pixels: Pixels) -> "StackedPixels":
        """This stack with more images behind it, uint8 (m, S, S), that belong to no dataset."""
        longer = StackedPixels({"": pixels})
        longer._arrays = [*self._arrays, pixels]
        longer._starts = np.append(self._starts, len(self))
        longer._first = dict(self._first)
        longer.shape = (len(self) + len(pixels), *self.shape[1:])
        return longer

    def places(self, data: pd.Series, rows: pd.Series) -> npt.NDArray[np.int64]:
        """int (n,): where the rows of those datasets lie in this stack."""
        first = data.astype(str).map(self._first)
        return (first.to_numpy() + rows.to_numpy()).astype(np.int64)


def open_stacked(names: Iterable[str], *, size: int = SIZE, progress: Progress = no_progress) -> StackedPixels:
    """The packed images of the datasets `names`, in that order; see `packed`."""
    return StackedPixels({name: open_packed(name, size=size, progress=progress) for name in names})


def _write_header(out: object, rows: int, size: int) -> None:
    """NumPy pads the header so that the first axis can change its length in place."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (rows, size, size)}
    np.lib.format.write_array_header_1_0(out, header)  # type: ignore[arg-type]


def _decode_all(files: Sequence[Path], size: int) -> Iterator[tuple[list[FileFacts], Pixels]]:
    chunks = [files[start : start + _CHUNK] for start in range(0, len(files), _CHUNK)]
    sizes = [size] * len(chunks)
    if len(files) <= _ALONE or process.cpu_count() == 1:
        yield from map(_decode_chunk, chunks, sizes)
        return
    with process.process_pool() as pool:
        yield from pool.map(_decode_chunk, chunks, sizes)


def _decode_chunk(files: Sequence[Path], size: int) -> tuple[list[FileFacts], Pixels]:
    """Facts of each file, and uint8 (G, size, size) of the G readable ones."""
    facts, pixels = [], []
    for file in files:
        try:
            content = file.read_bytes()
            image = images.decode(content)
            header = image.header
            pixels.append(images.prepare(image.grey, size))
            facts.append(
                FileFacts(
                    header.format,
                    header.mode,
                    header.width,
                    header.height,
                    len(content),
                    hashlib.sha256(content).hexdigest(),
                    header.quality,
                    image.dicom.patient_key if image.dicom else "",
                )
            )
        except UnreadableImage as error:
            stop_if_shortage(error, str(file))
            facts.append(FileFacts(problem=str(error)))
        except MemoryError as error:
            stop_if_shortage(error, str(file))
        except OSError as error:
            stop_if_shortage(error, str(file))
            facts.append(FileFacts(problem=f"The file could not be read ({error.strerror or error})."))
    return facts, np.stack(pixels) if pixels else np.empty((0, size, size), np.uint8)
