"""Status of a run: `status.json`, written by the process that trains, read by everybody else."""

import os
import threading
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, get_args

from cxr_core import process, workspace
from cxr_core.errors import WorkFailed

State = Literal["queued", "running", "finished", "stopped", "failed", "interrupted"]
ENDED: tuple[State, ...] = ("finished", "stopped", "failed", "interrupted")
HEARTBEAT_SECONDS = 2.0
_ROOM = 16384  # bytes kept on the disk for the last word
SILENT_SECONDS = 15.0  # a run on another machine that has not been heard of for so long is taken for dead


@dataclass(frozen=True)
class Status:
    """State of a run; times are seconds since 1970, 0 where not yet.

    Attributes:
        stage: what a running one does: starting, preparing, training, predicting.
        reason: why it ended as it did, as a sentence; empty for a finished one.
        epoch: whole epochs done, of `epochs`.
        batch: batches done of the epoch under way, of `batches`.
        rate: images a second, training.
        memory_gb: main memory that its process holds, in 2³⁰ bytes.
        images: training images of an epoch.
        turn: queued runs start in the order of this; when it was queued (seconds since 1970), unless it was moved.
        cards: numbers of the graphics cards that it computes on, joined by commas; empty: whatever there is.
        job: what a cluster calls it, if it was handed to one.
        revived: how often it was started again after its machine was lost.
        waits_for: what keeps a queued one from starting, as a sentence; empty if it only waits for its turn.
    """

    state: State = "queued"
    stage: str = ""
    reason: str = ""
    created: float = 0.0
    started: float = 0.0
    ended: float = 0.0
    heartbeat: float = 0.0
    owner: process.ProcessId | None = None
    epoch: int = 0
    epochs: int = 0
    batch: int = 0
    batches: int = 0
    rate: float = 0.0
    images: int = 0
    seconds_left: float = 0.0
    device: str = ""
    memory_gb: float = 0.0
    turn: float = 0.0
    cards: str = ""
    job: str = ""
    revived: int = 0
    waits_for: str = ""

    @property
    def at_work(self) -> bool:
        """True if more will come of it: it waits, runs, or was stopped and its best model still predicts."""
        return self.state not in ENDED or (self.state == "stopped" and self.stage == "predicting")


def write(folder: Path, status: Status) -> None:
    workspace.write_json(folder / "status.json", asdict(status))


def read(folder: Path) -> Status:
    """The state as it is: a run whose process is gone reads as interrupted, whatever it wrote last.

    Raises:
        FileNotFoundError: there is no run in this folder.
        WorkFailed: the file is damaged.
    """
    return with_liveness(read_as_written(folder))


def read_as_written(folder: Path) -> Status:
    """The state as it was last written; see `read`."""
    status = _of_document(workspace.read_json(folder / "status.json"))
    if status is None:
        raise WorkFailed(f"{folder / 'status.json'} is damaged: it is no status of a run. Restore it from a backup.")
    return status


def with_liveness(status: Status) -> Status:
    """The status as written, but for a run whose process is gone: it is interrupted, and a stopped one predicts no more."""
    if status.state in ENDED and status.stage and _is_gone(status):
        return replace(status, stage="")
    if status.state == "running" and _is_gone(status):
        return replace(
            status,
            state="interrupted",
            reason="Its process ended unexpectedly: it was killed, the machine was switched off, or memory or disk was full. "
            "Resume it to continue from its last whole epoch.",
        )
    return status


def _of_document(document: Any) -> Status | None:
    """None if it has another shape; keys of a later version are passed over."""
    if not isinstance(document, dict):
        return None
    kinds: dict[str, Any] = {
        field.name: (int, float) if isinstance(field.default, float) else type(field.default)
        for field in fields(Status)
    }
    kinds["owner"] = (dict, type(None))
    values = {name: value for name, value in document.items() if name in kinds}
    owner = values.get("owner")
    if not all(isinstance(value, kinds[name]) for name, value in values.items()):
        return None
    if values.get("state") not in get_args(State):  # without one a run would count as queued, and be trained again
        return None
    if owner is not None and not _is_process_id(owner):
        return None
    return Status(**values)


def _is_process_id(document: dict[str, Any]) -> bool:
    kinds: dict[str, Any] = {"host": str, "pid": int, "born": (int, float)}
    return all(isinstance(document.get(name), kind) for name, kind in kinds.items())


def _is_gone(status: Status) -> bool:
    if status.owner is None:
        return True
    if status.owner["host"] == process.process_id()["host"]:
        return not process.is_alive(status.owner)
    return time.time() - status.heartbeat > SILENT_SECONDS


class Reporter:
    """Writes the status of the run that this process trains: at once when it matters, else at most twice a second.

    A thread keeps the heartbeat going through long silent work. On a full disk the work continues without telling how far it
    is, and how it ended is written in a place that was held free for it. Use it as a context manager.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._status = read(folder)
        self._lock = threading.Lock()
        self._written = 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._room = folder / ".room"

    def __enter__(self) -> Self:
        with suppress(OSError):
            self._room.write_bytes(os.urandom(_ROOM))  # a disk that compresses would hold nothing free for zeros
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        with suppress(OSError):
            self._room.unlink()

    @property
    def status(self) -> Status:
        return self._status

    def tell(self, *, soon: bool = False, **changes: Any) -> None:
        """Change fields of the status; with `soon` the file may lag half a second behind, or more on a full disk.

        Raises:
            WorkFailed: the disk is full or cannot be written.
        """
        with self._lock:
            self._status = replace(self._status, **changes)
            if soon:
                if time.monotonic() - self._written > 0.5:
                    self._try()
            elif self._status.state not in ENDED:
                self._write()
            elif not self._try():
                self._room.unlink(missing_ok=True)
                self._write()

    def _try(self) -> bool:
        """Write; False if it could not be written."""
        try:
            self._write()
        except WorkFailed:
            return False
        return True

    def _write(self) -> None:
        self._status = replace(self._status, heartbeat=time.time(), memory_gb=round(process.memory_gb(), 2))
        write(self._folder, self._status)
        self._written = time.monotonic()

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            with self._lock:
                self._try()
