"""Turn uploads into single images: a file is itself, an archive is what is in it. Nothing is written to disk."""

import io
import zipfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from cxr_core.data import archive
from cxr_core.data.image_files import is_visible
from cxr_core.errors import BadDataset, UnreadableImage
from cxr_core.formatting import plural, printable
from cxr_core.inference.predict import InputFile

MAX_FILES = 2_000  # images of an archive; for more there is the command line
MAX_BYTES = 2 * 2**30  # of an archive, unpacked; one image at a time is in memory
MAX_DIRECTORY_BYTES = 4 * 2**20  # of an archive's table of contents, which takes ten times as much memory
MAX_FILE_BYTES = 200 * 2**20  # a 10,000 × 10,000 image of 16 bits, uncompressed


def input_files(files: Sequence[tuple[str, bytes | Path]]) -> tuple[list[InputFile], list[tuple[str, str]]]:
    """The images to be classified.

    Args:
        files: names and contents, of images and of .zip archives of images.

    Returns:
        The images, archives unpacked one member at a time as they are read; and (name, sentence) of what cannot be taken, or
        was left out of an archive.
    """
    items: list[InputFile] = []
    problems: list[tuple[str, str]] = []
    for given, content in files:
        name = printable(given)
        if not _is_zip(content):
            items.append(InputFile(name, content))
            continue
        try:
            members, others = _members(name, content)
        except BadDataset as error:
            problems.append((name, printable(str(error))))
            continue
        items += members
        if others:
            problems.append((name, _left_out(others)))
    return items, problems


def _is_zip(content: bytes | Path) -> bool:
    if isinstance(content, bytes):
        return content[:4] == b"PK\x03\x04" or content[:4] == b"PK\x05\x06"
    try:
        with content.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False  # the decoder says what is wrong


def _members(name: str, content: bytes | Path) -> tuple[list[InputFile], list[str]]:
    """The images of an archive, and the names of its other files."""
    try:
        with io.BytesIO(content) if isinstance(content, bytes) else content.open("rb") as file:
            end = zipfile._EndRecData(file)  # type: ignore[attr-defined]
        if end and end[zipfile._ECD_SIZE] > MAX_DIRECTORY_BYTES:  # type: ignore[attr-defined]
            raise BadDataset(f"{name} holds too many files. At most {MAX_FILES:,} images are taken; split it.")
        opened = zipfile.ZipFile(io.BytesIO(content) if isinstance(content, bytes) else content)
        wanted = archive.members(opened, name, most_files=MAX_FILES, most_bytes=MAX_BYTES, nameless=True)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        raise BadDataset(f"{name} is not a zip archive that can be read ({error}).") from error
    if not wanted:
        raise BadDataset(f"{name} holds no image files. Archives inside an archive are not opened.")
    taken = {member.filename for member in wanted}
    others = [member.filename for member in opened.infolist() if member.filename not in taken and not member.is_dir()]
    items = [InputFile(printable(f"{name}/{member.filename}"), partial(_read, opened, member)) for member in wanted]
    return items, [other for other in others if is_visible(other)]


def _left_out(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:5]) + (", …" if len(names) > 5 else "")
    return f"{plural(len(names), 'file')} in it left out, since only images are read: {shown}"


def _read(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    short = printable(member.filename.rsplit("/", 1)[-1])
    if member.file_size > MAX_FILE_BYTES:
        raise UnreadableImage(
            f"{short} has {member.file_size / 2**20:,.0f} MB; at most {MAX_FILE_BYTES >> 20} MB are read."
        )
    try:
        with opened.open(member) as source:
            content = source.read(member.file_size + 1)
    except (*archive.ARCHIVE_ERRORS, OSError) as error:
        raise UnreadableImage(f"{short} is damaged inside its archive and could not be unpacked.") from error
    if len(content) > member.file_size:
        raise UnreadableImage(f"{short} is larger than its archive says: it is damaged.")
    return content
