"""Micro-batching: what many threads ask for at the same time is computed in batches, by one of them for all.

A batch costs less than its parts one by one, requests are served in the order in which they come, and only one thread
computes: many that compute side by side spend more on handing the interpreter to one another than on the work.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Output = TypeVar("Output")


class _Request(Generic[Item, Output]):
    """The items of one thread, and in the end their outputs or an error.

    Attributes:
        ready: set when there is an outcome, or when this thread has to compute.
        computes: whether it has to.
    """

    def __init__(self, items: Sequence[Item]):
        self.items = items
        self.outputs: Sequence[Output] | None = None
        self.error: Exception | None = None
        self.computes, self.ready = False, threading.Event()

    @property
    def is_done(self) -> bool:
        return self.outputs is not None or self.error is not None


class MicroBatcher(Generic[Item, Output]):
    """A function of many items, whose outputs do not depend on one another, for many threads at once."""

    def __init__(self, function: Callable[[Sequence[Item]], Sequence[Output]], max_items: int):
        """`function` gives one output per item, in order; it gets `max_items` at once, or more if one thread asks for more."""
        self._function, self._max_items = function, max_items
        self._queue: deque[_Request[Item, Output]] = deque()
        self._busy = False
        self._lock = threading.Lock()

    def __call__(self, items: Sequence[Item]) -> Sequence[Output]:
        """One output per item.

        Raises whatever `function` raises of these very items: the error of another request in the batch is not seen here.
        """
        request = _Request[Item, Output](items)
        with self._lock:
            self._queue.append(request)
            request.computes, self._busy = not self._busy, True
        if not request.computes:
            request.ready.wait()
        if request.computes:
            try:
                self._serve(self._next_batch())  # this request has waited longest, so it is in the batch
            finally:
                self._hand_over()
        if request.error is not None:
            raise request.error
        assert request.outputs is not None
        return request.outputs

    def _next_batch(self) -> list[_Request[Item, Output]]:
        """The requests that have waited longest, as many as fit into one batch, but at least one."""
        with self._lock:
            batch = [self._queue.popleft()]
            count = len(batch[0].items)
            while self._queue and count + len(self._queue[0].items) <= self._max_items:
                batch.append(self._queue.popleft())
                count += len(batch[-1].items)
        return batch

    def _serve(self, batch: list[_Request[Item, Output]]) -> None:
        """Compute a batch. If this thread is interrupted, the requests of others go back to the head of the queue."""
        try:
            self._compute(batch)
        except BaseException:
            with self._lock:
                self._queue.extendleft(request for request in reversed(batch[1:]) if not request.is_done)
            raise

    def _compute(self, batch: list[_Request[Item, Output]]) -> None:
        """An error of a batch may be of one of its requests alone, so each is then computed by itself."""
        items = [item for request in batch for item in request.items]
        try:
            outputs = self._function(items)
            if len(outputs) != len(items):
                raise RuntimeError(f"{len(outputs)} outputs for {len(items)} items")
        except Exception as error:  # noqa: BLE001 - raised again in the thread whose items these are
            if len(batch) > 1:
                for request in batch:
                    self._compute([request])
            else:
                batch[0].error = error
                batch[0].ready.set()
            return
        start = 0
        for request in batch:
            request.outputs = outputs[start : start + len(request.items)]
            start += len(request.items)
            request.ready.set()

    def _hand_over(self) -> None:
        with self._lock:
            self._busy = bool(self._queue)
            if self._queue:
                self._queue[0].computes = True
                self._queue[0].ready.set()
