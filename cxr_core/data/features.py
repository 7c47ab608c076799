"""Features of images by a frozen backbone, stored on disk: computed once, read by every training that needs them.

    <home>/features/<key>/about.json    what made them: model, weights (by their content), layer, scaling, size
    <home>/features/<key>/values.f32    float32, one feature map after the other
    <home>/features/<key>/entries.bin   44 bytes each: SHA-256 of the image's file, number of the view, CRC-32 of the values

Images are known by their content, so all datasets, splits and manifests share them, and what a stopped training has made is
not made again. Both files only grow, the values first: what a killed one left half is cut off by the next, and what is not
what was written is made again behind it.
"""

import hashlib
import json
import math
import shutil
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from cxr_core import workspace
from cxr_core.data.augment import AugmentationLimits, augmented_view
from cxr_core.errors import WorkFailed

AS_IT_IS, MIRRORED = 0, -1
_KEY = np.dtype([("sha256", "V32"), ("view", "<i8")])
_ENTRY = np.dtype([("key", _KEY), ("crc", "<u4")])

_CHECKED_AT_ONCE = 256  # feature maps, 10 to 100 MB

Keys = npt.NDArray[np.void]
Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureStore:
    """The features that one backbone makes. `shape` is that of one feature map, (h, w, c)."""

    folder: Path
    shape: tuple[int, ...]

    @classmethod
    def of(cls, about: dict[str, Any], shape: Sequence[int], *, note: dict[str, Any] | None = None) -> "FeatureStore":
        """The store of what `about` describes (a JSON document), made if it is not there yet.

        Args:
            note: for people: written down beside `about` when the store is made, and no part of what tells stores apart.
        """
        document = {**about, "shape": list(shape)}
        key = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
        folder = workspace.ensure_dir(workspace.features() / key)
        if not (folder / "about.json").is_file():
            workspace.write_json(folder / "about.json", {**(note or {}), **document})
        return cls(folder, tuple(shape))

    @property
    def item_bytes(self) -> int:
        return 4 * math.prod(self.shape)

    def __len__(self) -> int:
        """Number of whole feature maps in the store."""
        entries, values = self._sizes()
        return min(entries // _ENTRY.itemsize, values // self.item_bytes)

    def places(self, keys: Keys) -> npt.NDArray[np.int64]:
        """int (n,): where the features of `keys` are, the latest that were written; -1 where they are not."""
        position_of = {key.tobytes(): number for number, key in enumerate(self._entries()["key"])}
        return np.array([position_of.get(key.tobytes(), -1) for key in keys], dtype=np.int64)

    def sound(self, keys: Keys, tell: Callable[[int, int], None] | None = None) -> npt.NDArray[np.int64]:
        """As `places`, but -1 also where the values are not what was written; reads them all.

        Args:
            tell: called now and then with how many of how many were read; what it raises ends the work.
        """
        positions, crc, values = self.places(keys), self._entries()["crc"], self.values()
        damaged = []
        for number, position in enumerate(present := np.unique(positions[positions >= 0])):
            if tell and number % _CHECKED_AT_ONCE == 0:
                tell(number, len(present))
            if zlib.crc32(values[position].data) != crc[position]:
                damaged.append(position)
        return np.where(np.isin(positions, damaged), -1, positions) if damaged else positions

    def _entries(self) -> npt.NDArray[np.void]:
        return np.fromfile(self.folder / "entries.bin", _ENTRY, count=len(self)) if len(self) else np.empty(0, _ENTRY)

    def values(self) -> Values:
        """float32 (n, h, w, c), memory-mapped and read-only."""
        if not len(self):
            return np.empty((0, *self.shape), np.float32)
        return np.memmap(self.folder / "values.f32", np.float32, "r", shape=(len(self), *self.shape))

    def turn(self) -> FileLock:
        """The lock under which one process at a time appends."""
        return FileLock(self.folder / ".lock")

    def append(self, keys: Keys, values: Values) -> None:
        """Add the features `values`, float32 (n, h, w, c), of `keys`; call it under `turn`.

        Raises:
            WorkFailed: the disk is full or cannot be written, or the values are no numbers.
        """
        if not np.isfinite(values).all():
            raise WorkFailed("The frozen part makes features that are no numbers. Its starting weights will not do.")
        whole, values = len(self), np.ascontiguousarray(values, dtype="<f4")
        entries = np.zeros(len(keys), _ENTRY)
        entries["key"], entries["crc"] = keys, [zlib.crc32(feature_map.data) for feature_map in values]
        try:
            for name, array, itemsize in (
                ("values.f32", values, self.item_bytes),
                ("entries.bin", entries, _ENTRY.itemsize),
            ):
                with (self.folder / name).open("ab") as out:
                    out.truncate(whole * itemsize)
                    out.write(array.tobytes())
        except OSError as error:
            raise WorkFailed(f"Features could not be written to {self.folder}: {error.strerror or error}.") from error

    def check_space(self, count: int) -> None:
        """Refuse before the work what would not fit.

        Raises:
            WorkFailed: `count` more feature maps do not fit on the disk.
        """
        needed, free = count * self.item_bytes, shutil.disk_usage(self.folder).free
        if needed > free - 2**28:
            raise WorkFailed(
                f"The features of {count:,} images need {needed / 2**30:.1f} GB on the disk of {workspace.home()}, and "
                f"{free / 2**30:.1f} GB are free. Free some space (python -m cxr_core features clear), or choose smaller images."
            )

    def _sizes(self) -> tuple[int, int]:
        try:
            return (self.folder / "entries.bin").stat().st_size, (self.folder / "values.f32").stat().st_size
        except FileNotFoundError:
            return 0, 0


@dataclass(frozen=True)
class StoreInfo:
    """A store as it lies on disk: what made it, how many images it holds, and its size."""

    key: str
    about: dict[str, Any]
    images: int
    bytes: int


def list_stores() -> list[StoreInfo]:
    """All stores of this workspace, the largest first."""
    stores = []
    for name in workspace.list_dirs(workspace.features()):
        folder = workspace.features() / name
        try:
            about = workspace.read_json(folder / "about.json")
            shape = about["shape"]
            if not isinstance(about, dict) or not all(isinstance(side, int) and side > 0 for side in shape):
                raise TypeError(shape)
            store = FeatureStore(folder, tuple(shape))
        except (FileNotFoundError, WorkFailed, KeyError, TypeError):
            about, store = {}, FeatureStore(folder, (1,))
        size = sum(path.stat().st_size for path in folder.iterdir())
        stores.append(StoreInfo(name, about, len(store) if about else 0, size))
    return sorted(stores, key=lambda store: -store.bytes)


def delete_stores() -> int:
    """Delete all stores; they are made again when they are needed. Returns the bytes that this frees."""
    before = sum(store.bytes for store in list_stores())
    shutil.rmtree(workspace.features(), ignore_errors=True)
    return before - sum(store.bytes for store in list_stores())  # what could not be deleted is not free


def keys(sha256: Sequence[str], views: Iterable[int], limits: AugmentationLimits | None = None) -> Keys:
    """Keys of images shown in views.

    Args:
        sha256: of the files, hexadecimal.
        views: AS_IT_IS, MIRRORED, or the seed of a changed view.
        limits: of the changed views; they are part of the key.
    """
    packed = np.zeros(len(sha256), _KEY)
    packed["sha256"] = [bytes.fromhex(digest) for digest in sha256]
    packed["view"] = [number if number in (AS_IT_IS, MIRRORED) else _number(number, limits) for number in views]
    return packed


def _number(seed: int, limits: AugmentationLimits | None) -> int:
    values = ", ".join(f"{name}={value!r}" for name, value in asdict(limits or AugmentationLimits()).items())
    return int.from_bytes(hashlib.sha256(f"{seed} Limits({values})".encode()).digest()[:7], "little") + 1


def view_seeds(sha256: str, count: int) -> list[int]:
    """Seeds of the changed views 1, 2, … of one image: its own, and the same at any time."""
    return [(int(sha256[:12], 16) << 8) + number for number in range(1, count + 1)]


def augmented_image(
    image: npt.NDArray[np.uint8], view_: int, limits: AugmentationLimits | None = None
) -> npt.NDArray[np.uint8]:
    """uint8 (S, S) as the view shows it; see `keys`."""
    if view_ == AS_IT_IS:
        return image
    return image[:, ::-1] if view_ == MIRRORED else augmented_view(image, view_, limits)
