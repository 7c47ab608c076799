"""Fixtures of the tests of trainings."""

from types import SimpleNamespace
from typing import Any

import keras
import pytest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Record the arguments of `Model.fit`, which then does nothing."""
    it = SimpleNamespace()

    def note(model: keras.Model, train: Any, **others: Any) -> None:
        vars(it).update(others, model=model, train=train)

    monkeypatch.setattr(keras.Model, "fit", note)
    return it
