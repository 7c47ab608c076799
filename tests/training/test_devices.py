"""Devices of Keras: their names for people, and their use."""

from typing import Any

import keras
import pytest
import tensorflow as tf

from cxr_core.training import devices
from cxr_core.training.devices import Device

on_tensorflow = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="asks TensorFlow for its cards")


def has(monkeypatch: pytest.MonkeyPatch, *cards: Device) -> None:
    monkeypatch.setattr(devices, "list_gpus", lambda: list(cards))


def test_without_a_graphics_card_the_device_is_the_processor_with_its_cores(monkeypatch: pytest.MonkeyPatch):
    has(monkeypatch)
    monkeypatch.setattr(devices.process, "cpu_count", lambda: 3)
    assert devices.describe() == "CPU, 3 cores"


def test_graphics_cards_are_named(monkeypatch: pytest.MonkeyPatch):
    has(monkeypatch, Device("NVIDIA H100", True), Device("NVIDIA H100", True))
    assert devices.describe() == "NVIDIA H100, NVIDIA H100"


@on_tensorflow
@pytest.mark.parametrize(
    ("details", "card"),
    [
        ({"device_name": "NVIDIA T4", "compute_capability": (7, 5)}, Device("NVIDIA T4", True)),
        ({"device_name": "NVIDIA P100", "compute_capability": (6, 0)}, Device("NVIDIA P100", False)),
        ({}, Device("GPU", False)),
    ],
)
def test_a_card_has_its_name_or_is_called_gpu(monkeypatch: pytest.MonkeyPatch, details: dict[str, Any], card: Device):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [object()] if kind == "GPU" else [])
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert devices.list_gpus() == [card]


@on_tensorflow
@pytest.mark.parametrize(
    ("halves", "policy"), [((), None), ((True, True), "mixed_float16"), ((True, False), None), ((False,), None)]
)
def test_half_precision_is_for_cards_that_all_have_it(
    monkeypatch: pytest.MonkeyPatch, halves: tuple[bool, ...], policy: str | None
):
    has(monkeypatch, *(Device("GPU", one) for one in halves))
    assert devices.supports_half_precision() == policy


def test_layers_made_within_a_precision_compute_by_it_and_later_ones_do_not():
    with devices.precision_scope("mixed_float16"):
        inside = keras.layers.Dense(1)
    assert (inside.compute_dtype, inside.variable_dtype) == ("float16", "float32")
    assert keras.layers.Dense(1).compute_dtype == "float32"
    with devices.precision_scope(None):
        assert keras.layers.Dense(1).compute_dtype == "float32"


def test_a_precision_ends_with_an_error_too():
    with pytest.raises(KeyError), devices.precision_scope("mixed_float16"):
        raise KeyError
    assert keras.layers.Dense(1).compute_dtype == "float32"


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (RuntimeError("OOM when allocating tensor with shape[1]"), True),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 9 bytes."), True),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), True),
        (tf.errors.ResourceExhaustedError(None, None, "failed to allocate memory"), True),
        (type("OutOfMemoryError", (RuntimeError,), {})("full"), True),
        (ValueError("shapes do not match"), False),
        (OSError(28, "No space left on device"), False),
    ],
)
def test_full_memory_is_told_from_other_errors(error: Exception, full: bool):
    assert devices.is_out_of_memory(error) is full
