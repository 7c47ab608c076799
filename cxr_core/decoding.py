"""Decode images of strangers in child processes, which are killed at a limit of memory or time.

    file ── pipe ──► child: images.decode, images.reduce ── pipe ──► DecodedImage

A few children stay warm; one that was killed, or has had a large image, is replaced. Large images wait for the memory budget
of this process (memory_budget.py), which no child holds meanwhile. Whoever asks may give up at any time (`Patience`).
"""

import atexit
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxr_core import images, memory_budget, process
from cxr_core.decoding_process import HEAD, Request, pack
from cxr_core.dicom import DicomHeader
from cxr_core.errors import CxrError, UnreadableImage, WorkFailed
from cxr_core.images import DecodedImage, Header, Pixels

SECONDS = 20  # of processor time for one image; 100 megapixels of 16 bits take about 2
_WALL_SECONDS = 3 * SECONDS  # on a machine that has other work too
_MEGABYTES, _BYTES_PER_PIXEL = 256, 14  # a progressive JPEG in colour takes 11 bytes a pixel
_MOST_CHILDREN = 8
_MOST_HEAD = 2**16  # bytes of the head of a reply
_PIPE_BYTES = 2**20  # most files fit, so that they are handed over at once
_LOOK_SECONDS = 0.1
_DAMAGED = "The file is damaged and could not be decoded."
_VARIABLES = ("PATH", "LANG", "LC_ALL", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")  # that a child is given

_Source = bytes | Path | Callable[[], bytes]


class GivenUp(CxrError):
    """Whoever asked for an image does not wait for it any longer."""


@dataclass(frozen=True)
class Patience:
    """The time that somebody waits for images.

    Attributes:
        deadline: on the clock of time.monotonic.
        has_left: tells whether nobody waits any longer.
        sentence: what is said of images that come too late.
    """

    deadline: float = float("inf")
    has_left: Callable[[], bool] = lambda: False
    sentence: str = "Not looked at: there was no time left."

    def check(self) -> None:
        """Raise GivenUp at the end."""
        if time.monotonic() >= self.deadline or self.has_left():
            raise GivenUp(self.sentence)


PATIENT = Patience()


def decode(
    source: _Source,
    *,
    frame: int | None = None,
    sizes: Iterable[int] = (),
    longest: int | None = None,
    patience: Patience = PATIENT,
) -> DecodedImage:
    """Decode an image file in a child process: `images.decode` and `images.reduce`.

    Args:
        source: bytes, a path, or a function that reads the file, called only when a child is ready.
        frame, sizes, longest: see there.

    Raises:
        UnreadableImage: as `images.decode`, or it took too much memory or time.
        GivenUp: the end of patience.
        WorkFailed: no child process can be started.
    """
    patience.check()
    asked = list(dict.fromkeys(sizes))
    pixels = memory_budget.SMALL_PIXELS
    # A child that says that it is a large image is asked once more, when there is room for it.
    for last in (False, True):
        with memory_budget.reserve(pixels, patience.check), _POOL.child(patience) as child:
            content = source() if callable(source) else source
            request: Request = {
                "path": str(content) if isinstance(content, Path) else None,
                "frame": frame, "sizes": asked, "longest": longest, "pixels": pixels,
                "megabytes": _MEGABYTES + (_BYTES_PER_PIXEL * pixels + 2 * _size(content)) // 2**20,
                "seconds": SECONDS,
            }  # fmt: skip
            head, reply = child.ask(request, b"" if isinstance(content, Path) else content, patience)
            if last:
                child.end()  # what it took goes back to the machine at once
        if head.get("memory"):
            raise UnreadableImage(_too_much(f"more than {request['megabytes']:,} MB"))
        if "error" in head:
            raise UnreadableImage(str(head["error"])[:2000])
        if "whole" in head:
            return _image(head, reply, request)
        needed = head.get("pixels")
        if not isinstance(needed, int) or not pixels < needed <= images.MAX_PIXELS:
            break
        pixels = needed
    raise UnreadableImage(_DAMAGED)


def warm() -> None:
    """Start the child processes now, so that the first image need not wait for them."""
    _POOL.warm()


def close() -> None:
    """End the child processes; they start again when they are needed."""
    _POOL.close()


def _size(content: bytes | Path) -> int:
    if isinstance(content, bytes):
        return len(content)
    try:
        return content.stat().st_size
    except OSError:
        return 0  # the child says what is wrong


def _too_much(limit: str) -> str:
    return f"The image takes {limit} to decode, so it was not read. Reduce it or save it anew, and try again."


def _image(head: dict[str, Any], reply: memoryview, request: Request) -> DecodedImage:
    """The image that a child describes, checked, since the file may have made it say anything."""
    try:
        (height, width), shape = head["whole"], head["grey"]
        about, dicom = head["header"], head["dicom"]
        grey, *prepared = _parts(reply, [tuple(shape), *((size, size) for size in request["sizes"])])
        if not 1 <= int(height) * int(width) <= images.MAX_PIXELS:
            raise ValueError("impossible size")
        header = Header(
            str(about["format"]), str(about["mode"]), int(about["width"]), int(about["height"]), int(about["quality"])
        )
        facts = None
        if dicom is not None:
            shown = {str(name)[:100]: str(value)[:100] for name, value in dicom["facts"].items()}
            facts = DicomHeader(str(dicom["photometric"]), int(dicom["frames"]), shown, str(dicom["patient_key"])[:100])
        return DecodedImage(
            grey, header, float(head["colourfulness"]), facts, request["frame"], (int(height), int(width)),
            dict(zip(request["sizes"], prepared, strict=True)),
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UnreadableImage(_DAMAGED) from error


def _parts(reply: memoryview, shapes: list[tuple[int, int]]) -> Iterator[Pixels]:
    for height, width in shapes:
        if min(height, width) < 1 or height * width > len(reply):
            raise ValueError("pixels are missing")
        yield np.frombuffer(reply[: height * width], np.uint8).reshape(height, width)
        reply = reply[height * width :]
    if reply:
        raise ValueError("pixels are left over")


class _Child:
    """One child process; one thread at a time may ask it.

    Attributes:
        is_usable: False while it is asked, and for ever if that did not end well.
    """

    def __init__(self) -> None:
        variables = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cxr_core.decoding_process"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, bufsize=0, pipesize=_PIPE_BYTES,
                env={**variables, "PYTHONPATH": process.search_path(), "OPENBLAS_NUM_THREADS": "1"},
                start_new_session=True,  # the interrupt of a terminal is for the parent
            )  # fmt: skip
        except OSError as error:
            raise WorkFailed(f"The process that decodes images could not be started ({error.strerror}).") from error
        assert self._process.stdin and self._process.stdout
        self.is_usable = True
        self._in, self._out = self._process.stdin.fileno(), self._process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._writable, self._readable = select.poll(), select.poll()
        self._writable.register(self._in, select.POLLOUT)
        self._readable.register(self._out, select.POLLIN)

    @property
    def lives(self) -> bool:
        return self.is_usable and self._process.poll() is None

    def kill(self) -> None:
        """From any thread; whoever asks at the moment finds the process ended."""
        self.is_usable = False
        self._process.kill()

    def end(self) -> None:
        self.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                stream.close()

    def ask(self, request: Request, body: bytes, patience: Patience) -> tuple[dict[str, Any], memoryview]:
        """Head and body of the reply.

        Raises:
            UnreadableImage: it took too long, or ended the process.
            GivenUp: the end of patience.
        """
        self.is_usable, latest = False, time.monotonic() + _WALL_SECONDS

        def check() -> None:
            patience.check()
            if time.monotonic() > latest:
                raise UnreadableImage(_too_much(f"more than {_WALL_SECONDS} s"))

        try:
            for part in (pack(request, len(body)), body):
                self._write(memoryview(part), check)
            head_length, body_length = HEAD.unpack(self._read(HEAD.size, check))
            if head_length > _MOST_HEAD or body_length > _most_body(request):
                raise UnreadableImage(_DAMAGED)
            head = json.loads(bytes(self._read(head_length, check)))
            if not isinstance(head, dict):
                raise ValueError("no object")
            content = self._read(body_length, check)
            self.is_usable = True
            return head, content
        except (BrokenPipeError, EOFError, ValueError) as error:
            raise UnreadableImage(self._how_it_ended()) from error

    def _write(self, left: memoryview, check: Callable[[], None]) -> None:
        while left:
            if self._writable.poll(1000 * _LOOK_SECONDS):
                left = left[os.write(self._in, left) :]
            check()

    def _read(self, length: int, check: Callable[[], None]) -> memoryview:
        content = memoryview(bytearray(length))
        left = content
        while left:
            if not self._readable.poll(1000 * _LOOK_SECONDS):
                check()
            elif count := os.readv(self._out, [left]):
                left = left[count:]
            else:
                raise EOFError
        return content

    def _how_it_ended(self) -> str:
        try:
            code = self._process.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return _DAMAGED
        if code == -signal.SIGXCPU:
            return _too_much(f"more than {SECONDS} s of processor time")
        if code == -signal.SIGKILL:
            return (
                "The process that decoded the image was ended, as when memory is short. Try again, or reduce the image."
            )
        return "The file is damaged: it ended the process that decoded it."


def _most_body(request: Request) -> int:
    grey = images.MAX_PIXELS if request["longest"] is None else max(request["longest"], *request["sizes"], 1) ** 2
    return grey + sum(size * size for size in request["sizes"])


class _Pool:
    """Child processes, started when they are first needed."""

    def __init__(self, size: int):
        self._size = size
        self._idle: list[_Child] = []
        self._busy: set[_Child] = set()
        self._changed = threading.Condition()

    @contextmanager
    def child(self, patience: Patience) -> Iterator[_Child]:
        """A child that nobody else asks meanwhile; it is ended if it cannot be asked again."""
        child = self._take(patience)
        try:
            yield child
        finally:
            if not child.lives:
                child.end()
            with self._changed:
                self._busy.discard(child)
                if child.lives:
                    self._idle.append(child)
                self._changed.notify()

    def warm(self) -> None:
        with self._changed:
            while len(self._idle) + len(self._busy) < self._size:
                self._idle.append(_Child())

    def close(self) -> None:
        with self._changed:
            for child in (*self._idle, *self._busy):
                child.kill()

    def _take(self, patience: Patience) -> _Child:
        with self._changed:
            while True:
                patience.check()
                if self._idle:
                    child = self._idle.pop()
                    if not child.lives:
                        child.end()
                        continue
                elif len(self._busy) < self._size:
                    child = _Child()
                else:
                    self._changed.wait(_LOOK_SECONDS)
                    continue
                self._busy.add(child)
                return child


_POOL = _Pool(max(2, min(_MOST_CHILDREN, process.cpu_count())))
atexit.register(close)
