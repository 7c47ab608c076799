"""The child process of decoding.py: reads requests from stdin, decodes, and writes what it sees to stdout.

    message   length of head (4 bytes) and of body (8 bytes), both little-endian; head (JSON); body
    request   head: Request; body: the file, unless there is a path
    reply     head: Refusal, or Image, whose body is the grey and then the prepared images

It handles bytes of strangers: nothing that it writes is ever unpickled or executed. It ends when its parent does.
"""

import json
import math
import os
import select
import struct
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

from cxr_core import images
from cxr_core.errors import TooManyPixels, UnreadableImage
from cxr_core.images import DecodedImage

HEAD = struct.Struct("<IQ")
ENDED_BY_PARENT = 3  # exit code


class Request(TypedDict):
    """A file to decode, and the limits of doing so.

    Attributes:
        path: of a file, by default the body.
        frame, sizes, longest: see `images.decode` and `images.reduce`.
        pixels: that may be decoded.
        megabytes: of memory that decoding may take.
        seconds: of processor time.
    """

    path: str | None
    frame: int | None
    sizes: list[int]
    longest: int | None
    pixels: int
    megabytes: int
    seconds: int


class Refusal(TypedDict, total=False):
    """The reason for no image: `error`, a sentence; `pixels`, more than were allowed; or `memory`, which it took too much of."""

    error: str
    pixels: int
    memory: bool


class Image(TypedDict):
    """A DecodedImage but for its pixels, of which the shape is told."""

    grey: list[int]
    whole: list[int]
    header: dict[str, Any]
    colourfulness: float
    dicom: dict[str, Any] | None


def pack(head: Any, body_length: int) -> bytes:
    text = json.dumps(head).encode()
    return HEAD.pack(len(text), body_length) + text


def answer(request: Request, content: bytes) -> tuple[Refusal | Image, list[bytes]]:
    """Decode one file: the head of the reply and the parts of its body."""
    source = Path(request["path"]) if request["path"] is not None else content
    try:
        whole = images.decode(source, frame=request["frame"], max_pixels=request["pixels"])
        image = images.reduce(whole, request["sizes"], longest=request["longest"])
    except TooManyPixels as error:
        if request["pixels"] < (pixels := error.width * error.height) <= images.MAX_PIXELS:
            return {"pixels": pixels}, []
        return {"error": str(TooManyPixels(error.width, error.height, images.MAX_PIXELS))}, []
    except (UnreadableImage, MemoryError) as error:
        return ({"memory": True} if _is_out_of_memory(error) else {"error": str(error)}), []
    return _described(image), [part.tobytes() for part in (image.grey, *image.prepared.values())]


def _described(image: DecodedImage) -> Image:
    facts = asdict(image.dicom) if image.dicom else None
    return {
        "grey": [*image.grey.shape],
        "whole": [*image.shape],
        "header": asdict(image.header),
        "colourfulness": image.colourfulness,
        "dicom": facts,
    }


def _is_out_of_memory(error: BaseException | None) -> bool:
    """True if a lack of memory is behind an error; Pillow's decoders tell it in words."""
    while error is not None:
        if isinstance(error, MemoryError) or (isinstance(error, OSError) and "out of memory" in str(error)):
            return True
        error = error.__cause__
    return False


def main() -> None:
    # What else this process may print goes nowhere: libraries remark on files in it.
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    limit = _limits()
    with os.fdopen(0, "rb", closefd=False) as source, os.fdopen(out, "wb", buffering=0) as target:
        while lengths := source.read(HEAD.size):
            head_length, body_length = HEAD.unpack(lengths)
            request: Request = json.loads(source.read(head_length))
            limit(request)
            try:
                head, body = answer(request, source.read(body_length))
            except MemoryError:
                head, body = {"memory": True}, []
            for part in (pack(head, sum(map(len, body))), *body):
                left = memoryview(part)
                while left:
                    left = left[target.write(left) :]


def _end_with_parent() -> None:
    """No request comes after the death of the parent, and one that is being decoded is of no use to anybody."""
    parent = select.poll()
    parent.register(0, 0)  # the end of the pipe is told, whatever lies in it
    parent.poll()
    os._exit(ENDED_BY_PARENT)


def _limits() -> Callable[[Request], None]:
    """A function that sets the limits of a request, counted from what this process has taken so far."""
    if sys.platform == "win32":
        return lambda _: None
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # decoding writes no file
    hardest = {kind: resource.getrlimit(kind)[1] for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU)}

    def lower(kind: int, value: int) -> None:
        most = hardest[kind]
        resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))

    def limit(request: Request) -> None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        lower(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + request["seconds"])
        try:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
        except OSError:  # no such file system: what is asked for is not known to be kept
            return
        lower(resource.RLIMIT_AS, pages * resource.getpagesize() + request["megabytes"] * 2**20)

    return limit


if __name__ == "__main__":
    main()
