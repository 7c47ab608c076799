"""Background processes of this project: start one that outlives its parent, and tell whether it still lives."""

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, NotRequired, TypedDict, TypeVar

import psutil
from threadpoolctl import ThreadpoolController

from cxr_core.errors import WorkFailed

# A network's batches are hundreds of megabytes. glibc gives each such buffer back at once, and the kernel clears its pages
# again for the next: a quarter of the time of a training (benchmarks/epoch.py). So keep them. Elsewhere it is ignored.
_KEEP_MEMORY = {"mmap_max": 0, "trim_threshold": 2**34, "top_pad": 2**28, "arena_max": 1, "hugetlb": 1}
_FASTER = {
    "GLIBC_TUNABLES": ":".join(f"glibc.malloc.{name}={value}" for name, value in _KEEP_MEMORY.items()),
    # TensorFlow leaves Intel's kernels off on processors without AVX-512, where they are the faster ones too: an epoch of
    # the Custom CNN takes 0.6 of the time (benchmarks/epoch.py).
    "TF_ENABLE_ONEDNN_OPTS": "1",
}


T = TypeVar("T")


class ProcessId(TypedDict):
    """Identity of a process, which tells it from a later one with the same number.

    Attributes:
        born: when it started, seconds since 1970 by the clock of that moment.
        started: boot and clock tick at which it started, which no change of the clock moves; empty where there is no /proc.
    """

    host: str
    pid: int
    born: float
    started: NotRequired[str]


def process_id(pid: int | None = None) -> ProcessId:
    """The identity of process `pid` of this machine, by default of this one."""
    process = psutil.Process(pid)
    return ProcessId(
        host=socket.gethostname(), pid=process.pid, born=process.create_time(), started=_started(process.pid)
    )


def _started(pid: int) -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return f"{boot}/{after_name[19]}"  # field 22 of proc_pid_stat(5), starttime
    except (OSError, IndexError):
        return ""


def is_alive(who: ProcessId) -> bool:
    """True if that very process still runs. Of another machine nothing is known from here: False."""
    if who["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(who["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if (recorded := who.get("started")) and (started := _started(who["pid"])):
            return started == recorded
        return abs(process.create_time() - who["born"]) < 1
    except (psutil.Error, ValueError, OverflowError):  # a number that no process can have
        return False


def speed_variables() -> dict[str, str]:
    """The variables that make trainings faster; those that this process sets otherwise stay as they are."""
    return {name: os.environ.get(name, value) for name, value in _FASTER.items()}


def training_environment() -> dict[str, str]:
    """The variables that trainings run under: this process's own and those that make them faster."""
    return {**os.environ, **speed_variables(), "PYTHONUNBUFFERED": "1"}


def search_path() -> str:
    """`PYTHONPATH` of a process that is to find this package, and what this process finds by its own."""
    package_parent = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([package_parent, *filter(None, [os.environ.get("PYTHONPATH")])])


def start(arguments: Sequence[str], *, log: Path, variables: Mapping[str, str] | None = None) -> ProcessId:
    """Start `python -m cxr_core ARGUMENTS` detached: it continues when this process, its terminal or its browser ends.

    Args:
        arguments: of the command line.
        log: file that its output is appended to.
        variables: of its environment, besides this process's own.
    """
    package = Path(__file__).resolve().parent
    with log.open("ab") as out:
        child = subprocess.Popen(
            [sys.executable, "-m", package.name, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env=training_environment() | {"PYTHONPATH": search_path(), **(variables or {})},
            start_new_session=True,
        )
    return process_id(child.pid)


def kill(who: ProcessId) -> None:
    """End a process and its children at once."""
    if not is_alive(who):
        return
    try:
        process = psutil.Process(who["pid"])
        for descendant in [*process.children(recursive=True), process]:
            descendant.kill()
        psutil.wait_procs([process], timeout=5)
    except psutil.NoSuchProcess:
        return


def attended(work: Callable[[], T], look: Callable[[], None], *, seconds: float = 0.5) -> T:
    """Do `work` in a thread and call `look` in this one, at once and every so many seconds; return what `work` returns.

    For work that cannot be interrupted, such as a library's download: what `look` raises gives it up, and its thread
    goes on unattended until it ends, or this process does.

    Raises:
        whatever `work` or `look` raises.
    """
    result: Future[T] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that asked
            result.set_exception(error)

    threading.Thread(target=run, name="attended", daemon=True).start()
    while not result.done():
        look()
        wait([result], timeout=seconds)
    return result.result()


def memory_gb() -> float:
    """Main memory that this process holds, in 2³⁰ bytes."""
    return float(psutil.Process().memory_info().rss) / 2**30


def cpu_count() -> int:
    """Number of processor cores that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def process_pool() -> Iterator[ProcessPoolExecutor]:
    """One worker a core, each a fresh process (forking one that has threads can hang) that ends when its parent does.

    Raises:
        WorkFailed: a worker was ended, as when the machine's memory is full.
    """
    context = get_context("spawn")
    try:
        with ProcessPoolExecutor(cpu_count(), mp_context=context, initializer=_end_with_parent) as pool:
            yield pool
    except BrokenProcessPool as error:
        raise WorkFailed(
            "A process that worked on images was ended from outside, as happens when the machine's memory is full. Nothing was "
            "changed. End other programs and try again."
        ) from error


def _end_with_parent() -> None:
    """A worker waits for work for ever; after a kill of its parent none will come."""

    def watch() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, name="parent watch", daemon=True).start()


_calm = threading.Lock()
_inside: list[Any] = []  # what ends the limit, once for each who is inside


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's products on one thread while anybody is inside, for small ones beside other threads that compute.

    Its threads wait for one another by turning in circles, which takes the processor from everybody else: an image of a batch
    took 21 milliseconds of processor time, and takes 11 to 13 (benchmarks/prediction.py; two cores, custom_cnn).
    The setting is the process's own, so the last one out puts it back.
    """
    with _calm:
        _inside.append(_inside[0] if _inside else _changed(lambda: _blas().limit(limits=1, user_api="blas")))
    try:
        yield
    finally:
        with _calm:
            limit = _inside.pop()
            if not _inside:
                _changed(limit.restore_original_limits)


def _changed(change: Callable[[], Any]) -> Any:
    """threadpoolctl lets the thread that has changed the limits once change them ever after, and no other: give that back."""
    try:
        return change()
    finally:
        for controller in _blas().lib_controllers:
            if hasattr(controller, "clear_controlling_thread"):
                controller.clear_controlling_thread(force=True)


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()  # looks for the libraries that are loaded, which takes a while
