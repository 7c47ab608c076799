"""Paths of everything on disk, and atomic writing: the only module that knows paths under the artifacts folder.

    <home>/datasets/<name>/       index, images, packed arrays, manifests of one dataset
    <home>/datasets/.adding/<name>/   one that is being added; moved into place when whole
    <home>/datasets/.removed/<name>-<time>.jsonl   decisions of datasets that were removed
    <home>/datasets/.deleted/<name>.<time>/   one that was removed and can still be brought back
    <home>/.secret                key of the workspace's pseudonyms
    <home>/datasets/.errands/<name>/  who adds it in the background, of what, and what that process printed
    <home>/runs/<id>/             one training each
    <home>/runs/.deleted/<id>/    one that was deleted and can still be brought back
    <home>/trunks/<digest>.weights.h5   weights of frozen backbones that runs stand on; <digest>-….tflite: to be run without Keras
    <home>/features/<key>/        features that such backbones made of images
    <project>/artifacts/pretrained/<id>/   runs that ship with the project (or in the folder `CXR_PRETRAINED`)

`<home>` is the environment variable `CXR_HOME`, else `artifacts/` of the clone, else (installed by pip) the user's data folder,
`~/.local/share/cxr-workbench`. An installed package has the runs that ship inside itself, as `cxr_core/pretrained/`.
"""

import errno
import json
import math
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from cxr_core.errors import BadInput, DamagedFile, WorkFailed, sentence

PACKAGE = Path(__file__).resolve().parent
PROJECT = PACKAGE.parent
Fingerprint = tuple[tuple[int, int, int] | None, ...]
"""State of files on disk; see `fingerprint`."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")


def home() -> Path:
    """The folder of all that users make; created when something is first written.

    Raises:
        WorkFailed: CXR_HOME is a file.
    """
    moved = os.environ.get("CXR_HOME")
    if moved:
        folder = _real(_absolute(moved))
        if folder.is_file():
            raise WorkFailed(f"{folder} is a file. Point CXR_HOME to a folder that can be written.")
        return folder
    return PROJECT / "artifacts" if _is_clone() else _user_data() / "cxr-workbench"


def datasets() -> Path:
    return home() / "datasets"


def dataset(name: str) -> Path:
    return datasets() / validate_name(name)


def staging(name: str = "") -> Path:
    """The staging folder of all additions, or of the one called `name`."""
    return datasets() / ".adding" / validate_name(name) if name else datasets() / ".adding"


def removed_decisions(name: str) -> Path:
    """Path of the record of decisions of the removed dataset `name`; the time tells several apart."""
    return datasets() / ".removed" / f"{validate_name(name)}-{time.strftime('%Y%m%d-%H%M%S')}.jsonl"


def deleted_dataset(entry: str = "") -> Path:
    """The folder of all removed datasets that can be brought back, or of one of its entries, `<name>.<time>`."""
    return datasets() / ".deleted" / entry


def background_job(name: str = "") -> Path:
    """The folder of all additions in the background, or of the one called `name`."""
    return datasets() / ".errands" / validate_name(name) if name else datasets() / ".errands"


def runs() -> Path:
    return home() / "runs"


def run(run_id: str) -> Path:
    return runs() / validate_name(run_id)


def deleted_run(run_id: str) -> Path:
    """Path where a deleted run waits to be brought back or deleted for good."""
    return runs() / ".deleted" / validate_name(run_id)


def features() -> Path:
    """Folder of the features that frozen backbones made of images; may be deleted at any time, they are made again."""
    return home() / "features"


def backbone(digest: str) -> Path:
    """The weights of a frozen backbone, named by their content; runs need them to predict."""
    return home() / "trunks" / f"{validate_name(digest)}.weights.h5"


def exported_backbone(name: str) -> Path:
    """A frozen backbone as it is run without Keras; made again if deleted."""
    return home() / "trunks" / f"{validate_name(name)}.tflite"


def pretrained() -> Path:
    """Ships with the code, so it stays in the project wherever `CXR_HOME` points; `CXR_PRETRAINED` names another folder."""
    moved = os.environ.get("CXR_PRETRAINED")
    if moved:
        return _real(_absolute(moved))
    return PROJECT / "artifacts" / "pretrained" if _is_clone() else PACKAGE / "pretrained"


@lru_cache(maxsize=1)
def _is_clone() -> bool:
    """True if the package runs from a clone of the project, not installed among Python's packages."""
    return (PROJECT / "pyproject.toml").is_file()


def _user_data() -> Path:
    """The folder for a user's data by the XDG base directory specification."""
    return Path(_absolute(os.environ.get("XDG_DATA_HOME") or "~/.local/share"))


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))  # noqa: PTH100, PTH111 - asked for a dozen times an upload


@lru_cache(maxsize=64)
def _real(text: str) -> Path:
    return Path(text).resolve()


def validate_name(name: str) -> str:
    """The name itself, if it is safe as one folder name on every system.

    Raises:
        BadInput: empty, longer than 80 characters, or with anything but letters, digits, '.', '_' and '-'.
    """
    if not _NAME.fullmatch(name):
        raise BadInput(
            "A name has 1 to 80 letters, digits, dots, dashes or underscores and starts with a letter or digit. "
            f"Received: '{name[:100]}'."
        )
    return name


