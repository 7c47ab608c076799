"""Time Browse on a big dataset: `python benchmarks/browse.py [--rows 1000000] [--rounds 20]`.

The index is made up, the packed array a sparse file of black images; times are those of the script on the server.
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
import pandas as pd  # noqa: E402
import psutil  # noqa: E402

CLASSES = ("normal", "viral", "bacterial")
SPLITS = ("train", "val", "test")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=20)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["CXR_HOME"] = home
        make(chosen.rows)
        print(
            json.dumps(
                {
                    "rows": chosen.rows,
                    **measured(chosen.rounds),
                    "rss_mb": round(psutil.Process().memory_info().rss / 2**20),
                }
            )
        )


def make(count: int) -> None:
    """A dataset "big" of so many rows, as `data add` would leave it."""
    from cxr_core import workspace
    from cxr_core.data import datasets, index

    rng = np.random.default_rng(0)
    split, label = rng.choice(3, count, p=[0.8, 0.05, 0.15]), rng.integers(0, 3, count)
    order = np.lexsort((label, split))
    split, label, number = split[order], label[order], np.arange(count)
    table = pd.DataFrame(
        {
            "id": [
                f"{SPLITS[a]}/{CLASSES[b]}/{i:08d}_{i % 7:03d}.png"
                for i, a, b in zip(number, split, label, strict=True)
            ],
            "split": pd.Categorical.from_codes(split, SPLITS),
            "class": pd.Categorical.from_codes(label, CLASSES),
            "patient": [f"{i // 4:08d}" for i in number],
            "source": rng.choice(["folder", "nih"], count),
            "format": "PNG",
            "mode": "L",
            "width": rng.integers(900, 3000, count),
            "height": rng.integers(900, 3000, count),
            "bytes": rng.integers(10**5, 10**6, count),
            "sha256": [f"{one:016x}" * 4 for one in rng.integers(0, 2**62, count)],
            "quality": 0,
        }
    )
    folder = workspace.dataset("big")
    folder.mkdir(parents=True, exist_ok=True)
    index.write(folder, table)
    dataset = datasets.Dataset(
        name="big",
        classes=CLASSES,
        counts=index.counts(table, CLASSES),
        images=count,
        patients=table["patient"].nunique(),
        kind="folder",
        origin="made up",
        citation="",
        synthetic=False,
        root="/nowhere",
        created="2026-01-01T00:00:00+00:00",
        skipped=(),
    )
    workspace.write_json(folder / "dataset.json", dataset.__dict__)
    (folder / "packed").mkdir()
    with (folder / "packed" / "180.npy").open("wb") as out:
        np.lib.format.write_array_header_1_0(out, {"descr": "|u1", "fortran_order": False, "shape": (count, 180, 180)})
        out.truncate(out.tell() + count * 180 * 180)


def measured(rounds: int) -> dict[str, Any]:
    """Median and slowest seconds of each thing a person does, over `rounds` different ones."""
    import streamlit as st
    from streamlit.testing.v1 import AppTest

    def opened() -> AppTest:
        st.cache_resource.clear()
        st.cache_data.clear()
        test = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
        test.run()
        return test

    def timed(work: Any) -> float:
        start = time.perf_counter()
        test_ = work()
        spent = time.perf_counter() - start
        if test_.exception:
            raise SystemExit(test_.exception[0].message)
        return spent

    rng = np.random.default_rng(1)
    first = []
    for _ in range(max(3, rounds // 4)):
        fresh = opened()
        first.append(timed(lambda fresh=fresh: fresh.switch_page("pages/data/browse.py").run()))
    test = opened()
    test.switch_page("pages/data/browse.py").run()

    def state(key: str, value: Any) -> AppTest:
        test.session_state[key] = value
        return test.run()

    actions: dict[str, Any] = {
        "filter by split": lambda n: state("split", [SPLITS[n % 3]] if n % 4 else []),
        "filter by class": lambda n: state("class", [CLASSES[n % 3]] if n % 4 else [*CLASSES[:2]]),
        "search": lambda n: state("search", f"{rng.integers(0, 10**5):05d}"),
        "sort": lambda n: state("sort", ("id", "pixels", "patient", "bytes", "source")[n % 5]),
        "page": lambda n: state("page", int(rng.integers(1, 50))),
    }
    figures = {"first render": first}
    for name, action in actions.items():
        spent = []
        for number in range(rounds):
            if name == "sort":
                test.session_state["search"] = ""
                test.run()
            spent.append(timed(lambda action=action, number=number: action(number)))
        figures[name] = spent
    return {
        "median_s": {name: round(statistics.median(spent), 3) for name, spent in figures.items()},
        "slowest_s": {name: round(max(spent), 3) for name, spent in figures.items()},
        "rounds": rounds,
    }


if __name__ == "__main__":
    main()
