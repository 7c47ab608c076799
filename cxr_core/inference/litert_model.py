"""A run's network as exported for the processor: images to features by LiteRT, features to classes by plain arrays. No Keras.

    <run>/export/about.json      what it was made of, how far its answers were from those of the network itself, and checksums
    <run>/export/part.tflite     what comes before the head; not there if a frozen backbone alone does; of runs that ship
                                 compressed, part.tflite.gz
    <run>/export/head.npz        see head.py
    <home>/trunks/….tflite       a frozen backbone that runs share, see `backbone_of`, and ….sha256, its checksum

`export.py` makes them once per run.
"""

import hashlib
import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from queue import LifoQueue
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from cxr_core import checksums, images, process, workspace
from cxr_core.errors import DamagedFile, WorkFailed
from cxr_core.inference.head import Head
from cxr_core.inference.micro_batching import MicroBatcher
from cxr_core.runs import run_store
from cxr_core.runs.config import RunConfig
from cxr_core.runs.run_store import Run

FOLDER = "export"
FILES = ("about.json", "head.npz", "part.tflite", "part.tflite.gz")  # that an export may have
VERSION = 1
CHUNK = 8  # more images at once fall out of the processor's cache and are slower
COPIES_BYTES = 2**25  # of weights, of all one-core interpreters of a graph
RECENT_IMAGES = 32
MAX_GRAPH_BYTES = 2**31 - 1  # of a LiteRT file, by its format

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

    def __init__(self, path: Path, sha256: str = ""):
        """Read the file once: what was verified is what all interpreters run, whatever becomes of the file.

        Args:
            path: of the file; one that ends in .gz is compressed.
            sha256: its checksum; without one its content is taken as it is.

        Raises:
            DamagedFile: its content is not what was written.
            WorkFailed: it is missing or cannot be read.
        """
        self._path, self._content = path, workspace.read_bytes(path)
        try:
            checksums.verify_bytes(self._content, sha256)
            if path.suffix == ".gz":
                self._content = _decompressed(self._content)
        except (ValueError, zlib.error) as error:
            raise DamagedFile(f"{path} is damaged ({error}).") from error
        shared = self._interpreter(process.cpu_count())
        self._batcher: MicroBatcher[Floats, Floats] = MicroBatcher(lambda inputs: [*shared(np.stack(inputs))], CHUNK)
        self._copies = min(process.cpu_count(), COPIES_BYTES // max(len(self._content), 1))
        self._idle: LifoQueue[_Interpreter | None] = LifoQueue()
        for _ in range(self._copies):
            self._idle.put(None)  # loaded when it is needed

    @property
    def bytes(self) -> int:
        """Of the file, or what it was compressed from."""
        return len(self._content)

    def __call__(self, batch: Floats) -> Floats:
        """float32 (n, …) to float32 (n, …)."""
        if len(batch) < CHUNK or self._copies < 2:
            return np.asarray(self._batcher([*batch]))
        interpreter = self._idle.get()
        try:
            interpreter = interpreter or self._interpreter(1)
            return interpreter(batch)
        finally:
            self._idle.put(interpreter)

    def _interpreter(self, threads: int) -> "_Interpreter":
        try:
            return _Interpreter(self._content, threads)
        except (ValueError, RuntimeError) as error:
            raise DamagedFile(f"{self._path} is damaged ({error}).") from error


def _decompressed(content: bytes) -> bytes:
    """Raises ValueError or zlib.error if it is no gzip file, or of more than MAX_GRAPH_BYTES."""
    stream = zlib.decompressobj(wbits=31)
    graph = stream.decompress(content, MAX_GRAPH_BYTES)
    if not stream.eof:
        raise ValueError("it is cut short, or far too large")
    return graph


class _Interpreter:
    """LiteRT's interpreter of a file; one thread at a time may call it."""

    def __init__(self, content: bytes, threads: int):
        """Raises ValueError or RuntimeError if the content is no graph."""
        self._interpreter = interpreter_class()(model_content=content, num_threads=threads)
        (inputs,), (outputs,) = self._interpreter.get_input_details(), self._interpreter.get_output_details()
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
        """Read what `export.py` made, and verify it by its checksums where it has any.

        Raises:
            DamagedFile: a file is not what was written.
            WorkFailed: there is nothing, it is of another version, it cannot be read, or the run's configuration has changed since.
        """
        files = files_of(run)
        if not files:
            raise WorkFailed(f"Run '{run.id}' has not been exported yet.")
        about = _read_about(run)
        verify_config(run)
        interpreter_class()
        try:
            head = Head.load(run.folder / FOLDER / "head.npz")
            graphs = tuple(Graph(path, _checksum_of(path, about)) for path in files)
        except DamagedFile as error:
            raise DamagedFile(f"{error} {_advice(run)}") from error
        # LiteRT holds a second, packed copy of the weights; then there are those of a core each.
        size = 2 * sum(graph.bytes for graph in graphs) + COPIES_BYTES
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
        """float64 (n, classes), rows summing to 1, of prepared images, uint8 (n, S, S); n is at least 1.

        Raises:
            WorkFailed: the network gives something that is no number.
        """
        views = self._views(pixels)
        mean: npt.NDArray[np.float64] = np.mean([self.head.probabilities(view) for view in views], axis=0)
        if not np.isfinite(mean).all():
            self._raise_no_number()
        return mean

    def attribution(self, pixels: npt.NDArray[np.uint8], label: int) -> npt.NDArray[np.float64]:
        """HiResCAM attribution map of a class over one prepared image, uint8 (S, S): float64 (h, w), see head.py.

        Raises:
            WorkFailed: the network gives something that is no number.
        """
        plain, *mirrored = [self.head.attribution(view[0], label) for view in self._views(pixels[None])]
        values = (plain + mirrored[0][:, ::-1]) / 2 if mirrored else plain
        if not np.isfinite(values).all():
            self._raise_no_number()
        return values

    def _raise_no_number(self) -> NoReturn:
        raise WorkFailed(
            f"Run '{self.run_id}' gives no number for an image (NaN or infinite), so it gives no answer. Its network is damaged, "
            f"or was never sound. Export it again: python -m cxr_core export {self.run_id}; if that does not help, train it again."
        )

    def _views(self, pixels: npt.NDArray[np.uint8]) -> Floats:
        """float32 (v, n, h, w, c): features of the images as they are and, with `flip`, of their mirror images."""

        def compute() -> Floats:
            features = self.features(np.concatenate([pixels, pixels[:, :, ::-1]]) if self.flip else pixels)
            return features.reshape(-1, len(pixels), *features.shape[1:])

        return self._recent.get(pixels, compute) if len(pixels) == 1 else compute()


def files_of(run: Run) -> tuple[Path, ...]:
    """The graphs of an exported run in their order; empty if it has not been exported, or not from its present model."""
    paths = _expected_files(run)
    return paths if all(path.is_file() for path in (*paths, run.folder / FOLDER / "head.npz")) else ()


def missing_backbone(run: Run) -> Path | None:
    """Path of the backbone of an exported run if nothing else of it is missing: it is on another machine, or ships."""
    missing = [path for path in _expected_files(run) if not path.is_file()]
    return missing[0] if len(missing) == 1 and missing[0].parent != run.folder / FOLDER else None


def verify_config(run: Run) -> None:
    """Raise WorkFailed if the configuration of an exported run gives its answers another meaning than when it was exported."""
    if (exported := _read_about(run).get("answers")) and exported != (present := answers_by(run.config)):
        changes = [
            f"{name} was {exported.get(name)}, is {present[name]}"
            for name in present
            if exported.get(name) != present[name]
        ]
        raise WorkFailed(
            f"{run.folder / 'config.json'} has changed since run '{run.id}' was exported ({'; '.join(changes)}), so it gives no "
            f"answer. Restore the file{'' if run.is_bundled else f', or, if that is meant: python -m cxr_core export {run.id}'}."
        )


def answers_by(config: RunConfig) -> dict[str, Any]:
    """The settings that decide how an exported network is asked and what its answers mean, as a JSON document."""
    return {"classes": list(config.classes), "size": config.image_size, "flip": config.test_flip}


def checksum_path(backbone: Path) -> Path:
    """Path of the checksum of a backbone's graph, which belongs to no run."""
    return backbone.with_suffix(".sha256")


def _checksum_of(path: Path, about: dict[str, Any]) -> str:
    """The checksum of a graph; empty if it was exported without."""
    if path.parent.name == FOLDER:
        return str(about.get("files", {}).get(path.name, ""))
    try:
        return checksum_path(path).read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, ValueError) as error:
        raise WorkFailed(f"{checksum_path(path)} could not be read ({error}).") from error


