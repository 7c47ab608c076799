"""Measure how fast a run answers: `CXR_HOME=… python benchmarks/prediction.py RUN FILE… [--files 500] [--rounds 50] [--keras]
[--sessions 20] [--decoding]`.

FILEs are images or folders; they are repeated up to --files. Prints JSON:

first_s          a fresh process: import, load, decode one file, answer, heatmap
warm_ms          median of --rounds: decode, answer and heatmap of one file
forward_ms       median: the bare forward pass of one prepared image
batch            images/s of a stream of files, decoding included
loop             images/s of a bare loop over prepared arrays through the same network, as many at a time
With --sessions so many threads predict at once, each image from file to heatmap, for --seconds: `crowd_p95_ms`, how many times
the single median that is, `crowd_rate` in images/s, and by how much memory grew from the first quarter to the end.
With --decoding the same by turns with images decoded in this process instead of a child process: `child_warm_ms`, `here_warm_ms`,
the median ratio `child_times_here`, the `child_ms` that a file costs more, and for the stream `child_batch_share_of_here`.
With --keras also the ordinary way: `model.predict` of one prepared image at a time in a process of its own (keras_ms), and a
forward pass of Keras over the decoded arrays, 32 at a time and without a mirror image, by turns with the stream of files
(keras_forward, batch_by_turns in images/s; their ratio batch_share_of_keras_forward). An answer takes `views` such passes, the
mirror image being the second: batch_share_of_keras_answers is the ratio for the same work.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle, islice
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil

from cxr_core import decoding, images
from cxr_core.inference import predict
from cxr_core.inference.litert_model import CHUNK
from cxr_core.inference.predict import InputFile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("paths", nargs="+")
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--keras", action="store_true")
    parser.add_argument("--sessions", type=int, default=0)
    parser.add_argument("--decoding", action="store_true")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--part", choices=("first", "keras"), help="for its own use")
    chosen = parser.parse_args()
    files = [
        one for path in map(Path, chosen.paths) for one in (sorted(path.rglob("*.*")) if path.is_dir() else [path])
    ]
    files = list(islice(cycle(files), chosen.files))
    if chosen.part:
        print(json.dumps({"first": first, "keras": keras_way}[chosen.part](chosen.run, files, chosen.rounds)))
        return
    start = time.perf_counter()
    part(chosen, "first", files)
    figures: dict[str, Any] = {
        "first_s": round(time.perf_counter() - start, 2),
        **ours(chosen.run, files, chosen.rounds),
    }
    if chosen.sessions:
        figures |= crowd(chosen.run, files, chosen.sessions, chosen.seconds)
        figures["crowd_times_single"] = round(figures["crowd_p95_ms"] / figures["warm_ms"], 1)
    if chosen.decoding:
        figures |= decoding_by_turns(chosen.run, files, chosen.rounds)
    if chosen.keras:
        figures |= part(chosen, "keras", files)
        figures["times_keras"] = round(figures["batch"] / (1000 / figures["keras_ms"]), 1)
        figures |= against_keras(chosen.run, files)
    print(json.dumps({**figures, "run": chosen.run, "files": len(files), "rounds": chosen.rounds}))


def part(chosen: argparse.Namespace, name: str, files: list[Path]) -> dict[str, Any]:
    """Of this script, in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, chosen.run, *map(str, files[:64]), "--part", name, "--files", "64",
         "--rounds", str(chosen.rounds)],
        capture_output=True, text=True, check=False, env=os.environ,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.splitlines()[-1])


def first(run: str, files: list[Path], rounds: int) -> dict[str, Any]:
    asked(predict.load(run), files[0])
    return {}


def asked(panel: predict.LoadedModel, file: Path) -> None:
    """Decode, answer and draw the heatmap, as the page does for an upload."""
    image = predict.decode(InputFile(file.name, file.read_bytes()), [panel], longest=1024)
    answer = panel.predict(panel.prepare([image]))[0]
    panel.attribution(image, answer.label)


def ours(run: str, files: list[Path], rounds: int) -> dict[str, Any]:
    panel = predict.load(run)
    member = panel.members[0]
    prepared = np.stack([images.prepare(images.read(one), member.size) for one in files])
    warm = median(lambda number: asked(panel, files[number % len(files)]), rounds)
    forward = median(lambda number: member.features(prepared[number % len(files)][None]), rounds)
    start = time.perf_counter()
    for at in range(0, len(files), CHUNK):
        panel.members[0].probabilities(prepared[at : at + CHUNK])
    loop = len(files) / (time.perf_counter() - start)
    start = time.perf_counter()
    failed = sum(
        one.prediction is None
        for one in predict.stream(panel, [InputFile(one.name, one.read_bytes()) for one in files])
    )
    batch = len(files) / (time.perf_counter() - start)
    return {
        "warm_ms": warm, "forward_ms": forward, "batch": round(batch, 1), "loop": round(loop, 1),
        "batch_share_of_loop": round(batch / loop, 3), "failed": failed,
        "rss_mb": psutil.Process().memory_info().rss >> 20, "tensorflow": "tensorflow" in sys.modules,
    }  # fmt: skip


