"""Adding datasets in the background: started by a page, done by the command line, looked at by any page.

<datasets>/.adding/<name>.job.json    who does it, of what source; gone when the dataset is there
<datasets>/.adding/<name>.log         what that process printed
<datasets>/.adding/<name>.zip         an upload that waits to be read
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from cxr_core import process, workspace
from cxr_core.data import datasets
from cxr_core.errors import AlreadyExists


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
    workspace.adding().mkdir(parents=True, exist_ok=True)
    with FileLock(workspace.adding() / ".jobs.lock"):
        if name in datasets.names() or any(one.name == name and one.running for one in additions()):
            raise AlreadyExists(
                f"There is a dataset named '{name}' already, or it is being added. Choose another name."
            )
        log = _log(name)
        log.write_bytes(b"")
        who = process.start(["data", "add", source, "--name", name, "--quiet", *options], log=log)
        workspace.write_json(_job(name), {"source": source, "owner": who})
    return name


def start_upload(content: bytes, name: str) -> str:
    """As `start`, for the bytes of an uploaded zip; they lie on the disk until the addition has ended."""
    workspace.checked_name(name)
    held = _upload(name)
    if held.exists():
        raise AlreadyExists(f"A dataset named '{name}' is being uploaded already. Choose another name.")
    workspace.write_bytes(held, content)
    try:
        return start(str(held), name)
    except AlreadyExists:
        held.unlink(missing_ok=True)
        raise


def additions() -> list[Addition]:
    """What is being added and what failed, by name. What is done is forgotten here: it is a dataset."""
    return [one for path in sorted(workspace.adding().glob("*.job.json")) if (one := _look(path)) is not None]


def stop(name: str) -> None:
    """End an addition, or put away the message of a failed one; nothing of it is left."""
    if not _job(name).is_file():
        return
    process.kill(workspace.read_json(_job(name))["owner"])
    shutil.rmtree(workspace.adding(name), ignore_errors=True)
    _put_away(name)


def _put_away(name: str) -> None:
    for path in (_upload(name), _log(name), _job(name)):
        path.unlink(missing_ok=True)


def _upload(name: str) -> Path:
    return workspace.adding() / f"{workspace.checked_name(name)}.zip"


def _job(name: str) -> Path:
    return workspace.adding() / f"{workspace.checked_name(name)}.job.json"


def _log(name: str) -> Path:
    return workspace.adding() / f"{workspace.checked_name(name)}.log"


def _look(path: Path) -> Addition | None:
    name = path.name.removesuffix(".job.json")
    try:
        job = workspace.read_json(path)
    except FileNotFoundError:  # another page has just put it away
        return None
    if process.alive(job["owner"]):
        stage, done, total = datasets.progress_of(name)
        return Addition(name, job["source"], stage, done, total, "")
    if name in datasets.names():
        _put_away(name)
        return None
    lines = _log(name).read_text(errors="replace").strip().splitlines() if _log(name).is_file() else []
    problem = lines[-1] if lines else "It ended without a word. Try again."
    return Addition(name, job["source"], "", 0, 0, problem)
