"""Exported networks kept in memory: loaded when they are first asked for, and exported first where that was not done yet.

A run is exported in a process of its own, so Keras and TensorFlow are never loaded here (0.8 GB and seconds). A run that cannot
be exported cannot answer, and the error says why.
"""

import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict

from filelock import FileLock, Timeout

from cxr_core import locks, process, workspace
from cxr_core.errors import BadInput, CxrError, DamagedFile, WorkFailed
from cxr_core.inference import litert_model
from cxr_core.inference.litert_model import LiteRTModel
from cxr_core.runs import run_store
from cxr_core.runs.run_store import Run

RETRY_SECONDS = 60.0  # before a network that could not be loaded is tried again: each try takes seconds
EXPORT_SECONDS = 600.0


class ModelCache:
    """Networks in memory, shared by all sessions of this process; the least recently used are dropped beyond `budget`."""

    def __init__(self) -> None:
        self._models: OrderedDict[str, tuple[str, LiteRTModel]] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._failures: dict[str, tuple[workspace.Fingerprint, float, CxrError]] = {}

    def get(self, run: Run, *, export: bool = True) -> LiteRTModel:
        if not run.has_model:
            raise BadInput(f"Run '{run.id}' has no model yet ({run.status.state}). Choose a finished run.")
        fingerprint = run_store.model_fingerprint(run.folder)
        with self._lock:
            loading = self._loading.setdefault(run.id, threading.Lock())
        with loading:  # of several sessions one loads, and the others wait for it alone
            with self._lock:
                cached = self._models.get(run.id)
                if cached and cached[0] == fingerprint:
                    self._models.move_to_end(run.id)
                    return cached[1]
            if not export and not litert_model.files_of(run):
                raise WorkFailed(
                    f"Run '{run.id}' has not been exported, so it cannot answer here. On the server: "
                    f"python -m cxr_core export {run.id}"
                )
            failed, when, failure = self._failures.get(run.id, (None, 0.0, None))
            if failure and failed == _files(run) and time.monotonic() - when < RETRY_SECONDS:
                raise failure.with_traceback(None)
            try:
                model = _load(run, export)
            except CxrError as error:
                self._failures[run.id] = (_files(run), time.monotonic(), error)
                raise
            with self._lock:
                self._models[run.id] = (fingerprint, model)
                self._models.move_to_end(run.id)
                while len(self._models) > 1 and sum(kept.bytes for _, kept in self._models.values()) > budget():
                    self._models.popitem(last=False)
            return model

    def ids(self) -> list[str]:
        with self._lock:
            return list(self._models)

    def clear(self) -> None:
        with self._lock:
            self._models.clear()


def budget() -> int:
    """Bytes that networks in memory may take, roughly: `CXR_MODELS_MB`, by default 1,500 MB; one network is always kept.

    Raises:
        BadInput: the variable is no whole number.
    """
    megabytes = os.environ.get("CXR_MODELS_MB") or "1500"
    if not megabytes.isdecimal():
        raise BadInput(f"CXR_MODELS_MB is a whole number of megabytes. Received: '{megabytes}'.")
    return int(megabytes) * 2**20


def _files(run: Run) -> workspace.Fingerprint:
    """State of the files whose change gives a network that could not be loaded another try."""
    exported = (f"{litert_model.FOLDER}/{name}" for name in litert_model.FILES)
    return workspace.fingerprint(*(run.folder / name for name in (*run_store.MODELS, "config.json", *exported)))


def _load(run: Run, export: bool) -> LiteRTModel:
    """Read an exported network; with `export`, export it first if it is not there, and once more if it is damaged."""
    litert_model.interpreter_class()  # without it, no export would help
    if not litert_model.files_of(run):
        _export(run)
    litert_model.verify_config(run)  # an export made under a changed configuration would hide the change
    try:
        return LiteRTModel.load(run)
    except DamagedFile:
        if not export or not litert_model.drop_export(run):
            raise
    _export(run)
    return LiteRTModel.load(run)


def _export(run: Run) -> None:
    """Run `python -m cxr_core export RUN`, unless another process has done so meanwhile.

    Raises:
        WorkFailed: the run cannot be exported; says why, in the words of that command.
    """
    backbone = litert_model.missing_backbone(run)  # then nothing else is written, and the run may be a bundled one
    try:
        folder = workspace.ensure_dir(backbone.parent if backbone else run.folder / litert_model.FOLDER)
        with FileLock(folder / ".lock", timeout=EXPORT_SECONDS):
            if litert_model.files_of(run):
                return
            done = subprocess.run(
                [sys.executable, "-m", "cxr_core", "export", run.id],
                env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": process.search_path()},
                stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                timeout=EXPORT_SECONDS, check=False,
            )  # fmt: skip
    except Timeout as error:
        holder = locks.holder(folder / ".lock")
        raise _cannot_answer(run, f"{holder} has been exporting it for {EXPORT_SECONDS:.0f} seconds.") from error
    except subprocess.TimeoutExpired as error:
        raise _cannot_answer(run, f"That took more than {EXPORT_SECONDS:.0f} seconds.") from error
    except OSError as error:
        raise _cannot_answer(run, f"{error.filename or 'A file'} could not be written ({error.strerror}).") from error
    if done.returncode:
        raise _cannot_answer(run, _reason(done))


def _reason(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return f"The process that exports it was ended by signal {-done.returncode}, as when memory is short."
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    return lines[-1].strip()[:500] if lines else f"The process that exports it ended with code {done.returncode}."


def _cannot_answer(run: Run, reason: str) -> WorkFailed:
    return WorkFailed(
        f"Run '{run.id}' cannot answer on this machine, since its network could not be exported. {reason} "
        f"To try it by hand: python -m cxr_core export {run.id}"
    )


_CACHE = ModelCache()


def get(run: Run, *, export: bool = True) -> LiteRTModel:
    """The network of a run, loaded if it is not in memory; with `export`, exported if it never was.

    Raises:
        BadInput: the run has no model (yet).
        WorkFailed: its files are damaged, or it cannot be exported here.
    """
    return _CACHE.get(run, export=export)


def loaded_ids() -> list[str]:
    """Ids of the runs whose networks are in memory, the latest used last."""
    return _CACHE.ids()


def clear() -> None:
    """Drop all networks from memory."""
    _CACHE.clear()
