"""Measure the cost of each architecture here: `python benchmarks/architectures.py [MODEL …] [--size 180] [--rounds 3]`.

Prints the catalogue's figures (parameters, GFLOP an image, the share of them behind the last block) and, measured in the
same run, the machine's matrix products, images/s forward and in training, and `efficiency`: the share of the
matrix-product rate that a forward pass reaches (`jobs/estimate.py` gives its range).
"""

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np

from cxr_core import machine
from cxr_core.models import catalogue, registry, split_model

BATCH = 16


def gflops(layers: list[Any]) -> float:
    """10⁹ multiplications and additions of the kernels of `layers`, for one image."""
    total = 0
    for layer in layers:
        places = int(np.prod(layer.output.shape[1:-1]))
        total += sum(2 * places * int(np.prod(one.shape)) for one in layer.weights if "kernel" in one.path)
    return total / 1e9


def best(work: Any, rounds: int) -> float:
    work()
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def figures(name: str, size: int, rounds: int) -> dict[str, float]:
    keras.backend.clear_session()
    model, entry = registry.build(name, classes=3, size=size), catalogue.get(name)
    seen = np.random.default_rng(0).integers(0, 256, (BATCH, size, size, 3)).astype(np.float32)
    targets = np.eye(3, dtype=np.float32)[np.arange(BATCH) % 3]
    head = sum(layer.count_params() for layer in model.layers if isinstance(layer, keras.layers.Dense))
    head = model.get_layer("probabilities").count_params() if entry.has_backbone else head
    found: dict[str, float] = {
        "trunk": model.count_params() - head,
        "head": head,
        "gflops": round(gflops(model.layers), 3),
    }
    if entry.has_backbone:
        below, _ = split_model.split(model, entry.last_block)
        found["tail"] = round(1 - gflops(below.layers) / gflops(model.layers), 3)
        found["tail_parameters"] = model.count_params() - below.count_params() - head
    forward = best(lambda: model.predict_on_batch(seen), rounds)
    model.compile("adam", "categorical_crossentropy")
    step = best(lambda: model.train_on_batch(seen, targets), rounds)
    found["images_per_s"] = round(BATCH / forward, 1)
    found["training_images_per_s"] = round(BATCH / step, 1)
    found["efficiency"] = round(found["gflops"] * BATCH / forward / machine.gflops(), 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=list(catalogue.MODELS))
    parser.add_argument("--size", type=int, default=180)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    found = {name: figures(name, chosen.size, chosen.rounds) for name in chosen.models}
    print(json.dumps({"size": chosen.size, "batch": BATCH, "matrix_gflops": round(machine.gflops()), "models": found}))


if __name__ == "__main__":
    main()
