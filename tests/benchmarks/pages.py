"""How long the server works to draw a page again, warm, in the workspace that CXR_HOME names (its data and runs).

    CXR_HOME=… python tests/benchmarks/pages.py [--rounds 20] [--runs 10]

With --runs, copies of the newest finished run fill the workspace up to that many; they are deleted again.
"""

import argparse
import json
import shutil
import statistics
import sys
import time
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(PROJECT))

from streamlit.testing.v1 import AppTest  # noqa: E402

from cxr_core import workspace  # noqa: E402
from cxr_core.data import datasets  # noqa: E402
from cxr_core.runs import folder as runs  # noqa: E402

PAGES = {name: f"pages/{name}.py" for name in ("overview/home", "data/browse", "model/train", "model/results")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--data", help="the dataset that Browse shows")
    chosen = parser.parse_args()
    copies = _copies(chosen.runs)
    try:
        figures = {name: _seconds(page, chosen.rounds, chosen.data) for name, page in PAGES.items()}
    finally:
        for copy in copies:
            shutil.rmtree(copy)
    print(
        json.dumps(
            {
                "median_s": figures,
                "images": sum(datasets.get(name).images for name in datasets.names()),
                "runs": len(runs.ids()) + len(copies),
                "rounds": chosen.rounds,
                "tensorflow_imported": "tensorflow" in sys.modules,
            }
        )
    )


def _copies(wanted: int) -> list[Path]:
    finished = next((run for run in runs.every() if run.usable), None)
    if finished is None:
        return []
    missing = max(0, wanted - len(runs.ids()))
    made = [workspace.runs() / f"{finished.id[:-4]}-c{number:02d}" for number in range(missing)]
    for copy in made:
        shutil.copytree(finished.folder, copy)
    return made


def _seconds(page: str, rounds: int, data: str | None) -> float:
    test = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=60)
    if data:
        test.query_params["data"] = data
    test.run()
    test.switch_page(page).run()
    spent = []
    for _ in range(rounds):
        start = time.perf_counter()
        test.run()
        spent.append(time.perf_counter() - start)
        if test.exception:
            raise SystemExit(f"{page}: {test.exception[0].message}")
    return round(statistics.median(spent), 4)


if __name__ == "__main__":
    main()
