"""One network's `.keras` file, written over and over with other weights.

Keras walks the whole network each time it saves one, which takes a tenth of a second even for a small one. Only the weights
change from epoch to epoch: so the file is made by Keras once, and after that the weights are put where they lie in it.
"""

import io
import zipfile
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import numpy.typing as npt

_WEIGHTS = "model.weights.h5"  # as Keras calls it in the archive


class KerasFile:
    """Writes the file of `model` with any weights.

    Args:
        model: not compiled; its own weights are changed.
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._others: dict[str, bytes] = {}
        self._content = bytearray()  # of the archive's HDF5 file
        self._offsets: list[int] | None = None  # of each of the model's weights in it; None: Keras has to write them

    def write(self, path: Path, weights: list[npt.NDArray[Any]]) -> None:
        """The whole file, to be loaded with Keras.

        Args:
            path: ends on .keras.
            weights: in the order of `model.get_weights()`.
        """
        if not self._others:
            self._learn(path)
        if self._offsets is None:
            self._model.set_weights(weights)
            self._model.save(path)
            return
        for offset, array in zip(self._offsets, weights, strict=True):
            content = np.ascontiguousarray(array, "<f4").tobytes()
            self._content[offset : offset + len(content)] = content
        with zipfile.ZipFile(path, "w") as file:
            for name, kept in self._others.items():
                file.writestr(name, kept)
            with file.open(_WEIGHTS, "w", force_zip64=True) as out:
                out.write(self._content)

    def _learn(self, path: Path) -> None:
        """Let Keras save the network with each of its weights filled with a number of its own, and look where that is."""
        before = self._model.get_weights()
        marks = [np.full(one.shape, number + 0.5, one.dtype) for number, one in enumerate(before)]
        self._model.set_weights(marks)
        self._model.save(path)
        with zipfile.ZipFile(path) as file:
            self._others = {name: file.read(name) for name in file.namelist() if name != _WEIGHTS}
            self._content = bytearray(file.read(_WEIGHTS))
        self._offsets = _offsets(bytes(self._content), marks)


def _offsets(content: bytes, marks: list[npt.NDArray[Any]]) -> list[int] | None:
    """Where each array lies in the HDF5 file; None unless each is there exactly once, in one piece, as float32."""
    found: dict[int, int] = {}
    twice = False

    def look(_: str, item: Any) -> None:
        nonlocal twice
        if not isinstance(item, h5py.Dataset) or item.dtype != np.dtype("<f4") or not item.size:
            return
        values = item[()]
        number = int(np.floor(values.flat[0]))
        if not 0 <= number < len(marks) or marks[number].shape != values.shape or (values != marks[number]).any():
            return
        twice = twice or number in found
        offset = item.id.get_offset()
        if offset is not None:
            found[number] = int(offset)

    with h5py.File(io.BytesIO(content), "r") as file:
        file.visititems(look)
    if twice or len(found) != len(marks) or any(one.dtype != np.float32 for one in marks):
        return None
    return [found[number] for number in range(len(marks))]
