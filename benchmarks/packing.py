"""Count the images a second that are read, hashed and packed: `python benchmarks/packing.py FOLDER [--rounds 3] [--size WxH]`.

FOLDER is searched for images. With --size they are first resized to that (300 of them) in a temporary folder.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from PIL import Image

from cxr_core import images, process
from cxr_core.data import packing

ENLARGED = 300


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", default="", help="such as 1300x1000")
    chosen = parser.parse_args()
    files = sorted(path for path in chosen.folder.rglob("*") if path.suffix.lower() in images.SUFFIXES)
    with tempfile.TemporaryDirectory() as place:
        if chosen.size:
            width, height = (int(side) for side in chosen.size.split("x"))
            files = [enlarged(file, Path(place), (width, height)) for file in files[:ENLARGED]]
        rates = []
        for _ in range(chosen.rounds):
            start = time.perf_counter()
            packing.pack(files, Path(place) / "packed.npy")
            rates.append(len(files) / (time.perf_counter() - start))
    print(
        json.dumps(
            {
                "images_per_s": round(statistics.median(rates), 1),
                "rounds": [round(rate, 1) for rate in rates],
                "images": len(files),
                "size": chosen.size or "as they are",
                "cores": process.cpu_count(),
                "work": "read, SHA-256, header, decode, resize to 180 px, write; start of the workers included",
            }
        )
    )


def enlarged(file: Path, place: Path, size: tuple[int, int]) -> Path:
    target = place / file.name
    with Image.open(file) as image:
        image.resize(size, Image.Resampling.BICUBIC).save(target, quality=90)
    return target


if __name__ == "__main__":
    main()