def decoding_by_turns(run: str, files: list[Path], rounds: int, batches: int = 5) -> dict[str, Any]:
    """Answers with images decoded in a child process, as they are, and in this one, as they were until version 0.2."""
    model = predict.load(run)
    in_child = decoding.decode

    def here(source: bytes, *, frame: int | None, sizes: list[int], longest: int | None, patience: Any) -> Any:
        return images.reduce(images.decode(source, frame=frame), sizes, longest=longest)

    ways: dict[str, Any] = {"child": in_child, "here": here}
    warm: dict[str, list[float]] = {name: [] for name in ways}
    batch: dict[str, list[float]] = {name: [] for name in ways}
    inputs = [InputFile(path.name, path.read_bytes()) for path in files]
    try:
        for number in range(rounds + 5):
            for name in sorted(ways, reverse=number % 2 == 0):
                decoding.decode = ways[name]
                model.members[0]._recent._features.clear()  # of the other's turn
                start = time.perf_counter()
                asked(model, files[number % len(files)])
                warm[name].append(time.perf_counter() - start)
        for number in range(batches + 1):
            for name in sorted(ways, reverse=number % 2 == 0):
                decoding.decode = ways[name]
                start = time.perf_counter()
                for _ in predict.stream(model, inputs):
                    pass
                batch[name].append(time.perf_counter() - start)
    finally:
        decoding.decode = in_child
    child, plain = (1000 * np.array(warm[name][5:]) for name in ("child", "here"))
    shares = np.array(batch["here"][1:]) / np.array(batch["child"][1:])
    return {
        "child_warm_ms": round(float(np.median(child)), 1), "here_warm_ms": round(float(np.median(plain)), 1),
        "child_ms": round(float(np.median(child - plain)), 2),
        "child_times_here": round(float(np.median(child / plain)), 3),
        "child_batch_share_of_here": round(float(np.median(shares)), 3),
    }  # fmt: skip


def crowd(run: str, files: list[Path], sessions: int, seconds: float) -> dict[str, Any]:
    """So many at once; the first failure ends the measurement."""
    start, spent, held = time.perf_counter(), list[float](), list[int]()

    def session(number: int) -> None:
        at = number * len(files) // sessions  # far apart, so that nobody meets what another one has just asked about
        for file in cycle(files[at:] + files[:at]):
            began = time.perf_counter()
            if began - start > seconds:
                return
            asked(predict.load(run), file)
            spent.append(time.perf_counter() - began)

    with ThreadPoolExecutor(sessions) as pool:
        working = [pool.submit(session, number) for number in range(sessions)]
        while not all(one.done() for one in working):
            time.sleep(0.5)
            held.append(psutil.Process().memory_info().rss >> 20)
        for one in working:
            one.result()
    return {
        "sessions": sessions, "crowd_p95_ms": round(1000 * statistics.quantiles(spent, n=20)[-1], 1),
        "crowd_rate": round(len(spent) / seconds, 1), "crowd_mb": max(held),
        "crowd_mb_grown": max(held) - max(held[: len(held) // 4]),
    }  # fmt: skip


def keras_way(run: str, files: list[Path], rounds: int) -> dict[str, Any]:
    from cxr_core.inference.predictor import Predictor

    predictor = Predictor.load(run)
    batch = images.to_input(np.stack([images.prepare(images.read(path), predictor.size) for path in files]))
    return {
        "keras_ms": median(lambda number: predictor.model.predict(batch[number % len(batch)][None], verbose=0), rounds)
    }


def against_keras(run: str, files: list[Path], rounds: int = 5) -> dict[str, Any]:
    """Images per second of a forward pass of Keras over decoded arrays and of the stream of files, by turns."""
    from cxr_core.inference.predictor import Predictor

    predictor, model = Predictor.load(run), predict.load(run)
    prepared = images.to_input(np.stack([images.prepare(images.read(path), predictor.size) for path in files]))
    inputs = [InputFile(path.name, path.read_bytes()) for path in files]

    def forward() -> None:
        for start in range(0, len(prepared), 32):
            predictor.model.predict_on_batch(prepared[start : start + 32])

    def streamed() -> None:
        for _ in predict.stream(model, inputs):
            pass

    rates: dict[str, list[float]] = {"keras_forward": [], "batch_by_turns": []}
    for number in range(rounds + 1):
        for name, work in (("keras_forward", forward), ("batch_by_turns", streamed)):
            start = time.perf_counter()
            work()
            if number:  # the first turn warms up
                rates[name].append(len(files) / (time.perf_counter() - start))
    shares = [ours / keras for keras, ours in zip(*rates.values(), strict=True)]
    return {
        **{name: round(statistics.median(values), 1) for name, values in rates.items()},
        "batch_share_of_keras_forward": round(statistics.median(shares), 3),
        "views": (views := 1 + predictor.flip),
        "batch_share_of_keras_answers": round(views * statistics.median(shares), 3),
    }


def median(work: Callable[[int], object], rounds: int) -> float:
    """Milliseconds, after one call that does not count."""
    work(0)
    spent = []
    for number in range(rounds):
        start = time.perf_counter()
        work(number)
        spent.append(time.perf_counter() - start)
    return round(1000 * statistics.median(spent), 1)


if __name__ == "__main__":
    main()
