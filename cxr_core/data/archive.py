"""Unpack an archive of images without trusting it."""

import errno
import lzma
import stat
import struct
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from cxr_core import dicom
from cxr_core.data.image_files import is_image, is_visible
from cxr_core.data.progress import Progress, no_progress
from cxr_core.errors import BadDataset, WorkFailed, stop_if_shortage

MAX_FILES = 2_000_000
MAX_BYTES = 200 * 2**30  # NIH ChestX-ray14, the largest set in sight, has 45 GB
MAX_RATIO = 100  # images hardly compress: Deflate's limit is about 1000, a bomb's mark
_BLOCK = 2**20
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)  # of a member
_BAD_NAME = (errno.ENAMETOOLONG, errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ)


@dataclass(frozen=True)
class Extraction:
    """Number of files written, and (file, reason) of those that could not be."""

    files: int
    skipped: tuple[tuple[str, str], ...]


def extract(archive: Path, folder: Path, progress: Progress = no_progress, *, also: Sequence[str] = ()) -> Extraction:
    """Unpack the image files of a .zip below `folder`; everything else in it is left out.

    Args:
        archive: a .zip file.
        folder: exists or is made.
        progress: counts files.
        also: names of files to unpack besides images, with * for any part.

    Raises:
        BadDataset: not a zip, damaged, encrypted, a member that points outside, or one that would blow up.
        WorkFailed: the disk is full.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            wanted = members(opened, archive.name, also=also)
            folder.mkdir(parents=True, exist_ok=True)
            skipped = []
            for done, member in enumerate(wanted):
                if reason := _write(opened, member, folder):
                    skipped.append((member.filename[:200], reason))
                progress("Unpacking", done + 1, len(wanted))
            return Extraction(len(wanted) - len(skipped), tuple(skipped))
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, ValueError, struct.error) as error:
        hint = " It is packed in a way that is not supported." if isinstance(error, NotImplementedError) else ""
        raise BadDataset(
            f"{archive.name} is not a zip archive that can be read.{hint}"
        ) from None  # `error` quotes the file


def members(
    opened: zipfile.ZipFile,
    name: str,
    *,
    also: Sequence[str] = (),
    nameless: bool = False,
    most_files: int = 0,
    most_bytes: int = 0,
) -> list[zipfile.ZipInfo]:
    """The image files in an archive called `name`, seen to be harmless.

    Args:
        also: names of files to take besides images, with * for any part.
        nameless: take DICOM files too that are called as on a hospital's disc, see `dicom.is_nameless`.
        most_files: how many it may hold, by default MAX_FILES.
        most_bytes: to how many they may unpack, by default MAX_BYTES.

    Raises:
        BadDataset: a member that points outside, a link, encrypted, too much, or one that would blow up.
    """
    members = [member for member in opened.infolist() if not member.filename.endswith(("/", "\\"))]
    _check_names(name, members)
    wanted = [
        member
        for member in members
        if _is_wanted(member.filename, also) or (nameless and _is_nameless_dicom(opened, member))
    ]
    _check(name, wanted, most_files or MAX_FILES, most_bytes or MAX_BYTES)
    return wanted


def _check_names(archive: str, members: list[zipfile.ZipInfo]) -> None:
    """An archive with any name that points outside is not to be trusted, whatever of it would be unpacked."""
    for member in members:
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if not path.parts:
            raise BadDataset(f"{archive} holds a file without a name: it is damaged. Nothing was unpacked.")
        if path.is_absolute() or ".." in path.parts or ":" in path.parts[0] or "\0" in member.filename:
            raise BadDataset(
                f"{archive} holds '{member.filename[:200]}', a name that points outside the archive. "
                "Nothing was unpacked. Get the archive from a source that you trust."
            )


def _check(archive: str, members: list[zipfile.ZipInfo], most_files: int, most_bytes: int) -> None:
    """Refuse what would be unpacked, if it is too much, a link, encrypted, or would blow up."""
    size = sum(member.file_size for member in members)
    if len(members) > most_files or size > most_bytes:
        raise BadDataset(
            f"{archive} would unpack to {len(members):,} files and {size / 2**30:,.1f} GB; "
            f"at most {most_files:,} files and {most_bytes / 2**30:,.0f} GB are taken. Unpack it yourself and add the folder."
        )
    for member in members:
        if stat.S_ISLNK(member.external_attr >> 16):
            raise BadDataset(f"{archive} holds a link, '{member.filename[:200]}'. Only plain files are taken.")
        if member.flag_bits & 1:
            raise BadDataset(f"{archive} is encrypted. Unpack it yourself and add the folder.")
        if member.file_size > 2**20 and member.file_size > MAX_RATIO * max(member.compress_size, 1):
            raise BadDataset(
                f"{archive} holds '{member.filename[:200]}', which would grow "
                f"{member.file_size // max(member.compress_size, 1):,}-fold: a zip bomb. Nothing was unpacked."
            )


def _is_nameless_dicom(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bool:
    if not is_visible(member.filename) or not dicom.is_nameless(member.filename):
        return False
    try:
        with opened.open(member) as source:
            return dicom.is_dicom(source.read(132))
    except (*ARCHIVE_ERRORS, OSError) as error:
        stop_if_shortage(error, f"'{member.filename[:200]}'")
        return False


def _is_wanted(name: str, also: Sequence[str]) -> bool:
    file = PurePosixPath(name.replace("\\", "/")).name
    return is_image(name) or (is_visible(name) and any(fnmatchcase(file, pattern) for pattern in also))


def _write(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> str:
    """Copy one member in blocks, never more bytes than its header announced; or say why this disk cannot hold its name."""
    target = folder.joinpath(*PurePosixPath(member.filename.replace("\\", "/")).parts)
    left = member.file_size
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as out, opened.open(member) as source:  # a damaged member leaves an empty file to report
            while block := source.read(_BLOCK):
                left -= len(block)
                if left < 0:
                    raise BadDataset(f"'{member.filename[:200]}' is larger than the archive says: it is damaged.")
                out.write(block)
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError):
        return ""  # a damaged member: what could be read stays, and is reported with the other unreadable images
    except OSError as error:
        if error.errno in _BAD_NAME:
            return f"This disk cannot hold a file of this name ({error.strerror}). Rename it to take it in."
        raise WorkFailed(f"Could not unpack '{member.filename[:200]}': {error.strerror or error}.") from error
    return ""
