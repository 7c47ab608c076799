"""Stand-in until the gate is merged."""

from dataclasses import dataclass
from pathlib import Path
import numpy as np


@dataclass(frozen=True)
class Remark:
    kind: str
    refuses: bool
    text: str


class Gate:
    @classmethod
    def fit(cls, train, val):
        return cls()

    def save(self, path):
        np.savez(path)

    @classmethod
    def load(cls, path):
        return cls()

    def look(self, grey, *, colour=0.0, size):
        return ()


def colour(source):
    return 0.0