def _advice(run: Run) -> str:
    if run.is_bundled:
        return "It ships with the project: restore it from there (git checkout, or install the package again)."
    return f"To make it again: python -m cxr_core export {run.id}"


def unsound_backbone(run: Run) -> Path | None:
    """Path of the backbone of an exported run if it is missing, damaged, or of an earlier version and so without a checksum."""
    paths = [path for path in _expected_files(run) if path.parent != run.folder / FOLDER]
    return next((path for path in paths if not is_sound(path)), None)


def is_sound(backbone: Path) -> bool:
    """True if there is a graph of a backbone that is what was written."""
    expected = _checksum_of(backbone, {})
    return bool(expected) and backbone.is_file() and checksums.of_bytes(workspace.read_bytes(backbone)) == expected


def drop_export(run: Run) -> bool:
    """Delete what is exported of a run, since it is damaged; False if nothing may be deleted.

    Of a bundled run only the backbone may be, which is no part of its folder.
    """
    paths = [path for path in _expected_files(run) if path.is_file()]
    if run.is_bundled:
        paths = [path for path in paths if path.parent != run.folder / FOLDER]
    elif paths:
        paths.append(run.folder / FOLDER / "about.json")
    try:
        for path in paths:
            path.unlink(missing_ok=True)
    except OSError:
        return False
    return bool(paths)


def _expected_files(run: Run) -> tuple[Path, ...]:
    """The graphs that an export of the run's present model speaks of, there or not; empty if there is none."""
    about = _read_about(run)
    if about.get("version") != VERSION or about.get("of") != run_store.model_fingerprint(run.folder):
        return ()
    backbone = [backbone_of(run.config, about["trunk"])] if about.get("trunk") else []
    names = [name for name in ("part.tflite.gz", "part.tflite") if name in about.get("files", {})] or ["part.tflite"]
    return (*backbone, *([run.folder / FOLDER / names[0]] if about.get("part") else []))


def _read_about(run: Run) -> dict[str, Any]:
    """The document of an export; empty if there is none, or one that is damaged and can be made again.

    Raises:
        DamagedFile: it is damaged, of a run that ships.
        WorkFailed: it cannot be read.
    """
    path = run.folder / FOLDER / "about.json"
    try:
        about = checksums.unseal(workspace.read_json(path))
        if not isinstance(about, dict) or not all(
            isinstance(about.get(name, {}), dict) for name in ("answers", "files")
        ):
            raise ValueError("it has another shape than it is written in")
    except FileNotFoundError:
        return {}
    except (ValueError, DamagedFile) as error:
        if run.is_bundled:
            raise DamagedFile(f"{path} is damaged ({error}). {_advice(run)}") from error
        return {}
    return about


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
