"""Requests of many threads are computed in batches, each gets its own answers, and none is forgotten."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest

from cxr_core.inference.micro_batching import MicroBatcher


class Work:
    """Doubles numbers, and knows what it was given, and whether two ever came at once."""

    def __init__(self, seconds: float = 0.0):
        self.given: list[list[int]] = []
        self.alone, self.seconds, self._inside = True, seconds, 0

    def __call__(self, things: Sequence[int]) -> list[int]:
        self._inside += 1
        self.alone &= self._inside == 1
        self.given.append([*things])
        time.sleep(self.seconds)
        self._inside -= 1
        if -1 in things:
            raise ValueError("minus one")
        return [2 * thing for thing in things]


def asked_at_once(gathered: MicroBatcher[int, int], questions: list[list[int]]) -> list[Sequence[int] | Exception]:
    barrier = threading.Barrier(len(questions))

    def ask(things: list[int]) -> Sequence[int] | Exception:
        barrier.wait()
        try:
            return gathered(things)
        except ValueError as error:
            return error

    with ThreadPoolExecutor(len(questions)) as pool:
        return list(pool.map(ask, questions))


def test_each_gets_its_own_answers_and_they_are_made_together() -> None:
    work = Work(0.05)
    questions = [[10 * number, 10 * number + 1] for number in range(20)]
    found = asked_at_once(MicroBatcher(work, 8), questions)
    assert found == [[2 * thing for thing in things] for things in questions]
    assert work.alone and len(work.given) <= 8  # the first alone, perhaps, the others four at a time
    assert sorted(chain(*work.given)) == sorted(chain(*questions))


def test_a_batch_holds_no_more_than_asked_for_but_what_one_asks_for_is_not_cut() -> None:
    work = Work(0.02)
    asked_at_once(MicroBatcher(work, 4), [[1, 2, 3], [4, 5, 6], [7], [8], [9]])
    assert max(map(len, work.given)) <= 4
    assert MicroBatcher(work, 4)([*range(10)]) == [2 * thing for thing in range(10)]


def test_many_rounds_lose_nobody() -> None:
    gathered = MicroBatcher(Work(), 8)

    def session(number: int) -> bool:
        return all(gathered([number, thing]) == [2 * number, 2 * thing] for thing in range(200))

    with ThreadPoolExecutor(20) as pool:
        assert all(pool.map(session, range(20)))


def test_an_error_reaches_only_the_thread_whose_items_raise_it() -> None:
    """All nine are in one batch, behind the first, which is busy."""
    work = Work(0.1)
    batcher = MicroBatcher(work, 100)
    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(batcher, [0])
        while not work.given:
            time.sleep(0.001)
        questions = [[number] for number in range(1, 9)] + [[-1, 5]]
        others = [pool.submit(batcher, things) for things in questions]
        assert first.result() == [0]
        for things, future in zip(questions[:-1], others[:-1], strict=True):
            assert future.result() == [2 * thing for thing in things]
        with pytest.raises(ValueError, match="minus one"):
            others[-1].result()
    assert max(map(len, work.given)) > 2  # they were asked together, and then one by one
    assert batcher([7]) == [14]
    with pytest.raises(ValueError, match="minus one"):
        batcher([-1])


def test_whoever_is_interrupted_while_it_computes_for_others_leaves_them_to_the_next() -> None:
    work = Work(0.05)
    interrupted: list[bool] = []

    def interruptible(things: Sequence[int]) -> list[int]:
        if len(things) > 1 and not interrupted:
            interrupted.append(True)
            raise KeyboardInterrupt
        return work(things)

    batcher = MicroBatcher(interruptible, 100)
    caught: list[BaseException] = []

    def ask(thing: int) -> Sequence[int] | None:
        try:
            return batcher([thing])
        except KeyboardInterrupt as error:
            caught.append(error)
            return None

    with ThreadPoolExecutor(10) as pool:
        first = pool.submit(ask, 0)
        while not work.given:
            time.sleep(0.001)
        others = [future.result(timeout=20) for future in [pool.submit(ask, thing) for thing in range(1, 9)]]
    assert first.result() == [0] and len(caught) == 1
    assert [output for output in others if output] == [[2 * thing] for thing, output in enumerate(others, 1) if output]
    assert others.count(None) == 1


def test_a_function_that_forgets_an_item_is_an_error_and_nobody_gets_the_output_of_another() -> None:
    batcher = MicroBatcher[int, int](lambda things: [2 * thing for thing in things][1:], 8)
    with pytest.raises(RuntimeError, match="0 outputs for 1 items"):
        batcher([1])
