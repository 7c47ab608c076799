"""Work for many threads at once, done in batches: whoever gets to work does it for all who are waiting by then.

A batch of gate looks costs less than its parts one by one, everybody is answered in the order of asking, and only one thread
computes: many that compute side by side spend more on handing the interpreter to one another than on the work (twenty sessions:
115 images a second instead of 47; benchmarks/prediction.py, --sessions 20).
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Thing = TypeVar("Thing")
Found = TypeVar("Found")


class _Asked(Generic[Thing, Found]):
    """What one thread asks for, and in the end its answers or what went wrong.

    Attributes:
        called: set when there are answers, or when it is this thread's turn to work.
        works: whether it is.
    """

    def __init__(self, things: Sequence[Thing]):
        self.things = things
        self.found: Sequence[Found] | None = None
        self.problem: BaseException | None = None
        self.works, self.called = False, threading.Event()


class MicroBatcher(Generic[Thing, Found]):
    """A function of many things, each of which it answers for itself."""

    def __init__(self, work: Callable[[Sequence[Thing]], Sequence[Found]], most: int):
        """`work` gives one answer per thing, in their order; `most` are given to it at once, unless one thread asks for more."""
        self._work, self._most = work, most
        self._waiting: deque[_Asked[Thing, Found]] = deque()
        self._busy = False
        self._door = threading.Lock()

    def __call__(self, things: Sequence[Thing]) -> Sequence[Found]:
        """One answer per thing. What `work` raises is raised for everybody in the batch."""
        mine = _Asked[Thing, Found](things)
        with self._door:
            self._waiting.append(mine)
            mine.works, self._busy = not self._busy, True
        if not mine.works:
            mine.called.wait()
        if mine.works:
            self._answer(self._taken())  # it has waited longest, so it is among them
            self._hand_over()
        if mine.problem is not None:
            raise mine.problem
        assert mine.found is not None
        return mine.found

    def _taken(self) -> list[_Asked[Thing, Found]]:
        """Those who have waited longest, as many as fit into one batch, but at least one."""
        with self._door:
            taken = [self._waiting.popleft()]
            count = len(taken[0].things)
            while self._waiting and count + len(self._waiting[0].things) <= self._most:
                taken.append(self._waiting.popleft())
                count += len(taken[-1].things)
        return taken

    def _answer(self, several: list[_Asked[Thing, Found]]) -> None:
        try:
            found, start = self._work([thing for one in several for thing in one.things]), 0
            for one in several:
                one.found = found[start : start + len(one.things)]
                start += len(one.things)
        except BaseException as error:  # noqa: BLE001 - else those who wait would wait for ever
            for one in several:
                one.problem = error
        for one in several:
            one.called.set()

    def _hand_over(self) -> None:
        with self._door:
            self._busy = bool(self._waiting)
            if self._waiting:
                self._waiting[0].works = True
                self._waiting[0].called.set()
