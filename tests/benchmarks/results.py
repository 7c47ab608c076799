"""How long the results pages take: `python tests/benchmarks/results.py [--images 5856] [--runs 20] [--classes 3] [--rounds 20]`.

Predictions are made up; times are those of the script on the server. The bootstrap is of all figures of one run on 5,216 rows.
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

PROJECT = Path(__file__).resolve().parents[2]
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
        print(json.dumps({"images": chosen.images, "runs": chosen.runs, **pages(chosen.rounds), **bootstrap()}))


def make(images: int, count: int) -> None:
    """A dataset of so many images without files, and made-up runs on it, three quarters of it test."""
    from cxr_core.data import index
    from tests import made_up
    from tests.benchmarks import browse

    browse.make(images)
    table = index.read("big", ["id", "split", "class"])
    splits = {
        split: (part["id"].tolist(), part["class"].astype(str).tolist())
        for split in ("train", "val", "test")
        if len(part := table[table["split"] == split])
    }
    for seed in range(count):
        made_up.run(splits, data="big", seed=seed, skill=1.4 + 0.05 * seed, age=60.0 * seed)


def pages(rounds: int) -> dict[str, Any]:
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    def timed(work: Any) -> float:
        start = time.perf_counter()
        done = work()
        spent = time.perf_counter() - start
        if done.exception:
            raise SystemExit(done.exception[0].message)
        return spent

    def opened() -> AppTest:
        st.cache_resource.clear()
        st.cache_data.clear()
        return AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120).run()

    found: dict[str, float] = {}
    for page in ("results", "leaderboard", "compare"):
        first = []
        for _ in range(3):
            fresh = opened()
            first.append(timed(lambda fresh=fresh, page=page: fresh.switch_page(f"pages/model/{page}.py").run()))
        found[f"{page}, first"] = statistics.median(first)
    test = opened()
    test.switch_page("pages/model/results.py").run()

    def state(key: str, value: Any) -> AppTest:
        test.session_state[key] = value
        return test.run()

    runs = next(one for one in test.selectbox if one.label == "Run").options
    actions = {
        "view": lambda n: state("view", ("matrix", "curves", "calibration", "threshold", "groups", "learning")[n % 6]),
        "split": lambda n: state("split", ("test", "val", "train")[n % 3]),
        "run": lambda n: test.selectbox(key="run-box").select_index(n % len(runs)).run(),
    }
    for name, action in actions.items():
        spent = [timed(lambda n=n, action=action: action(n)) for n in range(rounds)]
        found[f"{name}, median"] = statistics.median(spent)
        found[f"{name}, slowest"] = max(spent)
    test.session_state["view"] = "threshold"
    test.run()
    spent = [timed(lambda n=n: state("threshold", round(0.05 + n / 25, 2))) for n in range(rounds)]
    found["threshold, median"] = statistics.median(spent)
    return {"seconds": {name: round(value, 3) for name, value in found.items()}}


def bootstrap() -> dict[str, Any]:
    from cxr_core.evaluation import resampling, scorecard
    from cxr_core.evaluation.answers import Answers
    from tests import made_up

    rng = np.random.default_rng(0)
    true = rng.integers(0, 3, 5216)
    answers = Answers(np.arange(5216).astype(object), true, made_up.probabilities(true, 3), made_up.CLASSES)
    patients = rng.integers(0, 2800, 5216)
    spent = []
    for _ in range(5):
        resampling._drawn.cache_clear()
        start = time.perf_counter()
        scorecard.card(answers, patients)
        spent.append(time.perf_counter() - start)
    return {"bootstrap_of_all_figures_s": round(statistics.median(spent), 3)}


if __name__ == "__main__":
    main()
