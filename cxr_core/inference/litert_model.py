"""A run's network as exported for the processor: images to features by LiteRT, features to classes by plain arrays. No Keras.

    <run>/export/about.json      what it was made of, and how far its answers were from those of the network itself
    <run>/export/part.tflite     what comes before the head; not there if a frozen backbone alone does
    <run>/export/head.npz        see head.py
    <home>/trunks/….tflite       a frozen backbone that runs share, see `backbone_of`

`export.py` makes them once per run.
"""

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from queue import LifoQueue
from typing import Any

import numpy as np
import numpy.typing as npt

from cxr_core import images, process, workspace
from cxr_core.errors import WorkFailed
from cxr_core.inference.head import Head
from cxr_core.inference.micro_batching import MicroBatcher
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import MODELS, Run

FOLDER = "export"
VERSION = 1
CHUNK = 8  # more images at once fall out of the processor's cache and are slower
COPIES_BYTES = 2**25  # of weights, of all one-core interpreters of a graph
RECENT_IMAGES = 32

Floats = npt.NDArray[np.float32]


def interpreter_class() -> Any:
    """LiteRT's interpreter; raises WorkFailed if it is not installed."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise WorkFailed("LiteRT is not installed here. Install it with: pip install ai-edge-litert") from error
    return Interpreter


class Graph:
    """A LiteRT file, ready to run; any number of threads may call it.

    A few images are computed by an interpreter that uses all cores, those of several callers together. Threads share a layer
    badly: many images at once cost less where every caller computes its own on one core. That needs a copy of the weights
    per core, so it is done while the copies stay within COPIES_BYTES.
    """

    def __init__(self, path: Path):
        """Raises WorkFailed if the file is missing or damaged."""
        self._path = path
        shared = _Interpreter(path, process.cpu_count())
        self._batcher: MicroBatcher[Floats, Floats] = MicroBatcher(lambda inputs: [*shared(np.stack(inputs))], CHUNK)
        self._copies = min(process.cpu_count(), COPIES_BYTES // path.stat().st_size)
        self._idle: LifoQueue[_Interpreter | None] = LifoQueue()
        for _ in range(self._copies):
            self._idle.put(None)  # loaded when it is needed

    def __call__(self, batch: Floats) -> Floats:
        """float32 (n, …) to float32 (n, …)."""
        if len(batch) < CHUNK or self._copies < 2:
            return np.asarray(self._batcher([*batch]))
        interpreter = self._idle.get()
        try:
            interpreter = interpreter or _Interpreter(self._path, 1)
            return interpreter(batch)
        finally:
            self._idle.put(interpreter)


class _Interpreter:
    """LiteRT's interpreter of a file; one thread at a time may call it."""

    def __init__(self, path: Path, threads: int):
        interpreter = interpreter_class()
        try:
            self._interpreter = interpreter(str(path), num_threads=threads)
            (inputs,), (outputs,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise WorkFailed(f"{path} is damaged or missing ({error}). Delete it; it is made again.") from error
        self._input, self._output = inputs["index"], outputs["index"]
        self._shape: tuple[int, ...] = ()

    def __call__(self, batch: Floats) -> Floats:
        if batch.shape != self._shape:
            self._shape = ()  # until the tensors have it: memory may run out
            self._interpreter.resize_tensor_input(self._input, batch.shape)
            self._interpreter.allocate_tensors()
            self._shape = batch.shape
        self._interpreter.set_tensor(self._input, batch)
        self._interpreter.invoke()
        output: Floats = self._interpreter.get_tensor(self._output)
        return output


class _FeatureCache:
    """Features of the last images that came alone: the map over an image follows its prediction."""

    def __init__(self) -> None:
        self._features: OrderedDict[bytes, Floats] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, image: npt.NDArray[np.uint8], compute: Callable[[], Floats]) -> Floats:
        """Features of one image, by its content; the image itself is not kept."""
        digest = hashlib.sha256(image.tobytes()).digest()
        with self._lock:
            if digest in self._features:
                self._features.move_to_end(digest)
                return self._features[digest]
        features = compute()
        features.flags.writeable = False
        with self._lock:
            self._features[digest] = features
            if len(self._features) > RECENT_IMAGES:
                self._features.popitem(last=False)
        return features


