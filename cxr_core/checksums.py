"""SHA-256 of the files that a model answers by: written with a file, verified whenever it is read.

A JSON document and a NumPy archive carry their own as `sha256`, so no kill comes between content and checksum; a LiteRT graph has
its own in a file beside it, or in the document of its export. They tell damage, not malice: who changes a file can change its
checksum too. Files of version 0.2 and before have none; they are read as they are until they are written again.
"""

import hashlib
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

KEY = "sha256"
_DAMAGES = (  # what NumPy and zipfile raise of one; an absurd shape asks for more memory than there is
    OSError, KeyError, TypeError, AttributeError, EOFError, MemoryError, RuntimeError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_DIFFERS = "it is not what was written, by its SHA-256"


def of_bytes(content: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()


def verify_bytes(content: bytes, expected: str) -> None:
    """Raise ValueError if this is other content; without an expected checksum nothing is verified."""
    if expected and of_bytes(content) != expected:
        raise ValueError(_DIFFERS)


def seal(document: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON object with its checksum."""
    content = {name: value for name, value in document.items() if name != KEY}
    return {**content, KEY: _of_document(content)}


def unseal(document: Any) -> Any:
    """The JSON object without its checksum; anything that has none comes back as it is.

    Raises:
        ValueError: it is not what was written.
    """
    if not isinstance(document, dict) or KEY not in document:
        return document
    content = {name: value for name, value in document.items() if name != KEY}
    if document[KEY] != _of_document(content):
        raise ValueError(_DIFFERS)
    return content


def _of_document(content: Mapping[str, Any]) -> str:
    return of_bytes(json.dumps(content, sort_keys=True).encode())


def write_archive(arrays: Mapping[str, npt.NDArray[Any]], *, compressed: bool = False) -> bytes:
    """Content of an `.npz` file of these arrays and their checksum."""
    out = io.BytesIO()
    save = np.savez_compressed if compressed else np.savez
    save(out, allow_pickle=False, **{**arrays, KEY: np.array(_of_arrays(arrays))})
    return out.getvalue()


def read_archive(content: bytes) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an `.npz` file, without the checksum.

    Raises:
        ValueError: they are not what was written, or it is no such file.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _DAMAGES as error:
        raise ValueError("it is no archive that can be read") from error
    expected = arrays.pop(KEY, None)
    if expected is not None and str(expected) != _of_arrays(arrays):
        raise ValueError(_DIFFERS)
    return arrays


def _of_arrays(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name} {array.dtype.str} {arrays[name].shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def is_sealed(path: Path) -> bool:
    """True if a `.json` or `.npz` file has a checksum, right or wrong; False also for what cannot be read."""
    try:
        if path.suffix == ".json":
            document = json.loads(path.read_bytes())
            return isinstance(document, dict) and KEY in document
        with np.load(path, allow_pickle=False) as file:
            return KEY in file.files
    except Exception:  # noqa: BLE001 - a damaged archive raises any of a dozen kinds
        return False
