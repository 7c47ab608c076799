"""Processes of this project: threads, kernels and identity."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import psutil
import pytest

from cxr_core import process


def blas_threads() -> set[int]:
    return {one.num_threads for one in process._blas().lib_controllers if one.user_api == "blas"}


@pytest.mark.skipif(process.cpu_count() < 2, reason="There is one core, so NumPy has one thread anyway.")
def test_numpy_keeps_to_one_thread_while_anybody_is_inside_whoever_was_there_before() -> None:
    before = blas_threads()
    assert max(before) > 1
    with process.one_blas_thread():
        assert blas_threads() == {1}
    assert blas_threads() == before

    def inside(number: int) -> set[int]:
        with process.one_blas_thread():
            both.wait(timeout=20)  # the two overlap, so that the first one out is not the last
            return blas_threads()

    both = Barrier(2)
    with ThreadPoolExecutor(2) as pool:  # two threads that live on, one after the other in charge
        for _ in range(3):
            assert [*pool.map(inside, range(2))] == [{1}, {1}]
            assert blas_threads() == before


def test_trainings_get_the_faster_kernels_unless_somebody_sets_them_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TF_ENABLE_ONEDNN_OPTS", raising=False)
    assert process.training_environment()["TF_ENABLE_ONEDNN_OPTS"] == "1"
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    assert process.training_environment()["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert process.training_environment().keys() >= process.speed_variables().keys()


def test_work_in_a_thread_is_looked_after_and_its_result_returned() -> None:
    looks: list[int] = []
    ended = Event()

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            ended.set()

    assert process.attended(lambda: ended.wait(20) and "result", look, seconds=0.01) == "result"
    assert len(looks) >= 3


@pytest.mark.parametrize("error", [KeyError("a bug"), TimeoutError("of a socket")])
def test_what_work_in_a_thread_raises_is_raised_here(error: Exception) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)) as caught:
        process.attended(work, lambda: None)
    assert caught.value is error


def test_who_looks_may_give_work_up_that_cannot_be_interrupted() -> None:
    ended = Event()

    def look() -> None:
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        process.attended(lambda: ended.wait(20), look, seconds=0.01)
    ended.set()


def test_a_change_of_the_clock_kills_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of birth is counted from the clock of the boot, so it moves with the clock."""
    me = process.process_id()
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: me["born"] + 3600)
    assert process.is_alive(me)
    assert not process.is_alive({**me, "started": ""})  # all that there is of an earlier version, or without /proc


@pytest.mark.skipif(not process.process_id().get("started"), reason="There is no /proc on this machine.")
def test_a_later_process_with_the_same_number_is_another_one() -> None:
    me = process.process_id()
    boot, tick = str(me.get("started")).split("/")
    assert not process.is_alive({**me, "started": f"{boot}/{int(tick) + 1}"})
    assert not process.is_alive({**me, "started": f"another-boot/{tick}"})
