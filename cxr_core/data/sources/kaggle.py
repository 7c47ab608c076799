"""Download of Kaggle's "Chest X-Ray Images (Pneumonia)", the set of Kermany, Zhang and Goldbaum."""

import logging
from collections.abc import Callable
from pathlib import Path

from cxr_core import process
from cxr_core.data.progress import Progress, harmless
from cxr_core.errors import WorkFailed

HANDLE = "paultimothymooney/chest-xray-pneumonia/versions/2"
CITATION = (
    "Kermany, Zhang, Goldbaum: Labeled Optical Coherence Tomography (OCT) and Chest X-Ray Images for Classification. "
    "Mendeley Data, doi 10.17632/rscbjbr9sj.2, CC BY 4.0."
)
_MEGABYTES = 1229  # of the archive
_log = logging.getLogger(__name__)


def download(progress: Progress) -> Path:
    """Download the set, or what is missing of it, and return the folder in kagglehub's cache.

    Raises:
        WorkFailed: Kaggle cannot be reached, or the disk is full.
    """
    import kagglehub
    import requests

    try:
        return Path(_run(kagglehub.dataset_download, harmless(progress)))
    except requests.exceptions.RequestException as error:
        raise WorkFailed(
            "Kaggle could not be reached from this machine. Check the connection and try again (a broken download goes on "
            "where it stopped), or download the set in a browser (kaggle.com, 'Chest X-Ray Images (Pneumonia)') and add "
            "the zip."
        ) from error
    except OSError as error:
        raise WorkFailed(
            f"The download from Kaggle could not be written: {error.strerror or error}. Free some space, or point "
            "KAGGLEHUB_CACHE to a folder on another disk, and try again: it goes on where it stopped."
        ) from error


def _run(dataset_download: Callable[[str], str], progress: Progress) -> str:
    """Run the download, which an interrupt does not wait for, and report its megabytes every second."""
    return process.attended(
        lambda: dataset_download(HANDLE),
        lambda: progress("Downloading from Kaggle, MB", _downloaded_bytes() // 10**6, _MEGABYTES),
        seconds=1,
    )


def _downloaded_bytes() -> int:
    """Size of the archive so far, where the next try goes on; 0 if this version of kagglehub keeps it elsewhere."""
    try:
        from kagglehub.cache import get_cached_archive_path
        from kagglehub.handle import parse_dataset_handle

        return Path(get_cached_archive_path(parse_dataset_handle(HANDLE))).stat().st_size
    except FileNotFoundError:
        return 0
    except Exception:  # noqa: BLE001 - these functions are kagglehub's own, and only the meter needs them
        _log.debug("The size of the download is not known.", exc_info=True)
        return 0