@dataclass(frozen=True, eq=False)
class LiteRTModel:
    """An exported run. The same answers as `Predictor`'s, to 1e-4.

    Attributes:
        graphs: run one after the other, images float32 (n, S, S, 3) in 0..255 to features (n, h, w, c).
        head: features to probabilities.
        flip: whether an answer is the mean over the image and its mirror image.
        bytes: what it holds in memory, roughly.
    """

    run_id: str
    classes: tuple[str, ...]
    size: int
    graphs: tuple[Callable[[Floats], Floats], ...]
    head: Head
    flip: bool
    bytes: int
    _recent: _FeatureCache = field(default_factory=_FeatureCache)

    @classmethod
    def load(cls, run: Run) -> "LiteRTModel":
        """Read what `export.py` made.

        Raises:
            WorkFailed: there is nothing, or it is damaged or of another version.
        """
        files = files_of(run)
        if not files:
            raise WorkFailed(f"Run '{run.id}' has not been exported yet.")
        head = Head.load(run.folder / FOLDER / "head.npz")
        # LiteRT maps the file and holds a second, packed copy of its weights; then there are those of a core each.
        size = 2 * sum(path.stat().st_size for path in files) + COPIES_BYTES
        graphs = tuple(Graph(path) for path in files)
        return cls(run.id, run.config.classes, run.config.image_size, graphs, head, run.config.test_flip, size)

    def features(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """float32 (n, h, w, c) of prepared images, uint8 (n, S, S); n is at least 1."""
        parts = []
        for start in range(0, len(pixels), CHUNK):
            x = images.to_input(pixels[start : start + CHUNK])
            for graph in self.graphs:
                x = graph(x)
            parts.append(x)
        return np.concatenate(parts)

    def probabilities(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
        """float64 (n, classes), rows summing to 1, of prepared images, uint8 (n, S, S); n is at least 1."""
        views = self._views(pixels)
        mean: npt.NDArray[np.float64] = np.mean([self.head.probabilities(view) for view in views], axis=0)
        return mean

    def attribution(self, pixels: npt.NDArray[np.uint8], label: int) -> npt.NDArray[np.float64]:
        """HiResCAM attribution map of a class over one prepared image, uint8 (S, S): float64 (h, w), see head.py."""
        plain, *mirrored = [self.head.attribution(view[0], label) for view in self._views(pixels[None])]
        return (plain + mirrored[0][:, ::-1]) / 2 if mirrored else plain

    def _views(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """float32 (v, n, h, w, c): features of the images as they are and, with `flip`, of their mirror images."""

        def compute() -> Floats:
            features = self.features(np.concatenate([pixels, pixels[:, :, ::-1]]) if self.flip else pixels)
            return features.reshape(-1, len(pixels), *features.shape[1:])

        return self._recent.get(pixels, compute) if len(pixels) == 1 else compute()


def files_of(run: Run) -> tuple[Path, ...]:
    """The graphs of an exported run in their order; empty if it has not been exported, or not from its present model."""
    paths = _expected_files(run)
    return paths if all(path.is_file() for path in paths) else ()


def missing_backbone(run: Run) -> Path | None:
    """Path of the backbone of an exported run if nothing else of it is missing: it is on another machine, or ships."""
    missing = [path for path in _expected_files(run) if not path.is_file()]
    return missing[0] if len(missing) == 1 and missing[0].parent != run.folder / FOLDER else None


def drop_export(run: Run) -> bool:
    """Delete what is exported of a run, since it is damaged; False if nothing may be deleted.

    Of a bundled run only the backbone may be, which is no part of its folder.
    """
    paths = [path for path in _expected_files(run) if path.is_file()]
    if run.is_bundled:
        paths = [path for path in paths if path.parent != run.folder / FOLDER]
    elif paths:
        paths.append(run.folder / FOLDER / "about.json")
    for path in paths:
        path.unlink(missing_ok=True)
    return bool(paths)


def _expected_files(run: Run) -> tuple[Path, ...]:
    """The graphs that an export of the run's present model speaks of, there or not; empty if there is none."""
    try:
        about = workspace.read_json(run.folder / FOLDER / "about.json")
    except (FileNotFoundError, WorkFailed):
        return ()
    if not isinstance(about, dict) or about.get("version") != VERSION or about.get("of") != model_fingerprint(run):
        return ()
    backbone = [backbone_of(run.config, about["trunk"])] if about.get("trunk") else []
    return (*backbone, *([run.folder / FOLDER / "part.tflite"] if about.get("part") else []))


def about_backbone(config: RunConfig, digest: str) -> dict[str, str | int]:
    """All that the features of the backbone with the weights `digest` depend on, as a JSON document."""
    return {
        "model": config.model,
        "digest": digest,
        "trained": config.trained,
        "scaling": config.scaling,
        "size": config.image_size,
    }


def backbone_of(config: RunConfig, digest: str) -> Path:
    """Path of the graph of the backbone with the weights `digest`: those do not tell where it ends, nor its input."""
    graph = json.dumps(about_backbone(config, digest), sort_keys=True)
    return workspace.exported_backbone(f"{digest}-{hashlib.sha256(graph.encode()).hexdigest()[:8]}")


def model_fingerprint(run: Run) -> str:
    """Tells one model of a run from a later one, by the directory at the end of the file, which has a checksum of each part."""
    path = next(path for name in MODELS if (path := run.folder / name).is_file())
    return _digest(path, workspace.fingerprint(path))


@lru_cache(maxsize=256)
def _digest(path: Path, fingerprint: workspace.Fingerprint) -> str:  # noqa: ARG001 - part of the key
    """SHA-256 of the end of a file."""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 2**16))
        return hashlib.sha256(file.read()).hexdigest()[:16]
