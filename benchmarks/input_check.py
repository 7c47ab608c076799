"""Measure what the input check accepts and refuses, and its time per image, as JSON.

`python benchmarks/input_check.py --images FILE.npz --data kermany [--adults ZIP …] [--others FOLDER] [--seeds 3]`

The images are chosen by seed, prepared and stored in FILE once, and read from it afterwards, so that detectors are compared
on the same ones. The dataset is one of CXR_HOME, by its patient split: the check is fitted on train, its limits come from
val, and it is measured on test, as it is and changed. FOLDER has one subfolder a source of pictures that are no frontal
chest X-rays; they are measured in grey, whole, as negatives and in parts.
"""

import argparse
import json
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core import images
from cxr_core.data import manifest, packing
from cxr_core.errors import CxrError
from cxr_core.inference.input_check import checks
from cxr_core.inference.input_check.checks import CheckInput, InputCheck

Pixels = NDArray[np.uint8]

SIDE, FITTED_SIDE = 224, 128  # of measured images, and of those that the check is fitted on, as the runs that ship
MOST = {"val": 200, "test": 300, "adults": 300, "source": 40}
BATCH = 32
SUFFIXES = (".png", ".jpeg", ".jpg")

CHANGES: dict[str, Callable[[Pixels], Pixels]] = {
    "as it is": lambda grey: grey,
    "turned -3": lambda grey: rotated(grey, -3),
    "turned +3": lambda grey: rotated(grey, 3),
    "exposed 0.7": lambda grey: exposed(grey, 0.7),
    "exposed 1.3": lambda grey: exposed(grey, 1.3),
    "mirrored": lambda grey: grey[:, ::-1],
    "90 degrees": np.rot90,
    "180 degrees": lambda grey: np.rot90(grey, 2),
    "270 degrees": lambda grey: np.rot90(grey, 3),
    "upside down": lambda grey: grey[::-1],
    "negative": lambda grey: 255 - grey,
    "45 degrees": lambda grey: rotated(grey, 45),
    "a quarter": lambda grey: grey[: len(grey) // 2, : len(grey) // 2],
    "one lung": lambda grey: grey[:, : len(grey) // 2],
    "two on a sheet": lambda grey: np.hstack([grey, grey]),
}


def rotated(grey: Pixels, degrees: float) -> Pixels:
    return np.asarray(Image.fromarray(grey).rotate(degrees, Image.Resampling.BILINEAR))


def exposed(grey: Pixels, share: float) -> Pixels:
    return np.clip(grey * share, 0, 255).astype(np.uint8)


def crops(grey: Pixels) -> list[Pixels]:
    """The middle, and a corner of half the height and width; none below 64 pixels."""
    high, wide = grey.shape
    parts = [grey[high // 5 : -high // 5, wide // 5 : -wide // 5], grey[: high // 2, wide // 2 :]]
    return [part for part in parts if min(part.shape) >= 64]


def chosen(count: int, most: int) -> NDArray[np.intp]:
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def stacked(greys: list[Pixels]) -> Pixels:
    return np.stack([images.prepare(np.ascontiguousarray(grey), SIDE) for grey in greys])


def collect(data: str, adults: list[Path], others: Path | None) -> dict[str, Pixels]:
    """Images by group, uint8 (n, S, S): "fit train" and "fit val" at FITTED_SIDE, all that is measured at SIDE."""
    rows = manifest.rows(manifest.build(data, split="patient"))
    rows = rows[rows["copy"] == 0]
    pixels = packing.open_packed(data)
    train, val, test = (pixels[np.sort(rows.loc[rows["split"] == split, "row"])] for split in ("train", "val", "test"))
    groups = {
        f"fit {name}": np.stack([images.prepare(grey, FITTED_SIDE) for grey in greys])
        for name, greys in (("train", train), ("val", val))
    }
    groups["val"] = stacked(list(val[chosen(len(val), MOST["val"])]))
    test = stacked(list(test[chosen(len(test), MOST["test"])]))
    groups |= {f"test/{name}": stacked([change(grey) for grey in test]) for name, change in CHANGES.items()}
    for path in adults:
        with zipfile.ZipFile(path) as archive:
            names = sorted(name for name in archive.namelist() if name.endswith(SUFFIXES))
            names = [names[place] for place in chosen(len(names), MOST["adults"])]
            groups[f"adults/{path.stem}"] = stacked([images.read(archive.read(name)) for name in names])
    for folder in sorted(path for path in others.iterdir() if path.is_dir()) if others else ():
        greys = _readable(folder)
        groups[f"others/{folder.name}/whole"] = stacked(greys)
        groups[f"others/{folder.name}/negative"] = stacked([255 - grey for grey in greys])
        groups[f"others/{folder.name}/crops"] = stacked([part for grey in greys for part in crops(grey)])
    return groups


def _readable(folder: Path) -> list[Pixels]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    greys = []
    for place in chosen(len(paths), MOST["source"]):
        try:
            greys.append(images.read(paths[place]))
        except CxrError as error:
            print(f"{paths[place]}: {error}", file=sys.stderr)
    return greys


def measure(check: InputCheck, greys: Pixels) -> dict[str, object]:
    """Images refused and warned of, and how often each kind was named."""
    inputs = [CheckInput(grey, 0.0, 1) for grey in greys]  # a network of 1 pixel: none is too small
    findings = [
        each for start in range(0, len(inputs), BATCH) for each in check.findings(inputs[start : start + BATCH])
    ]
    refused = sum(any(finding.refuses for finding in each) for each in findings)
    kinds = Counter(kind for each in findings for kind in {finding.kind for finding in each})
    return {"n": len(findings), "refused": refused, "warned": sum(map(bool, findings)) - refused, "kinds": dict(kinds)}


def milliseconds(check: InputCheck, greys: Pixels) -> dict[str, float]:
    """Median CPU time per image, one at a time and in batches, also of images that are prepared already."""
    plain = [CheckInput(grey, 0.0, 1) for grey in greys]
    prepared = [CheckInput(grey, 0.0, 1, {check.side: images.prepare(grey, check.side)}) for grey in greys]
    times: dict[str, float] = {}
    for name, inputs, size in (("single", plain, 1), ("batch", plain, BATCH), ("prepared batch", prepared, BATCH)):
        spent = []
        for start in range(0, len(inputs) - size + 1, size):
            before = time.process_time()
            check.findings(inputs[start : start + size])
            spent.append((time.process_time() - before) / size)
        times[name] = 1000 * float(np.median(spent))
    return times


def totals(report: dict[str, dict[str, object]]) -> dict[str, str]:
    """Refused of all, by the group's first name and, of other pictures, by the way they are shown."""
    sums: dict[str, list[int]] = {}
    for name, counts in report.items():
        family, last = name.split("/")[0], name.split("/")[-1]
        for key in (f"{family}/{last}", family) if family == "others" else ():
            total = sums.setdefault(key, [0, 0])
            total[0] += int(str(counts["refused"]))
            total[1] += int(str(counts["n"]))
    return {name: f"{refused} of {count}" for name, (refused, count) in sums.items()}


def run(groups: dict[str, Pixels], seed: int) -> dict[str, object]:
    checks._SEED = seed
    before = time.process_time()
    check = InputCheck.fit(groups["fit train"], groups["fit val"])
    report: dict[str, object] = {"seed": seed, "fit_cpu_s": time.process_time() - before}
    with tempfile.TemporaryDirectory() as folder:
        check.save(Path(folder) / "input_check.npz")
        report["bytes"] = (Path(folder) / "input_check.npz").stat().st_size
    report["limits"] = vars(check.limits)
    report["ms"] = milliseconds(check, groups["test/as it is"])
    measured = {name: measure(check, greys) for name, greys in groups.items() if not name.startswith("fit ")}
    return report | {"groups": measured, "totals": totals(measured)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="npz of prepared images; made if it is not there")
    parser.add_argument("--data", help="name of a dataset with real X-rays")
    parser.add_argument("--adults", type=Path, nargs="*", default=[], help="zips of X-rays of another hospital")
    parser.add_argument("--others", type=Path, help="folder of folders of other pictures")
    parser.add_argument("--seeds", type=int, default=1, help="so many fits")
    args = parser.parse_args()
    if not args.images.exists():
        np.savez(args.images, **collect(args.data, args.adults, args.others))
    with np.load(args.images) as stored:
        groups = {name: stored[name] for name in stored.files}
    first = checks._SEED
    print(json.dumps([run(groups, first + number) for number in range(args.seeds)]))


if __name__ == "__main__":
    main()
