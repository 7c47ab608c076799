"""Capabilities of this machine, found without Keras."""

import sys

import pynvml
import pytest

from cxr_core import machine
from tests.conftest import PROJECT


@pytest.fixture(autouse=True)
def fresh() -> None:
    machine.list_gpus.cache_clear()
    machine._measure_gflops.cache_clear()
    machine._rates.clear()


def test_the_rate_of_matrix_products_is_that_of_a_processor():
    assert 1 < machine.gflops() < 1e5


def test_a_rate_that_was_measured_while_the_processor_was_busy_is_measured_again(monkeypatch: pytest.MonkeyPatch):
    """Each measurement is the best of three products, of 2 × 2048³ operations; the first are made on a busy machine."""
    clock = {"now": 0.0, "product": 1.0}

    def tick() -> float:
        clock["now"] += clock["product"] / 2  # begin and end of each product
        return clock["now"]

    monkeypatch.setattr(machine.time, "perf_counter", tick)
    monkeypatch.setattr(machine.time, "monotonic", lambda: clock["now"])
    monkeypatch.setattr(machine, "_SIDE", 8)
    slow = machine.gflops()
    clock["product"] = 0.1
    assert machine.gflops() == slow  # not each time anybody asks
    clock["now"] += machine._AGAIN_SECONDS
    fast = machine.gflops()
    assert fast == pytest.approx(10 * slow)
    clock["now"] += machine._AGAIN_SECONDS
    clock["product"] = 1.0
    assert machine.gflops() == fast  # the machine is not slower for being busy


def test_without_a_driver_there_are_no_cards(monkeypatch: pytest.MonkeyPatch):
    def missing() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    monkeypatch.setattr(pynvml, "nvmlInit", missing)
    assert machine.list_gpus() == ()


def test_cards_have_a_name_and_their_memory(monkeypatch: pytest.MonkeyPatch):
    for name, answer in {
        "nvmlInit": None, "nvmlShutdown": None, "nvmlDeviceGetCount": 1, "nvmlDeviceGetHandleByIndex": 0,
        "nvmlDeviceGetName": "NVIDIA T4", "nvmlDeviceGetMemoryInfo": type("Memory", (), {"total": 16 * 2**30})(),
    }.items():  # fmt: skip
        monkeypatch.setattr(pynvml, name, lambda *_, answer=answer: answer)
    assert machine.list_gpus() == (machine.Gpu("NVIDIA T4", 16.0),)


def test_no_keras_is_needed():
    import subprocess

    code = "import sys; import cxr_core.machine, cxr_core.jobs.estimate; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PROJECT).returncode == 0
