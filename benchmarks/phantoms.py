"""Count the phantoms that one core draws a second: `python benchmarks/phantoms.py [--images 300] [--size 224]`."""

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")  # numpy reads these when it is first imported
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from cxr_core.data.phantoms import CLASSES, phantom

ROUNDS = 5


def measure(images: int, size: int) -> tuple[list[float], float]:
    """Images a second in each round, slowest first, and images a second of processor time; each of a new body."""
    rng = np.random.default_rng(0)
    for number in range(100):  # fills the caches
        phantom(CLASSES[number % 3], rng, size=size)
    rates = []
    worked = time.process_time()
    for _ in range(ROUNDS):
        start = time.perf_counter()
        for number in range(images):
            phantom(CLASSES[number % 3], rng, size=size)
        rates.append(images / (time.perf_counter() - start))
    return sorted(rates), ROUNDS * images / (time.process_time() - worked)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=300, help="images in each of the five rounds")
    parser.add_argument("--size", type=int, default=224)
    args = parser.parse_args()
    rates, per_cpu = measure(args.images, args.size)
    report = {
        "images_per_s": round(rates[ROUNDS // 2], 1),
        "slowest_round": round(rates[0], 1),
        "fastest_round": round(rates[-1], 1),
        "images_per_cpu_s": round(per_cpu, 1),
        "size": args.size,
        "threads": 1,
        "images": args.images * ROUNDS,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
