"""Adding datasets in the background: started by a page, done by the command line, looked at by any page.

<datasets>/.errands/<name>/
    job.json      who does it, of what source
    log.txt       what that process printed
    <name>.zip    an upload that waits to be read

The folder is gone when the dataset is there; a failed addition keeps it until it is put away or tried again.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict

from filelock import FileLock

from cxr_core import process, workspace
from cxr_core.data import datasets
from cxr_core.errors import AlreadyExists, WorkFailed

_CUT_OFF = "It was cut off unfinished, and nothing of it is left. Run it again."


@dataclass(frozen=True)
class Addition:
    """One addition: under way, or failed with `problem`, a sentence. `total` is 0 while it is unknown."""

    name: str
    source: str
    stage: str
    done: int
    total: int
    problem: str

    @property
    def running(self) -> bool:
        return not self.problem


def start(source: str, name: str = "", *, options: Sequence[str] = ()) -> str:
    """Begin to add a dataset in a process of its own and return the dataset's name.

    Args:
        source: as for `datasets.add`.
        name: of the dataset, by default the source's own.
        options: further options of `data add`.

    Raises:
        AlreadyExists: the name is taken or is being added.
        BadInput: the name will not do.
    """
    name = workspace.checked_name(name or datasets.default_name(source))
    with _free(name):
        _begin(source, name, options)
    return name


def start_upload(content: bytes, name: str) -> str:
    """As `start`, for the bytes of an uploaded zip; they lie on the disk until the addition has ended."""
    with _free(workspace.checked_name(name)):
        upload = workspace.errand(name) / f"{name}.zip"
        workspace.write_bytes(upload, content)
        _begin(str(upload), name, ())
    return name


@contextmanager
def _free(name: str) -> Iterator[None]:
    """Holds the lock of all who begin, with nothing of this name there, under way or left of an earlier failure."""
    workspace.errand().mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.errand() / ".lock"):
        if name in datasets.names() or any(one.name == name and one.running for one in additions()):
            raise AlreadyExists(
                f"There is a dataset named '{name}' already, or it is being added. Choose another name."
            )
        shutil.rmtree(workspace.errand(name), ignore_errors=True)
        yield


def _begin(source: str, name: str, options: Sequence[str]) -> None:
    folder = workspace.errand(name)
    folder.mkdir(exist_ok=True)
    who = process.start(["data", "add", source, "--name", name, "--quiet", *options], log=folder / "log.txt")
    workspace.write_json(folder / "job.json", {"source": source, "owner": who})


def additions() -> list[Addition]:
    """What is being added and what failed, by name. What is done is forgotten here: it is a dataset."""
    return [one for name in workspace.names_in(workspace.errand()) if (one := _look(name)) is not None]


def stop(name: str) -> None:
    """End an addition, or put away the message of a failed one; nothing of it is left."""
    if not workspace.errand(name).is_dir():
        return
    if (job := _job(name)) is not None:
        process.kill(job["owner"])
        shutil.rmtree(workspace.adding(name), ignore_errors=True)
    shutil.rmtree(workspace.errand(name), ignore_errors=True)


class _Job(TypedDict):
    source: str
    owner: process.Owner


def _job(name: str) -> _Job | None:
    """None while it is being written, once it has been put away by another page, or if it is damaged."""
    try:
        job: _Job = workspace.read_json(workspace.errand(name) / "job.json")
    except (FileNotFoundError, WorkFailed):
        return None
    return job


def _look(name: str) -> Addition | None:
    job = _job(name)
    if job is None:
        return None
    if process.alive(job["owner"]):
        stage, done, total = datasets.progress_of(name)
        return Addition(name, job["source"], stage, done, total, "")
    if name in datasets.names():
        shutil.rmtree(workspace.errand(name), ignore_errors=True)
        return None
    log = workspace.errand(name) / "log.txt"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    return Addition(
        name,
        job["source"],
        "",
        0,
        0,
        lines[-1] if lines else "It was cut off unfinished, and nothing of it is left. Run it again.",
    )
