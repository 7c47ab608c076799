"""Tensors of a PyTorch state dict, read without PyTorch. Nothing of a file is executed.

Such a file is a pickle, a small program, with the numbers beside it. Of that program's instructions only those are known here
that put names, numbers and tensors into dictionaries; every other one, and every name that is not of a tensor, is refused.
"""

import io
import pickletools
import struct
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from cxr_core.errors import BadInput

Array = npt.NDArray[Any]

# Kind of storage: how its numbers lie in the file. NumPy has no bfloat16, which is the upper half of a float32.
_STORAGES = {
    "torch DoubleStorage": "<f8",
    "torch FloatStorage": "<f4",
    "torch HalfStorage": "<f2",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "<i8",
    "torch IntStorage": "<i4",
    "torch ShortStorage": "<i2",
    "torch CharStorage": "i1",
    "torch ByteStorage": "u1",
    "torch BoolStorage": "?",
}
_DICT, _TENSOR, _PARAMETER = (
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
)
_NAMES = {*_STORAGES, _DICT, _TENSOR, _PARAMETER}
_MAGIC, _PROTOCOL = 0x1950A86A20F9469CFC6C, 1001  # how a file of the older format begins
_MOST_STEPS = 300_000  # of the program; a network of a thousand tensors takes thirty thousand
_MOST_AXES = 8
_ZIP_ERRORS = (zipfile.BadZipFile, NotImplementedError, RuntimeError, struct.error)


@dataclass(frozen=True)
class _Name:
    text: str


@dataclass(frozen=True)
class _Storage:
    kind: str
    key: str
    count: int

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype("<u2" if self.kind == "bfloat16" else self.kind)

    @property
    def bytes(self) -> int:
        return self.count * self.dtype.itemsize


@dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class StateDict(Mapping[str, Array]):
    """Tensors by name; each is read when it is asked for, so the file must stay open.

    bfloat16 comes as float32, everything else in its own type, in the order of axes that PyTorch has.
    """

    def __init__(self, file: BinaryIO, name: str) -> None:
        """Read the names and sizes, and check them against the file.

        Args:
            file: open for reading, may be moved about in.
            name: of the file, for messages.

        Raises:
            BadInput: it is no state dict, damaged, cut short, or has anything in it that is no tensor.
        """
        self._file, self._name = file, name
        try:
            file.seek(0)
            zipped = file.read(4) == b"PK\x03\x04"
            self._tensors, self._places = _of_zip(file) if zipped else _of_stream(file)
            for tensor in self._tensors.values():
                _check(tensor)
        except (ValueError, LookupError, ArithmeticError, OSError, EOFError, *_ZIP_ERRORS) as error:
            # Python's own words may quote the file.
            reason = str(error) if type(error) is _Refused else "it is damaged or cut short"
            raise BadInput(
                f"The weights file {name} is no state dict of PyTorch that can be read: {reason}."
            ) from error

    def __getitem__(self, key: str) -> Array:
        tensor = self._tensors[key]
        storage = tensor.storage
        self._file.seek(self._places[storage.key])
        content = self._file.read(storage.bytes)
        if len(content) != storage.bytes:
            raise BadInput(f"The weights file {self._name} is cut short.")
        values = np.frombuffer(content, storage.dtype)
        size = values.itemsize
        view = np.lib.stride_tricks.as_strided(
            values[tensor.offset :], tensor.shape, [size * stride for stride in tensor.strides], writeable=False
        )
        if storage.kind == "bfloat16":
            return (view.astype(np.uint32) << 16).view(np.float32)
        return np.array(view)

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


class _Refused(ValueError):
    """A file is refused, for a reason in words that may be shown."""


