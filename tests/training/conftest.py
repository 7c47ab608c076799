"""What tests of trainings share."""

from types import SimpleNamespace
from typing import Any

import keras
import pytest


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What Keras is asked to do, which it then does not do."""
    it = SimpleNamespace()

    def note(model: keras.Model, train: Any, **others: Any) -> None:
        vars(it).update(others, model=model, train=train)

    monkeypatch.setattr(keras.Model, "fit", note)
    return it
