"""What the gate lets through and what it refuses, and how long it takes, as JSON.

`python benchmarks/input_check.py --data kermany [--nih nih_chestxray14_64px.zip] [--others FOLDER] [--phantoms 600]`

The dataset is one of CXR_HOME, by its patient split: fitted on train, limits from val, told of test. FOLDER has one subfolder
a source of pictures that are no frontal chest X-rays; they are looked at in grey, whole, as negatives and in parts.
"""

import argparse
import json
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxr_core import images
from cxr_core.data import manifest, packing
from cxr_core.data.phantoms import CLASSES, phantom
from cxr_core.errors import CxrError
from cxr_core.inference.input_check.checks import InputCheck

Pixels = NDArray[np.uint8]


def said(gate: InputCheck, pictures: Iterable[Pixels], *, size: int = 1) -> dict[str, object]:
    """Shares that were refused and warned of, and how often which kind was named; `size` 1: none is too small."""
    refused = warned = 0
    kinds: Counter[str] = Counter()
    count = 0
    for picture in pictures:
        count += 1
        remarks = gate.check(np.ascontiguousarray(picture), size=size)
        refused += any(one.refuses for one in remarks)
        warned += bool(remarks) and not any(one.refuses for one in remarks)
        kinds.update({one.kind for one in remarks})
    return {"n": count, "refused": refused, "warned": warned, "quiet": count - refused - warned, "kinds": dict(kinds)}


def rotated(picture: Pixels, degrees: float) -> Pixels:
    return np.asarray(Image.fromarray(picture).rotate(degrees, Image.Resampling.BILINEAR))


def exposed(picture: Pixels, share: float) -> Pixels:
    return np.clip(picture * share, 0, 255).astype(np.uint8)


def parts(picture: Pixels) -> list[Pixels]:
    """The middle, and a corner of half the height and width; none below 64 pixels."""
    high, wide = picture.shape
    found = [picture[high // 5 : -high // 5, wide // 5 : -wide // 5], picture[: high // 2, wide // 2 :]]
    return [one for one in found if min(one.shape) >= 64]


def real(name: str, report: dict[str, object]) -> InputCheck:
    rows = manifest.rows(manifest.build(name, split="patient"))
    rows = rows[rows["copy"] == 0]
    pixels = packing.open_packed(name)
    train, val, test = (pixels[np.sort(rows.loc[rows["split"] == split, "row"])] for split in ("train", "val", "test"))
    start, worked = time.perf_counter(), time.process_time()
    gate = InputCheck.fit(train, val)
    report["fit"] = {"images": len(train), "s": time.perf_counter() - start, "cpu_s": time.process_time() - worked}
    with tempfile.TemporaryDirectory() as folder:
        gate.save(Path(folder) / "input_check.npz")
        report["bytes"] = (Path(folder) / "input_check.npz").stat().st_size
    report["limits"] = vars(gate.limits)
    took = []
    for one in test[:100]:
        start, worked = time.perf_counter(), time.process_time()
        gate.check(one, size=180)
        took.append((time.perf_counter() - start, time.process_time() - worked))
    report["look_ms"], report["look_cpu_ms"] = (1000 * np.median(took, axis=0)).tolist()
    report["val"] = said(gate, val)
    report["test"] = {
        "as it is": said(gate, test),
        "turned -3": said(gate, (rotated(one, -3) for one in test)),
        "turned +3": said(gate, (rotated(one, 3) for one in test)),
        "exposed 0.7": said(gate, (exposed(one, 0.7) for one in test)),
        "exposed 1.3": said(gate, (exposed(one, 1.3) for one in test)),
        "1024 pixels": said(gate, (images.prepare(one, 1024) for one in test)),
        "mirrored": said(gate, (one[:, ::-1] for one in test)),
        "90 degrees": said(gate, (np.rot90(one) for one in test)),
        "180 degrees": said(gate, (np.rot90(one, 2) for one in test)),
        "270 degrees": said(gate, (np.rot90(one, 3) for one in test)),
        "upside down": said(gate, (one[::-1] for one in test)),
        "negative": said(gate, (255 - one for one in test)),
    }
    return gate


def adults(gate: InputCheck, path: Path) -> dict[str, object]:
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".png"))
        return said(gate, (images.read(archive.read(name)) for name in names), size=180)


def others(gate: InputCheck, folder: Path) -> dict[str, object]:
    found: dict[str, object] = {}
    for source in sorted(one for one in folder.iterdir() if one.is_dir()):
        pictures = []
        for path in sorted(one for one in source.rglob("*") if one.is_file()):
            try:
                pictures.append(images.read(path))
            except CxrError as error:
                print(f"{path}: {error}", file=sys.stderr)
        found[source.name] = {
            "whole": said(gate, pictures),
            "negative": said(gate, (255 - one for one in pictures)),
            "parts": said(gate, (part for one in pictures for part in parts(one))),
        }
    return found


def phantoms(count: int, folder: Path | None) -> dict[str, object]:
    def film(number: int) -> Pixels:
        return phantom(CLASSES[number % 3], np.random.default_rng((9, number)), size=180)

    made = np.stack([film(number) for number in range(count + 300)])
    gate = InputCheck.fit(made[: count * 5 // 6], made[count * 5 // 6 : count])
    report: dict[str, object] = {
        "unseen": said(gate, made[count:]),
        "turned": said(gate, np.rot90(made[count:], 1, (1, 2))),
    }
    return report | ({"others": others(gate, folder)} if folder else {})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="name of a dataset with real X-rays")
    parser.add_argument("--nih", type=Path, help="zip of NIH images in PNG")
    parser.add_argument("--others", type=Path, help="folder of folders of other pictures")
    parser.add_argument("--phantoms", type=int, default=0, help="so many are fitted on")
    args = parser.parse_args()
    report: dict[str, object] = {}
    if args.data:
        gate = real(args.data, report)
        if args.nih:
            report["nih"] = adults(gate, args.nih)
        if args.others:
            report["others"] = others(gate, args.others)
    if args.phantoms:
        report["phantoms"] = phantoms(args.phantoms, args.others)
    print(json.dumps(report))


if __name__ == "__main__":
    main()
