"""Export a run's network once, so that it predicts without Keras (litert_model.py). Needs Keras, on TensorFlow."""

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from cxr_core import checksums, workspace
from cxr_core.errors import DamagedFile, WorkFailed
from cxr_core.evaluation import rule_store
from cxr_core.inference import litert_model
from cxr_core.inference.head import Head
from cxr_core.inference.input_check.checks import InputCheck
from cxr_core.inference.litert_model import Floats, LiteRTModel
from cxr_core.inference.predictor import Predictor
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs

TOLERANCE = 1e-4  # of a probability
_CHECKED = 4  # images


def export(run_id: str, predictor: Predictor | None = None) -> float:
    """Write what `LiteRTModel.load` reads, and verify that it answers as the network does.

    Of a run that ships only a frozen backbone is written, which is no part of its folder; what ships is never changed.

    Args:
        run_id: of a run with a model.
        predictor: of the run, if it is loaded already.

    Returns:
        The largest difference of a probability on a few random images.

    Raises:
        UnknownName, BadInput, WorkFailed: the run has no model that can be read.
        WorkFailed: its network cannot be exported, or would answer differently.
    """
    if keras.backend.backend() != "tensorflow":
        raise WorkFailed("Networks are exported by TensorFlow. Unset KERAS_BACKEND and try again.")
    run = runs.get(run_id)
    predictor = predictor or Predictor.load(run_id)
    core, model = predictor.model, catalogue.get(run.config.model)
    target = litert_model.missing_backbone(run)
    if target or run.is_bundled:
        if target := target or litert_model.unsound_backbone(run):
            write_backbone(keras.Model(core.input, core.get_layer(model.cut_layer(run.config.trained)).output), target)
        difference = _difference(predictor, LiteRTModel.load(run))
        if not difference <= TOLERANCE:
            raise _differs(run_id, difference)
        return difference
    with _replacing(run.folder / litert_model.FOLDER) as (folder, put_in_place):
        about = _write_parts(run, predictor, folder)
        put_in_place()
        _seal(run)
        difference = _difference(predictor, LiteRTModel.load(run))
        if not difference <= TOLERANCE:
            raise _differs(run_id, difference)
        workspace.write_json(
            run.folder / litert_model.FOLDER / "about.json", checksums.seal({**about, "difference": difference})
        )
    return difference


