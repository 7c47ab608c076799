"""What many threads ask at once is done in batches, each gets its own answers, and nobody is forgotten."""

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


def test_what_goes_wrong_is_told_to_those_of_the_batch_and_the_next_are_answered() -> None:
    gathered = MicroBatcher(Work(0.02), 2)
    found = asked_at_once(gathered, [[-1, 5], [1, 2], [3, 4]])
    assert isinstance(found[0], ValueError) and found[1:] == [[2, 4], [6, 8]]
    assert gathered([7]) == [14]
    with pytest.raises(ValueError, match="minus one"):
        gathered([-1])