def ensure_dir(folder: Path) -> Path:
    """The folder itself, there now.

    Raises:
        WorkFailed: it cannot be made.
    """
    try:
        _make(folder)
    except OSError as error:
        if folder.is_file():
            raise WorkFailed(f"{folder} is a file. Expected: a folder.") from error
        advice = "Point CXR_HOME to" if folder.is_relative_to(home()) else "Choose"
        raise WorkFailed(
            f"The folder {folder} cannot be made ({error.strerror}). {advice} a folder that can be written."
        ) from error
    return folder


def _make(folder: Path) -> None:
    """Make a folder and those above it; the user's own (mode 0700) in the home, but not in one that is shared (setgid).

    Raises:
        FileNotFoundError: it would be that of a dataset: one comes into being when it is whole, and never again by a process that
            still writes to it after it was removed.
        OSError: it cannot be made.
    """
    missing = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    root = home()
    shared = bool(missing) and folder.stat().st_mode & stat.S_ISGID
    for new in reversed(missing):
        if new.parent == root / "datasets" and not new.name.startswith("."):
            raise FileNotFoundError(
                errno.ENOENT, f"The dataset '{new.name}' is not there, or was removed meanwhile", str(new)
            )
        new.mkdir(mode=0o777 if shared or not new.is_relative_to(root) else 0o700, exist_ok=True)


@contextmanager
def writing() -> Iterator[None]:
    """A block that writes or deletes in several steps: an OSError of it becomes WorkFailed, with the sentence that fits."""
    try:
        yield
    except OSError as error:
        raise WorkFailed(sentence(error)) from error


@contextmanager
def replacing(path: Path, *, only_writer: bool = False, sync: bool = False) -> Iterator[Path]:
    """A hidden path beside `path` to write to; it takes the place of `path` when the block ends without an error.

    So readers see the old content or the new, never a part, and an error leaves the old. The folder is made if need be.

    Args:
        path: of the file to be; the temporary name ends in the same suffixes. It may be a folder that is not there yet.
        only_writer: no other process writes this file. Then the temporary name is always the same, and what a killed
            writer left is overwritten.
        sync: wait until the content is on the disk, so that no later file can be there without it.

    Raises:
        WorkFailed: an OSError inside of the block: the disk is full, or the folder cannot be written.
    """
    part = path.with_name(f".part{'' if only_writer else f'-{secrets.token_hex(4)}'}.{path.name}")
    try:
        _make(path.parent)
        yield part
        if sync:
            with part.open("rb+") as written:
                os.fsync(written.fileno())
        part.replace(path)
    except OSError as error:
        raise WorkFailed(f"Could not write {path}: {error.strerror or error}.") from error
    finally:  # half a file would keep a full disk full
        with suppress(OSError):
            if part.is_dir():
                shutil.rmtree(part)
            else:
                part.unlink(missing_ok=True)


def secret() -> bytes:
    """The key of this workspace's pseudonyms, 32 random bytes that no other workspace has; made when it is first asked for.

    Raises:
        WorkFailed: it cannot be read or written.
    """
    path = home() / ".secret"
    try:
        _make(path.parent)
        if not path.is_file():
            part = path.with_name(f".part-{secrets.token_hex(4)}.secret")
            with os.fdopen(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as out:
                out.write(secrets.token_bytes(32))
            with suppress(FileExistsError):  # another process was faster, and its key counts
                os.link(part, path)
            part.unlink()
        content = path.read_bytes()
    except OSError as error:
        raise WorkFailed(
            f"The key of this workspace's pseudonyms could not be read or made. {sentence(error)}"
        ) from error
    if len(content) != 32:
        raise DamagedFile(
            f"{path} is damaged: it holds {len(content)} bytes instead of 32. Restore it from a backup; without it, DICOM images "
            "cannot be added to datasets that have some. If there are none, delete it: a new one is made."
        )
    return content


def fingerprint(*paths: Path | str) -> Fingerprint:
    """Changes whenever one of the files is replaced, appended to, made or deleted; for caches. Reads no content.

    Returns:
        For each path its inode, time of change (ns) and bytes; None where there is no file.
    """
    return tuple(_stat(path) for path in paths)


def _stat(path: Path | str) -> tuple[int, int, int] | None:
    try:
        about = os.stat(path)  # noqa: PTH116 - four times faster than by Path
    except (FileNotFoundError, NotADirectoryError):
        return None
    return about.st_ino, about.st_mtime_ns, about.st_size


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all.

    Raises:
        WorkFailed: the disk is full or the folder cannot be written.
    """
    with replacing(path) as part:
        part.write_bytes(content)


def read_bytes(path: Path) -> bytes:
    """Content of a file.

    Raises:
        WorkFailed: it is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise WorkFailed(f"{path} could not be read ({error.strerror or error}).") from error


def write_json(path: Path, document: Any) -> None:
    """Atomic; NaN is refused (ValueError), since it is no JSON."""
    write_bytes(path, json.dumps(document, indent=1, allow_nan=False).encode())


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")  # NaN and the infinities, which Python reads


def read_json(path: Path) -> Any:
    """The parsed document.

    Raises:
        FileNotFoundError: there is no such file.
        DamagedFile: it is no JSON.
        WorkFailed: it cannot be read.
    """
    try:
        return json.loads(path.read_bytes(), parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: it is not valid JSON. Restore it from a backup.") from error
    except FileNotFoundError:
        raise
    except OSError as error:
        raise WorkFailed(f"{path} could not be read ({error.strerror or error}).") from error


def is_number(value: object) -> bool:
    """True for a finite number of a JSON document; a bool is none."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def list_dirs(folder: Path) -> list[str]:
    """Names of the visible subfolders of `folder`, sorted; empty if it does not exist."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and not entry.name.startswith("."))
