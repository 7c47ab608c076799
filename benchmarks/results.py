"""Time the results pages: `python benchmarks/results.py [--images 5856] [--runs 20] [--rounds 20]`.

Predictions are made up; times are those of the script on the server, `seconds` by the clock and `cpu_seconds` of this process,
which tells more on a machine that is busy with other work. The bootstrap is of all figures of one run on 5,216 rows.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

import numpy as np  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5856)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["CXR_HOME"] = home
        make(chosen.images, chosen.runs)
        print(json.dumps({"images": chosen.images, "runs": chosen.runs, **pages(chosen.rounds), **bootstrap_times()}))


def make(images: int, count: int) -> None:
    """A dataset of so many images without files, and made-up runs on it, three quarters of it test."""
    from benchmarks import browse
    from cxr_core.data import index
    from tests import synthetic_runs

    browse.make(images)
    table = index.read("big", ["id", "split", "class"])
    splits = {
        split: (part["id"].tolist(), part["class"].astype(str).tolist())
        for split in ("train", "val", "test")
        if len(part := table[table["split"] == split])
    }
    for seed in range(count):
        synthetic_runs.run(splits, data="big", seed=seed, skill=1.4 + 0.05 * seed, age=60.0 * seed)


def pages(rounds: int) -> dict[str, Any]:
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    def timed(work: Any) -> tuple[float, float]:
        start, cpu = time.perf_counter(), time.process_time()
        done = work()
        spent = time.perf_counter() - start, time.process_time() - cpu
        if done.exception:
            raise SystemExit(done.exception[0].message)
        return spent

    def opened() -> AppTest:
        st.cache_resource.clear()
        st.cache_data.clear()
        return AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120).run()

    found: dict[str, list[tuple[float, float]]] = {}
    for page in ("results", "leaderboard", "compare"):
        for _ in range(3):
            fresh = opened()
            spent = timed(lambda fresh=fresh, page=page: fresh.switch_page(f"pages/model/{page}.py").run())
            found.setdefault(f"{page}, first", []).append(spent)
    test = opened()

    def state(key: str, value: Any) -> AppTest:
        test.session_state[key] = value
        return test.run()

    def chosen(key: str, place: int) -> AppTest:
        box = next(box for box in test.selectbox if (box.key or "").startswith(key))
        return box.select_index(place % len(box.options)).run()

    views = ("matrix", "curves", "calibration", "threshold", "groups", "learning")
    actions: dict[str, dict[str, Any]] = {
        "results": {
            "view": lambda n: state("view", views[n % 6]),
            "split": lambda n: state("split", ("test", "val", "train")[n % 3]),
            "run": lambda n: chosen("run", n),  # in the view of curves, which draws patients for areas again
            "cell": lambda n: chosen("cell", n),
            "threshold": lambda n: state("threshold", round(0.05 + n / 25, 2)),
        },
        "leaderboard": {"figure": lambda n: chosen("figure", n), "baseline": lambda n: chosen("baseline", n)},
        "compare": {"run B": lambda n: chosen("b", n), "gallery": lambda n: state("who", "abc"[n % 2])},
    }
    for page, own in actions.items():
        test.switch_page(f"pages/model/{page}.py").run()
        for name, action in own.items():
            if name in ("cell", "threshold"):
                state("view", "matrix" if name == "cell" else "threshold")
            spent_ = [timed(lambda n=n, action=action: action(n)) for n in range(rounds)]
            found[f"{page}, {name}"] = spent_
    middle = {
        name: [round(statistics.median(part), 3) for part in zip(*spent_, strict=True)]
        for name, spent_ in found.items()
    }
    return {
        "seconds": {name: wall for name, (wall, _) in middle.items()},
        "cpu_seconds": {name: cpu for name, (_, cpu) in middle.items()},
        "slowest": {name: round(max(wall for wall, _ in spent_), 3) for name, spent_ in found.items()},
    }


def bootstrap_times() -> dict[str, Any]:
    from cxr_core.evaluation import bootstrap, metrics
    from cxr_core.evaluation.prediction_set import PredictionSet
    from tests import synthetic_runs

    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 5216)
    answers = PredictionSet(
        np.arange(5216).astype(object), true, synthetic_runs.probabilities(true, 3), synthetic_runs.CLASSES
    )
    patients = rng.integers(0, 2800, 5216)
    spent, cpu = [], []
    for _ in range(5):
        bootstrap._drawn_counts.cache_clear()
        start, begun = time.perf_counter(), time.process_time()
        metrics.estimate(answers, patients)
        spent.append(time.perf_counter() - start)
        cpu.append(time.process_time() - begun)
    return {
        "bootstrap_of_all_figures_s": round(statistics.median(spent), 3),
        "bootstrap_cpu_s": round(statistics.median(cpu), 3),
    }


if __name__ == "__main__":
    main()
