"""How long work tells how far it is."""

from typing import Protocol


class Progress(Protocol):
    """Called often and cheaply; `total` is 0 while it is unknown."""

    def __call__(self, stage: str, done: int, total: int) -> None: ...


def silent(stage: str, done: int, total: int) -> None:
    """A `Progress` that nobody looks at."""
