"""Statistics of the pixels of every image, stored in a table, so that an audit is a question to that table.

<dataset>/measures.parquet    one row a distinct file: COLUMNS, keyed by sha256; files that were measured once are not again

Pixels are the packed ones (`packing.SIZE`), so that images of different sizes can be compared.
"""

import logging
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from cxr_core import process, workspace
from cxr_core.data import index, packing
from cxr_core.data.progress import Progress, no_progress
from cxr_core.errors import stop_if_shortage

COLUMNS = ("sha256", "mean", "low", "high", "entropy", "sharpness", "border", "phash")
_log = logging.getLogger(__name__)
_CHUNK = 256
_ONE_PROCESS = 1024  # up to so many images, starting more processes costs more than it saves
_HASH = 12  # side of the perceptual hash: X-rays are so alike that the usual 8 × 8 calls strangers the same

Pixels = npt.NDArray[np.uint8]
PixelStats = tuple[float, float, float, float, float, float, str]


def dataset_stats(name: str, *, progress: Progress = no_progress) -> pd.DataFrame:
    """Statistics of every image of a dataset; files that are new since the last time are measured now.

    Returns:
        COLUMNS without sha256, row i is row i of the index:
        mean: of the grey values, 0 to 255.
        low, high: 5th and 95th percentile of the grey values.
        entropy: of the grey values' histogram, 0 to 8 bits.
        sharpness: variance of the Laplacian, grey values squared.
        border: mean of the outermost twentieth on each side.
        phash: perceptual hash, hexadecimal; equal for images that look alike at a glance (Zauner, "Implementation and
            Benchmarking of Perceptual Image Hash Functions", 2010: signs of the low cosine frequencies).

    Raises:
        UnknownName: no such dataset.
        WorkFailed: its index is damaged, or images have changed or gone.
    """
    hashes = index.column(name, "sha256")
    path = workspace.dataset(name) / "measures.parquet"
    table = _read(path)
    missing = np.flatnonzero(~hashes.isin(table["sha256"]).to_numpy() & ~hashes.duplicated().to_numpy())
    if len(missing):
        stats = _measure_all(packing.open_packed(name, progress=progress), missing, progress)
        new = pd.DataFrame(stats, columns=COLUMNS[1:])
        new.insert(0, "sha256", hashes.to_numpy()[missing])
        table = pd.concat([table, new]) if len(table) else new
        workspace.write_bytes(path, table.to_parquet(index=False))
    rows = pd.Index(table["sha256"]).get_indexer(pd.Index(hashes))
    return table.drop(columns="sha256").iloc[rows].reset_index(drop=True)


def _read(path: Path) -> pd.DataFrame:
    """The rows that are on disk, COLUMNS; none if the file is missing or damaged: they are measured again."""
    try:
        return pd.read_parquet(path, columns=list(COLUMNS)).drop_duplicates("sha256")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        stop_if_shortage(error, str(path))
        _log.warning("%s is damaged (%s). All images are measured again.", path, error)
    return pd.DataFrame(columns=list(COLUMNS))


def _measure_all(pixels: Pixels, rows: npt.NDArray[np.int64], progress: Progress) -> list[PixelStats]:
    path = str(getattr(pixels, "filename", ""))
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    stats: list[PixelStats] = []

    def take(results: Iterable[list[PixelStats]]) -> None:
        for chunk in results:
            stats.extend(chunk)
            progress("Measuring images", len(stats), len(rows))

    if len(rows) <= _ONE_PROCESS or process.cpu_count() == 1:
        take(pixel_stats(pixels[chunk]) for chunk in chunks)
    else:
        with process.process_pool() as pool:
            take(pool.map(_measure_rows, [path] * len(chunks), chunks))
    return stats


def _measure_rows(path: str, rows: npt.NDArray[np.int64]) -> list[PixelStats]:
    return pixel_stats(np.load(path, mmap_mode="r")[rows])


@threadpool_limits.wrap(limits=1)
def pixel_stats(pixels: Pixels) -> list[PixelStats]:
    """COLUMNS without sha256 for uint8 (N, S, S)."""
    histograms = np.stack([np.bincount(image.ravel(), minlength=256) for image in pixels])
    shares = histograms / histograms.sum(axis=1, keepdims=True)
    levels = np.arange(256)
    up_to = shares.cumsum(axis=1)
    low, high = ((up_to < share).sum(axis=1) for share in (0.05, 0.95))
    entropy = -np.where(shares > 0, shares * np.log2(np.maximum(shares, 1e-12)), 0).sum(axis=1)
    return list(
        zip(
            (histograms @ levels / pixels[0].size).tolist(),
            low.astype(float).tolist(),
            high.astype(float).tolist(),
            entropy.tolist(),
            _sharpness(pixels).tolist(),
            _border(pixels).tolist(),
            _hashes(pixels),
            strict=True,
        )
    )


def _sharpness(pixels: Pixels) -> npt.NDArray[np.float64]:
    variances = []
    for image in pixels:
        grey = image.astype(np.int16)
        edges = grey[1:-1, :-2] + grey[1:-1, 2:] + grey[:-2, 1:-1] + grey[2:, 1:-1] - 4 * grey[1:-1, 1:-1]
        variances.append(float(edges.astype(np.float32).var()))
    return np.asarray(variances)


def _border(pixels: Pixels) -> npt.NDArray[np.float64]:
    size = pixels.shape[1]
    edge = max(1, size // 20)
    whole = pixels.sum(axis=(1, 2), dtype=np.int64)
    inner = pixels[:, edge:-edge, edge:-edge].sum(axis=(1, 2), dtype=np.int64)
    means: npt.NDArray[np.float64] = (whole - inner) / (size * size - (size - 2 * edge) ** 2)
    return means


def _hashes(pixels: Pixels) -> list[str]:
    """Signs of the 12 × 12 lowest cosine frequencies against their median, the mean left out."""
    from scipy.fft import dct

    waves = dct(np.eye(pixels.shape[1], dtype=np.float32), axis=0)[:_HASH]
    frequencies = np.matmul(np.matmul(waves, pixels.astype(np.float32)), waves.T).reshape(len(pixels), -1)[:, 1:]
    signs = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return [row.tobytes().hex() for row in np.packbits(signs, axis=1)]
