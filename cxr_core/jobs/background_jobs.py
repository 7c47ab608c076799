"""Long work on a dataset in the background: started by a page, done by the command line, shown by any page.

<datasets>/.errands/<name>/
    job.json        kind of the job, its process, its source
    log.txt         output of that process
    progress.json   progress of an audit
    <name>.zip      an upload that waits to be read

The folder is gone when the work is done; a failed job keeps it until it is dismissed or tried again.
"""

import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxr_core import locks, process, typed_json, workspace
from cxr_core.data import allowed_paths, datasets
from cxr_core.data import audit as audits
from cxr_core.data.progress import read_progress
from cxr_core.errors import AlreadyExists, CxrError, UnknownName, WorkFailed, sentence

Kind = Literal["add", "audit"]
_TITLES: dict[Kind, str] = {"add": "addition", "audit": "audit"}
_log = logging.getLogger(__name__)
_seen_running: set[str] = set()  # names of the jobs whose end this process has yet to log
_CUT_OFF = "It was cut off unfinished, and nothing of it is left. Run it again."
_TRACEBACK = "Traceback (most recent call last)"


@dataclass(frozen=True)
class BackgroundJob:
    """One job: running, or failed with `problem`, a sentence. `total` is 0 while it is unknown."""

    kind: Kind
    name: str
    source: str
    stage: str
    done: int
    total: int
    problem: str

    @property
    def running(self) -> bool:
        return not self.problem


def add(source: str, name: str = "", *, options: Sequence[str] = ()) -> str:
    """Begin to add a dataset in a process of its own and return the dataset's name.

    Args:
        source: as for `datasets.add`.
        name: of the dataset, by default the source's own.
        options: further options of `data add`.

    Raises:
        AlreadyExists: the name is taken or is being added.
        BadInput: the name will not do.
    """
    name = workspace.validate_name(name or datasets.default_name(source))
    with _lock():
        _free(name)
        _begin("add", source, name, ["data", "add", source, "--name", name, "--quiet", *options])
    return name


def add_upload(content: bytes, name: str) -> str:
    """As `add`, for the bytes of an uploaded zip; they lie on the disk until the addition has ended."""
    workspace.validate_name(name)
    with _lock():
        _free(name)
        upload = workspace.background_job(name) / f"{name}.zip"
        workspace.write_bytes(upload, content)
        _begin("add", str(upload), name, ["data", "add", str(upload), "--name", name, "--quiet"])
    return name


def discard_upload(source: str) -> None:
    """Delete an upload that has been read, successfully or not; a file of the person's own is not touched."""
    path = Path(source)
    if path.suffix == ".zip" and path.parent.parent == workspace.background_job():
        with suppress(OSError):  # on a read-only disk it stays as it is
            path.unlink(missing_ok=True)


def audit(name: str) -> None:
    """Begin to audit a dataset in a process of its own; one that is under way already is left to it.

    Raises:
        UnknownName: no such dataset.
    """
    if name not in datasets.list_names():
        raise UnknownName("dataset", name, datasets.list_names())
    with _lock():
        if not any(job.name == name and job.running for job in list_jobs()):
            shutil.rmtree(workspace.background_job(name), ignore_errors=True)
            _begin("audit", name, name, ["data", "audit", name, "--quiet"])


@contextmanager
def _lock() -> Iterator[None]:
    """Hold the lock under which jobs begin and end."""
    with locks.hold(
        workspace.ensure_dir(workspace.background_job()) / ".lock", "the work on datasets in the background"
    ):
        yield


def _free(name: str) -> None:
    """Nothing of this name may be there or under way; what an earlier failure left is cleared."""
    if name in datasets.list_names() or any(job.name == name and job.running for job in list_jobs()):
        raise AlreadyExists(f"There is a dataset named '{name}' already, or it is being added. Choose another name.")
    shutil.rmtree(workspace.background_job(name), ignore_errors=True)


def _begin(kind: Kind, source: str, name: str, arguments: Sequence[str]) -> None:
    folder = workspace.background_job(name)
    folder.mkdir(exist_ok=True)
    who = process.start(arguments, log=folder / "log.txt", variables={allowed_paths.FROM_PAGE: "1"})
    workspace.write_json(folder / "job.json", {typed_json.FORMAT: 1, "kind": kind, "source": source, "owner": who})
    _seen_running.add(name)
    _log.info("The %s of dataset %s started as process %d.", _TITLES[kind], name, who["pid"])


def list_jobs() -> list[BackgroundJob]:
    """Running and failed jobs, by name; the folders of finished ones are deleted here."""
    return [job for name in workspace.list_dirs(workspace.background_job()) if (job := _listed(name)) is not None]


def _listed(name: str) -> BackgroundJob | None:
    """One odd file costs its own job its place among those that run, and nobody else anything."""
    try:
        return _read(name)
    except (CxrError, OSError) as error:
        return BackgroundJob("add", name, "", "", 0, 0, sentence(error))


def stop(name: str) -> None:
    """End a job, or dismiss the message of a failed one; nothing of it is left.

    What another process adds under the same name is not touched.
    """
    if not workspace.background_job(name).is_dir():
        return
    with _lock():  # one that is just beginning has a process before its job.json
        job = None
        with suppress(WorkFailed):  # of a damaged one nothing is known but its folder
            job = _job(name)
        if job is not None:
            process.kill(job.owner)
            _log_ended(job.kind, name, "stopped")
            if job.kind == "add":
                datasets.discard_staging(name)
        shutil.rmtree(workspace.background_job(name), ignore_errors=True)


@dataclass(frozen=True)
class _Job:
    kind: Kind
    source: str
    owner: process.ProcessId


def _job(name: str) -> _Job | None:
    """None while it is being written, or once it has been put away by another page.

    Raises:
        WorkFailed: it is damaged, cannot be read, or is of a later version.
    """
    try:
        return typed_json.read(workspace.background_job(name) / "job.json", _Job)
    except FileNotFoundError:
        return None


def _read(name: str) -> BackgroundJob | None:
    job = _job(name)
    if job is None:
        return None
    kind = job.kind
    if process.is_alive(job.owner):
        _seen_running.add(name)
        stage, done, total = read_progress(workspace.staging(name) if kind == "add" else workspace.background_job(name))
        return BackgroundJob(kind, name, job.source, stage, done, total, "")
    if name in datasets.list_names() and (kind == "add" or audits.latest(name) is not None):
        shutil.rmtree(workspace.background_job(name), ignore_errors=True)
        _log_ended(kind, name, "finished")
        return None
    _log_ended(kind, name, "failed")
    discard_upload(job.source)  # of a process that was killed
    return BackgroundJob(kind, name, job.source, "", 0, 0, _problem(name))


def _problem(name: str) -> str:
    """The sentence that a failed job ended with; an unexpected error's message is left out, since it may quote a file."""
    log = workspace.background_job(name) / "log.txt"
    lines = log.read_text(errors="replace").strip().splitlines() if log.is_file() else []
    if any(line.startswith(_TRACEBACK) for line in lines):
        return f"An unexpected error ended it. The log has the details: {log}."
    return lines[-1] if lines else _CUT_OFF


def _log_ended(kind: Kind, name: str, state: Literal["finished", "stopped", "failed"]) -> None:
    """Log once how a job ended; not why, since that names files."""
    if name in _seen_running:
        _seen_running.discard(name)
        level = logging.WARNING if state == "failed" else logging.INFO
        _log.log(level, "The %s of dataset %s ended: %s.", _TITLES[kind], name, state)