class _Reader:
    """The rest of a file, with no more memory taken than there are bytes left, whatever length a pickle claims."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def read(self, count: int) -> bytes:
        return self._file.read(max(0, min(count, self._size - self._file.tell())))

    def readline(self) -> bytes:
        return self._file.readline(1000)

    def tell(self) -> int:
        return self._file.tell()


def _size(file: BinaryIO) -> int:
    return file.seek(0, 2)


def _of_zip(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, int]]:
    """Tensors by name, and where each storage begins. Entries are stored as they are, as PyTorch does."""
    size = _size(file)
    with zipfile.ZipFile(file) as archive:
        entries = {entry.filename: entry for entry in archive.infolist()}
        for entry in entries.values():
            if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1 or entry.file_size > size:
                raise _Refused("an entry of the archive is compressed, encrypted or longer than the file")
        programs = [name for name in entries if name.count("/") == 1 and name.endswith("/data.pkl")]
        if len(programs) != 1:
            raise _Refused("it is an archive without one data.pkl in it")
        folder = programs[0].removesuffix("data.pkl")
        order = entries.get(f"{folder}byteorder")
        if order and (order.file_size > 10 or archive.read(order) != b"little"):
            raise _Refused("its numbers are not little-endian")
        tensors = _tensors(_run(io.BytesIO(archive.read(programs[0]))))
        places = {}
        for storage in {tensor.storage for tensor in tensors.values()}:
            held = entries.get(f"{folder}data/{storage.key}")
            if held is None or held.file_size != storage.bytes:
                raise _Refused("a tensor's numbers are missing, or more or fewer than it says")
            file.seek(held.header_offset)
            header = file.read(30)
            start = held.header_offset + 30 + int.from_bytes(header[26:28], "little")
            start += int.from_bytes(header[28:30], "little")
            if header[:4] != b"PK\x03\x04" or start + storage.bytes > size:
                raise _Refused("it is cut short")
            places[storage.key] = start
    return tensors, places


def _of_stream(file: BinaryIO) -> tuple[dict[str, _Tensor], dict[str, int]]:
    """The same of the older format: five pickles one after another, then the storages, each after its length."""
    size = _size(file)
    file.seek(0)
    reader = _Reader(file, size)
    if _run(reader) != _MAGIC or _run(reader) != _PROTOCOL:
        raise _Refused("it does not begin as one")
    system = _run(reader)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _Refused("its numbers are not little-endian")
    tensors, keys = _tensors(_run(reader)), _run(reader)
    storages = {tensor.storage.key: tensor.storage for tensor in tensors.values()}
    places = {}
    for key in keys if isinstance(keys, list) else []:
        count, storage = int.from_bytes(file.read(8), "little"), storages.get(key) if isinstance(key, str) else None
        if storage is None or key in places or count != storage.count or file.tell() + storage.bytes > size:
            raise _Refused("a tensor's numbers are more or fewer than it says, or it is cut short")
        places[key] = file.tell()
        file.seek(storage.bytes, 1)
    if set(places) != set(storages) or file.tell() != size:
        raise _Refused("a tensor's numbers are missing, or there are more than it says")
    return tensors, places


def _tensors(content: Any) -> dict[str, _Tensor]:
    """Those of a dictionary, or of the one named state_dict in it."""
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(isinstance(one, _Tensor) for one in content.values()):
        raise _Refused("it holds something else than tensors by their names")
    kinds: dict[str, _Storage] = {}
    for tensor in content.values():
        if kinds.setdefault(tensor.storage.key, tensor.storage) != tensor.storage:
            raise _Refused("two tensors disagree about the numbers that they share")
    return content


def _check(tensor: _Tensor) -> None:
    """A tensor lies within its storage, and names none of its numbers twice.

    Raises:
        _Refused: it does not.
    """
    numbers = (tensor.offset, *tensor.shape, *tensor.strides)
    if (
        len(tensor.shape) != len(tensor.strides)
        or len(tensor.shape) > _MOST_AXES
        or any(type(one) is not int or not 0 <= one <= tensor.storage.count for one in numbers)
    ):
        raise _Refused("a tensor has a shape that it cannot have")
    count, last = 1, tensor.offset
    for length, stride in zip(tensor.shape, tensor.strides, strict=True):
        count *= length
        last += (length - 1) * stride
    if count > tensor.storage.count or (count and last >= tensor.storage.count):
        raise _Refused("a tensor reaches beyond its numbers")


def _run(reader: _Reader | io.BytesIO) -> Any:
    """What one pickle makes of texts, numbers, tuples, lists, dictionaries and tensors.

    Raises:
        _Refused: it wants something else.
        ValueError, IndexError, KeyError: it is damaged.
    """
    program = _Program()
    for step, (opcode, argument, _) in enumerate(pickletools.genops(reader)):  # type: ignore[arg-type]
        if step > _MOST_STEPS:
            raise _Refused("it is far longer than that of a network")
        if opcode.name == "STOP":
            return program.stack.pop()
        if opcode.name not in _INSTRUCTIONS:
            raise _Refused("its pickle does something that making tensors does not need")
        _INSTRUCTIONS[opcode.name](program, argument)
    raise _Refused("it is cut short")


class _Program:
    """What a pickle has on its stack and in its memory, and the few instructions that change them."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def ignore(self, _: Any) -> None:
        """The pickle's version."""

    def mark(self, _: Any) -> None:
        self.marks.append(len(self.stack))

    def push(self, argument: Any) -> None:
        self.stack.append(argument)

    def remember(self, argument: Any) -> None:
        self.memo[argument] = self.stack[-1]

    def recall(self, argument: Any) -> None:
        self.stack.append(self.memo[argument])

    def take(self, count: int | None = None) -> list[Any]:
        """The last ones off the stack; without a count those since the last mark."""
        start = self.marks.pop() if count is None else len(self.stack) - count
        if not 0 <= start <= len(self.stack):
            raise _Refused("it is damaged")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken

    def append(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise _Refused("it is damaged")
        self.stack[-1].extend(values)

    def fill(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], dict) or not all(isinstance(key, str) for key in values[::2]):
            raise _Refused("it holds something else than tensors by their names")
        self.stack[-1].update(zip(values[::2], values[1::2], strict=True))

    def build(self, _: Any) -> None:
        """Versions of the layers, which a dictionary of tensors carries along, are left away."""
        self.take(1)
        if not isinstance(self.stack[-1], dict):
            raise _Refused("it makes something else than tensors")

    def name(self, argument: Any) -> None:
        if argument not in _NAMES:
            raise _Refused("it names a function or class that is none of a tensor, and would run it")
        self.stack.append(_Name(argument))


