"""Several devices share one run: tried with two halves of the processor, in a process of its own."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PROJECT, command

CODE = """
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from cxr_core.data import manifest
from cxr_core.runs import config, run_store
from cxr_core.training import devices, run_training
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
devices.distribution_scope = strategy.scope
frozen = manifest.build("s")
run = run_store.create(config.make(model="custom_cnn", recipe="paper", data="s", manifest=frozen.id, classes=frozen.classes,
                                settings={"epochs": 1, "image_size": 32, "batch_size": 20}))
run_training.train_run(run)
status = run_store.get(run).status
print(strategy.num_replicas_in_sync, status.state, status.reason)
"""


@pytest.mark.slow
def test_a_run_is_shared_by_two_devices(home: Path) -> None:
    assert command("data", "add", "synthetic", "--images", 60, "--name", "s").returncode == 0
    done = subprocess.run([sys.executable, "-c", CODE], cwd=PROJECT, capture_output=True, text=True, timeout=200)
    assert done.stdout.strip().splitlines()[-1] == "2 finished", done.stdout + done.stderr
