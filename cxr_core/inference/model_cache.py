"""Networks that answer, kept in memory: loaded when first asked for, exported first where that was not done yet.

A run that cannot be exported answers by Keras in this process.
"""

import os
import subprocess
import sys
import threading
import time
from collections import OrderedDict

from filelock import FileLock, Timeout

from cxr_core import process, workspace
from cxr_core.errors import BadInput, CxrError
from cxr_core.inference import litert_model
from cxr_core.inference.litert_model import LiteRTModel
from cxr_core.runs.run_store import Run

RETRY_SECONDS = 60.0  # before a network that could not be had is tried again: each try takes seconds


class _Warm:
    """Networks in memory, shared by all sessions of this process; the least recently used go when there are too many."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[str, LiteRTModel]] = OrderedDict()
        self._lock = threading.Lock()
        self._loading: dict[str, threading.Lock] = {}
        self._failed: dict[str, tuple[str, float, CxrError]] = {}

    def get(self, run: Run) -> LiteRTModel:
        if not run.has_model:
            raise BadInput(f"Run '{run.id}' has no model yet ({run.status.state}). Choose a finished run.")
        stamp = litert_model.model_fingerprint(run)
        with self._lock:
            turn = self._loading.setdefault(run.id, threading.Lock())
        with turn:  # of several sessions one loads, and the others wait for it alone
            with self._lock:
                kept = self._kept.get(run.id)
                if kept and kept[0] == stamp:
                    self._kept.move_to_end(run.id)
                    return kept[1]
            before, when, problem = self._failed.get(run.id, ("", 0.0, None))
            if problem and before == stamp and time.monotonic() - when < RETRY_SECONDS:
                raise problem.with_traceback(None)
            try:
                made = _loaded(run)
            except CxrError as error:
                self._failed[run.id] = (stamp, time.monotonic(), error)
                raise
            with self._lock:
                self._kept[run.id] = (stamp, made)
                self._kept.move_to_end(run.id)
                while len(self._kept) > 1 and sum(one.bytes for _, one in self._kept.values()) > budget():
                    self._kept.popitem(last=False)
            return made

    def names(self) -> list[str]:
        with self._lock:
            return list(self._kept)


def budget() -> int:
    """Bytes that warm networks may hold, roughly: `CXR_MODELS_MB`, by default 1,500 MB; one network is always kept.

    Raises:
        BadInput: the variable is no whole number.
    """
    asked = os.environ.get("CXR_MODELS_MB") or "1500"
    if not asked.isdecimal():
        raise BadInput(f"CXR_MODELS_MB is a whole number of megabytes. Received: '{asked}'.")
    return int(asked) * 2**20


def _loaded(run: Run) -> LiteRTModel:
    for _ in range(2):
        if not litert_model.files_of(run):
            _export(run)
        try:
            return LiteRTModel.load(run)
        except CxrError:
            if not litert_model.drop_backbone(run):  # a damaged one is made again
                break
    from cxr_core.inference import export  # the network itself, where it cannot be exported

    return export.in_memory(run.id)


def _export(run: Run) -> None:
    """In a process of its own, so that this one never pays for TensorFlow; whatever goes wrong, the network itself can answer."""
    backbone = litert_model.missing_backbone(run)  # then nothing else is written, and the run may be one that ships
    try:
        place = workspace.ensure_dir(backbone.parent if backbone else run.folder / litert_model.FOLDER)
        with FileLock(place / ".lock", timeout=600):
            if litert_model.files_of(run):
                return
            subprocess.run(
                [sys.executable, "-m", "cxr_core", "export", run.id],
                env={**os.environ, "KERAS_BACKEND": "tensorflow", "PYTHONPATH": process.search_path()},
                stdin=subprocess.DEVNULL, capture_output=True, timeout=600, check=False,
            )  # fmt: skip
    except (CxrError, OSError, Timeout, subprocess.TimeoutExpired):
        return


_WARM = _Warm()


def get(run: Run) -> LiteRTModel:
    """The network of a run.

    Raises:
        BadInput: the run has no model (yet).
        WorkFailed: its files are damaged.
    """
    return _WARM.get(run)


def loaded_ids() -> list[str]:
    """Ids of the runs whose networks are in memory, the latest used last."""
    return _WARM.names()
