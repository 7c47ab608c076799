"""Time the server as it draws a page again, warm, in the workspace that CXR_HOME names (its data and runs).

    CXR_HOME=… python benchmarks/pages.py [--rounds 20] [--runs 10]
    python benchmarks/pages.py --crowd [--rounds 20] [--profile]

With --runs, copies of the newest finished run fill the workspace up to that many; they are deleted again. With --crowd, a
workspace of its own has 200 queued runs, 1,000 finished ones, and one under way; nothing is trained. It tells Train, Results,
and the table of runs on Leaderboard, and whether the slowest of each is within the limit.
"""

import argparse
import cProfile
import json
import os
import pstats
import shutil
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

from streamlit.testing.v1 import AppTest  # noqa: E402

from cxr_core import process, workspace  # noqa: E402
from cxr_core.data import datasets, manifest  # noqa: E402
from cxr_core.runs import config as settings  # noqa: E402
from cxr_core.runs import run_store as runs  # noqa: E402
from cxr_core.runs import status as states  # noqa: E402

PAGES = {name: f"pages/{name}.py" for name in ("overview/home", "data/browse", "model/train", "model/results")}
CROWDED = {"train": "pages/model/train.py", "results": "pages/model/results.py", "table": "pages/model/leaderboard.py"}
QUEUED, FINISHED = 200, 1000
LIMIT_S = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--data", help="the dataset that Browse shows")
    parser.add_argument("--crowd", action="store_true", help="200 queued and 1,000 finished runs")
    parser.add_argument("--profile", action="store_true", help="with --crowd: what takes the time, on stderr")
    chosen = parser.parse_args()
    print(json.dumps(_crowded(chosen.rounds, chosen.profile) if chosen.crowd else _usual(chosen)))


def _usual(chosen: argparse.Namespace) -> dict[str, Any]:
    copies = _copies(chosen.runs)
    try:
        figures = {
            name: round(statistics.median(_seconds(page, chosen.rounds, chosen.data)[0]), 4)
            for name, page in PAGES.items()
        }
    finally:
        for copy in copies:
            shutil.rmtree(copy)
    return {
        "median_s": figures,
        "images": sum(datasets.get(name).images for name in datasets.list_names()),
        "runs": len(runs.list_ids()) + len(copies),
        "rounds": chosen.rounds,
        "tensorflow_imported": "tensorflow" in sys.modules,
    }


def _copies(wanted: int) -> list[Path]:
    finished = next((run for run in runs.list_runs() if run.has_predictions), None)
    if finished is None:
        return []
    missing = max(0, wanted - len(runs.list_ids()))
    made = [workspace.runs() / f"{finished.id[:-4]}-c{number:02d}" for number in range(missing)]
    for copy in made:
        shutil.copytree(finished.folder, copy)
    return made


def _crowded(rounds: int, profile: bool) -> dict[str, Any]:
    # This process stands in for that of the run under way, and is not to be killed for it.
    process.start = lambda arguments, log, variables=None: process.process_id()  # type: ignore[assignment]
    process.kill = lambda who: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as home:
        os.environ["CXR_HOME"] = home
        _crowd()
        found = {}
        for name, page in CROWDED.items():
            watch = cProfile.Profile()
            spent, cpu = _seconds(page, rounds, None, watch if profile else None)
            found[name] = {
                "median_s": round(statistics.median(spent), 3),
                "slowest_s": round(max(spent), 3),
                "median_cpu_s": round(statistics.median(cpu), 3),
            }
            if profile:
                print(f"\n{name}", file=sys.stderr)
                pstats.Stats(watch, stream=sys.stderr).sort_stats("cumulative").print_stats(45)
        state = [run.status.state for run in runs.list_runs()]
    return {
        **found,
        "limit_s": LIMIT_S,
        "within": all(one["slowest_s"] <= LIMIT_S for one in found.values()),
        "runs": {one: state.count(one) for one in ("running", "queued", "finished")},
        "rounds": rounds,
        "load": [round(one, 2) for one in os.getloadavg()],
    }


def _crowd() -> None:
    """A synthetic dataset and made-up runs on it: of several networks, some in groups."""
    from tests import synthetic_runs

    datasets.add("synthetic", "drawn", images=60)
    frozen = manifest.build("drawn", split="patient")
    networks = ("custom_cnn", "ann", "resnet50", "vgg16")
    for number in range(FINISHED):
        group = f"sweep-{number // 5}" if number % 50 < 25 else ""
        synthetic_runs.on(
            "drawn", frozen.id, model=networks[number % 4], recipe=("paper", "tuned")[number % 2], group=group, seed=number,
            age=3600.0 * (FINISHED - number),
        )  # fmt: skip
    config = settings.make(
        model="custom_cnn", recipe="paper", data="drawn", manifest=frozen.id, classes=frozen.classes, settings={}
    )
    for number in range(QUEUED + 1):
        runs.create(replace(config, seed=number, group="sweep-new" if number < QUEUED // 2 else ""))
    under_way = min(runs.list_runs(), key=lambda run: run.status.turn or run.status.created + 1e12)
    past = runs.history(runs.list_ids()[-1])
    runs.write_history(under_way.folder, past.to_dict("records"))
    (under_way.folder / "log.txt").write_text("\n".join(f"Epoch {one}/100" for one in range(1, 200)))
    now = time.time()
    states.write(
        under_way.folder,
        replace(
            under_way.status, state="running", stage="training", started=now, heartbeat=now, owner=process.process_id(),
            epoch=len(past), batch=3, batches=10, rate=100.0, images=40, seconds_left=60.0, device="CPU, 2 cores",
        ),
    )  # fmt: skip


def _seconds(
    page: str, rounds: int, data: str | None, watch: cProfile.Profile | None = None
) -> tuple[list[float], list[float]]:
    """By the clock, and of this process' processor time, which tells more on a busy machine."""
    test = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=60)
    if data:
        test.query_params["data"] = data
    test.run()
    test.switch_page(page).run()
    spent, cpu = [], []
    for _ in range(rounds):
        start, used = time.perf_counter(), time.process_time()
        test.run()
        spent.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
        if test.exception:
            raise SystemExit(f"{page}: {test.exception[0].message}")
    if watch is not None:
        _profiled(test, watch)
    return spent, cpu


def _profiled(test: AppTest, watch: cProfile.Profile) -> None:
    """One more run; the script has a thread of its own, which is where the profile has to be taken."""
    import threading

    inner = threading.Thread.run

    def run(thread: threading.Thread) -> None:
        watch.runcall(inner, thread)

    threading.Thread.run = run  # type: ignore[method-assign]
    try:
        test.run()
    finally:
        threading.Thread.run = inner  # type: ignore[method-assign]


if __name__ == "__main__":
    main()
