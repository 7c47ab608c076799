"""Measure the endpoint under clients that send large and hostile images: `python benchmarks/hostile_clients.py RUN [--clients 20]
[--seconds 60] [--most-seconds 60]
[--kinds png,rgba,…]`.

Starts `serve`, lets the clients send one image after the other, each of 100 megapixels, and meanwhile asks for /api/health and
/api/runs. Prints JSON:

rest_mb              memory (proportional set size) of the server and its child processes after one ordinary image
peak_above_rest_mb   the most that they took above that while the clients were there
after_above_rest_mb  what they still had above it in the end, the least of ten seconds
health_s, runs_s     the longest that these two took to answer
end_s                how long it took to end, once told
codes                how many answers there were of each HTTP status
answered, sentences  how many images were answered, by kind, and how many got which sentence instead
mb                   sizes of the files
"""

import argparse
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import psutil
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, RLELossless, generate_uid

SIDE = 10_000  # pixels


def saved(kind: str, image: Image.Image, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def ramp(dtype: type = np.uint8, levels: int = 256) -> np.ndarray:
    return np.tile((np.arange(SIDE) % levels).astype(dtype), (SIDE, 1))


def many_scans() -> bytes:
    content = saved("JPEG", Image.fromarray(ramp()), progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * (90 if len(content) < 2**20 else 20) + content[-2:]


def too_many_scans() -> bytes:
    content = saved("JPEG", Image.new("L", (SIDE, SIDE)), progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * 1000 + content[-2:]


def tiled_tiff(tile: int = 256) -> bytes:
    """All tiles are one and the same."""
    count = (-(-SIDE // tile)) ** 2
    pixels = zlib.compress(np.tile(np.arange(tile).astype(np.uint8), (tile, 1)).tobytes())
    tags = [(256, 4, 1, SIDE), (257, 4, 1, SIDE), (258, 3, 1, 8), (259, 3, 1, 8), (262, 3, 1, 1), (277, 3, 1, 1),
            (322, 3, 1, tile), (323, 3, 1, tile)]  # fmt: skip
    start = 8 + 2 + 12 * (len(tags) + 2) + 4
    tags += [(324, 4, count, start), (325, 4, count, start + 4 * count)]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    offsets = struct.pack("<I", start + 8 * count) * count + struct.pack("<I", len(pixels)) * count
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + offsets + pixels


def dicom() -> bytes:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = Dataset()
    dataset.file_meta = meta
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    dataset.Modality, dataset.PhotometricInterpretation = "DX", "MONOCHROME2"
    dataset.Rows = dataset.Columns = SIDE
    dataset.SamplesPerPixel, dataset.PixelRepresentation = 1, 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelData = np.repeat(np.arange(SIDE, dtype=np.uint16)[:, None] % 4096, SIDE, axis=1).tobytes()
    dataset.compress(RLELossless, generate_instance_uid=False)
    out = io.BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


KINDS: dict[str, Callable[[], bytes]] = {
    "png": lambda: saved("PNG", Image.fromarray(ramp())),
    "rgba": lambda: saved("PNG", Image.fromarray(ramp()).convert("RGBA"), compress_level=1),
    "16-bit": lambda: saved("PNG", Image.fromarray(ramp(np.uint16, 4096)), compress_level=1),
    "float": lambda: saved("TIFF", Image.fromarray(ramp(np.float32)), compression="tiff_adobe_deflate"),
    "tiled": tiled_tiff,
    "scans": many_scans,
    "too many scans": too_many_scans,
    "dicom": dicom,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--clients", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--most-seconds", type=float, default=60, help="of a request, as of `serve`")
    parser.add_argument("--kinds", default=",".join(KINDS))
    chosen = parser.parse_args()
    files = {kind: KINDS[kind]() for kind in chosen.kinds.split(",")}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "cxr_core", "serve", "--run", chosen.run, "--port", str(port), "--per-minute", "1000000",
         "--most-seconds", str(chosen.most_seconds)],
        stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    try:
        figures = measure(server.pid, f"http://127.0.0.1:{port}", files, chosen.clients, chosen.seconds)
    finally:
        begun = time.monotonic()
        server.terminate()
        server.wait(60)
    print(json.dumps({**figures, "end_s": round(time.monotonic() - begun, 1)}))


def measure(pid: int, address: str, files: dict[str, bytes], clients: int, seconds: float) -> dict[str, Any]:
    wait_for(address)
    ordinary = saved("PNG", Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)))
    for _ in range(4):
        send(address, ordinary)
    rest = memory_mb(pid)
    stop = time.monotonic() + seconds
    codes: Counter[int] = Counter()
    answered: Counter[str] = Counter()
    sentences: dict[str, Counter[str]] = defaultdict(Counter)
    slowest = {"/api/health": 0.0, "/api/runs": 0.0}

    def client(number: int) -> None:
        while time.monotonic() < stop:
            number += 1
            kind = [*files][number % len(files)]
            try:
                code, document = send(address, files[kind])
            except OSError:  # the server has let it go
                codes[0] += 1
                continue
            codes[code] += 1
            for result in document.get("results", [document]):
                if "error" in result:
                    sentences[kind][result["error"][:90]] += 1
                else:
                    answered[kind] += 1
            if code != 200:
                time.sleep(1)

    def look(path: str) -> None:
        while time.monotonic() < stop:
            start = time.monotonic()
            with urlopen(address + path, timeout=60) as response:
                response.read()
            slowest[path] = max(slowest[path], time.monotonic() - start)
            time.sleep(0.3)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    threads += [threading.Thread(target=look, args=(path,)) for path in slowest]
    for thread in threads:
        thread.start()
    peak = rest
    while any(thread.is_alive() for thread in threads):
        peak = max(peak, memory_mb(pid))
        time.sleep(0.1)
    send(address, ordinary)
    after = []
    for _ in range(20):
        time.sleep(0.5)
        after.append(memory_mb(pid))
    return {
        "rest_mb": round(rest), "peak_above_rest_mb": round(peak - rest), "after_above_rest_mb": round(min(after) - rest),
        "health_s": round(slowest["/api/health"], 2), "runs_s": round(slowest["/api/runs"], 2),
        "codes": dict(codes), "answered": dict(answered), "sentences": {kind: dict(found) for kind, found in sentences.items()},
        "mb": {kind: round(len(content) / 2**20, 1) for kind, content in files.items()}, "clients": clients, "seconds": seconds,
    }  # fmt: skip


def wait_for(address: str) -> None:
    for _ in range(300):
        try:
            with urlopen(f"{address}/api/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    sys.exit("The server did not start.")


def send(address: str, content: bytes) -> tuple[int, dict[str, Any]]:
    body = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + content + b"\r\n--x--\r\n"
    request = Request(f"{address}/api/predict", body, {"Content-Type": "multipart/form-data; boundary=x"})
    try:
        with urlopen(request, timeout=200) as response:
            return response.status, json.loads(response.read())
    except HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def memory_mb(pid: int) -> float:
    total = 0.0
    try:
        server = psutil.Process(pid)
        for process in (server, *server.children(recursive=True)):
            try:
                full = process.memory_full_info()
                total += getattr(full, "pss", full.rss)
            except psutil.NoSuchProcess:
                continue
    except psutil.NoSuchProcess:
        return 0.0
    return total / 2**20


if __name__ == "__main__":
    main()