@contextlib.contextmanager
def _replacing(folder: Path) -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder to write an export to, and what puts its files in the place of those in `folder`.

    If the block fails, what was there is there again. It waits beside it meanwhile; what a killed process has left so is taken
    back first. The folder itself stays, since its lock is held by whoever waits for the export.
    """
    new, old = (workspace.ensure_dir(folder.with_name(f".{folder.name}-{name}")) for name in ("new", "old"))
    workspace.ensure_dir(folder)
    in_place = False

    def put_in_place() -> None:
        nonlocal in_place
        _move(folder, old, litert_model.FILES)  # about.json first: without it there is no export
        in_place = True
        _move(new, folder, litert_model.FILES[::-1])

    _move(old, folder, litert_model.FILES[::-1])
    try:
        yield new, put_in_place
    except BaseException:
        for name in litert_model.FILES if in_place else ():
            (folder / name).unlink(missing_ok=True)
        _move(old, folder, litert_model.FILES[::-1])
        raise
    finally:
        shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _move(source: Path, target: Path, names: Sequence[str]) -> None:
    """Move the files of these names that are there, in this order."""
    for name in names:
        if (source / name).is_file():
            (source / name).replace(target / name)


def _write_parts(run: runs.Run, predictor: Predictor, folder: Path) -> dict[str, Any]:
    """Write head, part and about.json to a folder, and the backbone where it is shared; return what about.json says."""
    core, model = predictor.model, catalogue.get(run.config.model)
    head(core, model.features).save(folder / "head.npz")
    digest, edge = "", core.input
    if cut_layer := (model.cut_layer(run.config.trained) if predictor.head is not None else ""):
        digest = str(workspace.read_json(run.folder / "trunk.json")["digest"])
        edge, target = core.get_layer(cut_layer).output, litert_model.backbone_of(run.config, digest)
        if not litert_model.is_sound(target):  # missing, damaged, or of an earlier version
            write_backbone(keras.Model(core.input, edge), target)
    part = cut_layer != model.features
    if part:
        write(keras.Model(edge, core.get_layer(model.features).output), folder / "part.tflite")
    about = {
        "version": litert_model.VERSION,
        "of": runs.model_fingerprint(run.folder),
        "trunk": digest,
        "part": part,
        "answers": litert_model.answers_by(run.config),
        "files": {"part.tflite": checksums.of_bytes((folder / "part.tflite").read_bytes())} if part else {},
    }
    workspace.write_json(folder / "about.json", checksums.seal(about))
    return about


def _seal(run: runs.Run) -> None:
    """Give the other files that a run answers by their checksums, if they are of an earlier version and can be read."""
    rule_store.seal(run.id)
    path = run.folder / "input_check.npz"
    if path.is_file() and not checksums.is_sealed(path):
        with contextlib.suppress(DamagedFile):
            InputCheck.load(path).save(path)


def _differs(run_id: str, difference: float) -> WorkFailed:
    return WorkFailed(
        f"The exported network of run '{run_id}' answers differently (by {difference:.1e}; at most {TOLERANCE:.0e} is allowed), "
        "so it is not used, and the run cannot answer live."
    )


def head(core: keras.Model, features: str) -> Head:
    """The head of a network: all that comes after its layer `features`.

    Raises:
        WorkFailed: it is not a chain of Flatten or average pooling and dense layers with ReLU.
    """
    names = [layer.name for layer in core.layers]
    averaged = False
    weights: list[Floats] = []
    biases: list[Floats] = []
    behind = core.layers[names.index(features) + 1 :]
    for index, layer in enumerate(behind):
        activation = getattr(layer, "activation", None)
        if isinstance(layer, keras.layers.GlobalAveragePooling2D) and not weights:
            averaged = True
        elif isinstance(layer, keras.layers.Dense) and activation is (
            keras.activations.softmax if index == len(behind) - 1 else keras.activations.relu
        ):
            kernel, bias = layer.get_weights()
            weights.append(kernel)
            biases.append(bias)
        elif not isinstance(layer, keras.layers.Flatten | keras.layers.Dropout):
            raise WorkFailed(f"The end of this network has a layer that cannot be exported ({type(layer).__name__}).")
    return Head(averaged, tuple(weights), tuple(biases))


def write_backbone(network: keras.Model, path: Path) -> None:
    """As `write`, with the checksum beside it."""
    write(network, path)
    workspace.write_bytes(litert_model.checksum_path(path), checksums.of_bytes(path.read_bytes()).encode())


def write(network: keras.Model, path: Path) -> None:
    """Write a network as a LiteRT file, whole and saying the same, or not at all.

    Raises:
        WorkFailed: it has a layer that LiteRT does not know, the file says something else, or the disk is full.
    """
    batch = np.random.default_rng(0).uniform(0, 255, (1, *network.input.shape[1:])).astype(np.float32)
    expected = np.asarray(network.predict_on_batch(batch))  # Keras exports what has been called
    try:
        with workspace.replacing(path) as part:
            with contextlib.redirect_stdout(io.StringIO()):
                network.export(str(part), format="litert", verbose=False)
            difference = float(
                np.abs(litert_model.Graph(part)(batch) - expected).max() / max(float(np.abs(expected).max()), 1e-6)
            )
            if not difference <= TOLERANCE:
                raise ValueError(f"its features are off by {difference:.1e} of the largest")
    except Exception as error:
        raise WorkFailed(f"The network could not be exported ({type(error).__name__}: {str(error)[:200]}).") from error


def _difference(predictor: Predictor, exported: LiteRTModel) -> float:
    pixels = np.random.default_rng(0).integers(0, 256, (_CHECKED, predictor.size, predictor.size), dtype=np.uint8)
    return float(np.abs(predictor.probabilities(pixels) - exported.probabilities(pixels)).max())