_INSTRUCTIONS: dict[str, Callable[[_Program, Any], None]] = {
    "PROTO": _Program.ignore,
    "MARK": _Program.mark,
    "NONE": lambda program, _: program.push(None),
    "NEWTRUE": lambda program, _: program.push(True),
    "NEWFALSE": lambda program, _: program.push(False),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _Program.push),
    "EMPTY_TUPLE": lambda program, _: program.push(()),
    "EMPTY_LIST": lambda program, _: program.push([]),
    "EMPTY_DICT": lambda program, _: program.push({}),
    "TUPLE": lambda program, _: program.push(tuple(program.take())),
    "TUPLE1": lambda program, _: program.push(tuple(program.take(1))),
    "TUPLE2": lambda program, _: program.push(tuple(program.take(2))),
    "TUPLE3": lambda program, _: program.push(tuple(program.take(3))),
    "APPEND": lambda program, _: program.append(program.take(1)),
    "APPENDS": lambda program, _: program.append(program.take()),
    "SETITEM": lambda program, _: program.fill(program.take(2)),
    "SETITEMS": lambda program, _: program.fill(program.take()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Program.remember),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Program.recall),
    "BUILD": _Program.build,
    "GLOBAL": _Program.name,
    "BINPERSID": lambda program, _: program.push(_storage(program.take(1)[0])),
    "REDUCE": lambda program, _: program.push(_made(*program.take(2))),
}


def _storage(about: Any) -> _Storage:
    """("storage", kind, key, where it lay, how many numbers[, None])."""
    match about:
        case ("storage", _Name(kind), str(key), str(_), int(count), *rest) if kind in _STORAGES and count >= 0:
            if rest in ([], [None]):
                return _Storage(_STORAGES[kind], key, count)
    raise _Refused("it has numbers of a kind that is not known")


def _made(function: Any, arguments: Any) -> Any:
    match function, arguments:
        case _Name(name), () if name == _DICT:
            return {}
        case _Name(name), (_Storage() as storage, int(offset), tuple(shape), tuple(strides), *_) if name == _TENSOR:
            return _Tensor(storage, offset, shape, strides)
        case _Name(name), (_Tensor() as tensor, *_) if name == _PARAMETER:
            return tensor
    raise _Refused("it makes something else than tensors")
