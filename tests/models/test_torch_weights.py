"""PyTorch state dicts: what they hold comes out exactly; whatever else a file may be is refused, and nothing of it is run."""

import io
import pickle
import random
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from cxr_core.errors import BadInput
from cxr_core.models import torch_weights
from cxr_core.models.torch_weights import StateDict

Arrays = dict[str, npt.NDArray[Any]]
KINDS = {
    "f8": "Double",
    "f4": "Float",
    "f2": "Half",
    "i8": "Long",
    "i4": "Int",
    "i2": "Short",
    "i1": "Char",
    "u1": "Byte",
}
MADE: Arrays = {
    "conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2) / 7,
    "norm.running_var": np.array([0.5, 2.0], np.float64),
    "norm.num_batches_tracked": np.array(7, np.int64),
    "half": np.array([1.5, -2.0, 65504.0], np.float16),
    "none.at.all": np.array([1, 0, 1], np.uint8),
}


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def number(value: int) -> bytes:
    return b"J" + struct.pack("<i", value) if abs(value) < 2**31 else pickle.dumps(value, 2)[2:-1]


def numbers(values: tuple[int, ...]) -> bytes:
    return b"(" + b"".join(map(number, values)) + b"t"


def tensor(kind: str, key: str, count: int, shape: tuple[int, ...], strides: tuple[int, ...], offset: int = 0) -> bytes:
    """The instructions that PyTorch writes for a tensor."""
    storage = b"(" + text("storage") + f"ctorch\n{kind}Storage\n".encode() + text(key) + text("cpu") + number(count)
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        + (storage + b"tQ" + number(offset) + numbers(shape) + numbers(strides))
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )


def usual(key: str, values: npt.NDArray[Any]) -> bytes:
    strides = tuple(stride // values.itemsize for stride in values.strides)
    return tensor(KINDS[values.dtype.str[1:]], key, values.size, values.shape, strides)


def program(tensors: dict[str, bytes]) -> bytes:
    """The pickle of an OrderedDict, with the versions of layers that PyTorch adds."""
    pairs = b"".join(text(name) + made for name, made in tensors.items())
    return b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01(" + pairs + b"u}q\x02" + text("_metadata") + b"}sb."


def older(content: bytes, storages: list[tuple[str, int, bytes]], *, system: object = None) -> bytes:
    """A file of the format before PyTorch 1.6. `storages` are (key, how many, bytes)."""
    about = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"long": 4}} if system is None else system
    keys = [key for key, _, _ in storages]
    head = [pickle.dumps(one, 2) for one in (0x1950A86A20F9469CFC6C, 1001, about)]
    numbers_ = [struct.pack("<q", count) + held for _, count, held in storages]
    return b"".join([*head, content, pickle.dumps(keys, 2), *numbers_])


def zipped(content: bytes, storages: list[tuple[str, int, bytes]], *, compression: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("some/data.pkl", content)
        archive.writestr("some/byteorder", "little")
        for key, _, held in storages:
            archive.writestr(f"some/data/{key}", held)
        archive.writestr("some/version", "3\n")
    return file.getvalue()


FORMATS = {"older": older, "zipped": zipped}
every_format = pytest.mark.parametrize("made", FORMATS.values(), ids=FORMATS)


def file_of(arrays: Arrays, made: Callable[..., bytes]) -> bytes:
    content = program({name: usual(str(place), one) for place, (name, one) in enumerate(arrays.items())})
    return made(content, [(str(place), one.size, one.tobytes()) for place, one in enumerate(arrays.values())])


def one_tensor(made: Callable[..., bytes], instructions: bytes, held: bytes = bytes(16), count: int = 4) -> bytes:
    return made(program({"a": instructions}), [("0", count, held)])


def read(content: bytes) -> Arrays:
    return dict(StateDict(io.BytesIO(content), "some.pth"))


def refused(content: bytes) -> str:
    with pytest.raises(BadInput) as caught:
        read(content)
    said = str(caught.value)
    assert said.startswith("The weights file some.pth is no state dict of PyTorch that can be read: ")
    assert said.endswith(".") and "\n" not in said
    return said


@every_format
def test_names_and_numbers_come_out_as_they_were_put_in(made: Callable[..., bytes]):
    found = read(file_of(MADE, made))
    assert list(found) == list(MADE)
    for name, values in MADE.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        np.testing.assert_array_equal(found[name], values)


@every_format
def test_bfloat16_becomes_the_same_number_in_float32(made: Callable[..., bytes]):
    values = np.array([1.0, -2.5, 3.140625, 0.0], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    found = read(one_tensor(made, tensor("BFloat16", "0", 4, (2, 2), (2, 1)), upper))["a"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, values.reshape(2, 2))


@every_format
def test_tensors_may_share_numbers_and_lie_in_another_order(made: Callable[..., bytes]):
    held = np.arange(6, dtype=np.float32)
    content = program({
        "transposed": tensor("Float", "0", 6, (3, 2), (1, 3)),
        "last": tensor("Float", "0", 6, (2,), (1,), offset=4),
    })  # fmt: skip
    found = read(made(content, [("0", 6, held.tobytes())]))
    np.testing.assert_array_equal(found["transposed"], held.reshape(2, 3).T)
    np.testing.assert_array_equal(found["last"], [4, 5])


def test_a_checkpoint_with_a_state_dict_in_it_gives_that():
    inner = b"ccollections\nOrderedDict\n)R(" + text("a") + tensor("Float", "0", 4, (4,), (1,)) + b"u"
    content = b"\x80\x02}(" + text("epoch") + number(3) + text("state_dict") + inner + b"u."
    assert list(read(zipped(content, [("0", 4, bytes(16))]))) == ["a"]


class Runs:
    """Pickled, it calls a function when it is read in the usual way."""

    def __init__(self, *call: Any) -> None:
        self._call = call

    def __reduce__(self) -> Any:
        return self._call[0], self._call[1:]


@every_format
@pytest.mark.parametrize("kind", ["system", "eval", "getattr", "import", "open"])
def test_nothing_of_a_file_is_run(tmp_path: Path, made: Callable[..., bytes], kind: str):
    import os

    witness = tmp_path / "witness"
    calls: dict[str, tuple[Any, ...]] = {
        "system": (os.system, f"touch {witness}"),
        "eval": (eval, f"open({str(witness)!r}, 'w')"),
        "getattr": (getattr, Runs(__import__, "os"), "system"),
        "import": (__import__, "antigravity"),
        "open": (open, str(witness), "w"),
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        refused(made(pickle.dumps({"a": Runs(*calls[kind])}, protocol), []))
    assert not witness.exists()
    pickle.loads(pickle.dumps(Runs(*calls["open"])))
    assert witness.exists()  # the usual way would have


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x80\x02cposix\nsystem\n" + text("true") + b"\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n)\x81.",  # NEWOBJ
        b"\x80\x02(itorch\nFloatStorage\n.",  # INST
        b"\x80\x02ctorch\nload\n" + text("x") + b"\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + text("x") + b"\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n" + text("x") + b"\x85R.",
        b"\x80\x02" + text("x") + b"Q.",
        b"\x80\x02ctorch\nFloatStorage\n)R.",
        b"\x80\x02]" + text("x") + b"b.",
        b"\x80\x02\x82\x01.",  # EXT1
    ],
)
@every_format
def test_other_instructions_and_names_are_refused(made: Callable[..., bytes], instructions: bytes):
    refused(made(instructions, []))


@pytest.mark.parametrize(
    "instructions",
    [
        b"\x80\x02r\xff\xff\xff\xff.",  # memory of four thousand million places
        b"\x80\x02X\xff\xff\xff\xffabc.",
        b"\x80\x02\x8b\xff\xff\xff\x7fabc.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7fabc.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f}.",
        b"\x80\x02j\x00\x00\x00\x05.",
        b"\x80\x02t.",
        b"\x80\x02\x87.",
        b"\x80\x02.",
        b"\x80\x02u.",
        b"\x80\x02}a.",
        b"\x80\x02(}" + text("a") + b"u.",
        b"",
        b"\xff\xfe",
        b"\x80\x02]" + b"q\x01h\x01a.",  # a list in itself
    ],
)
@every_format
def test_a_pickle_that_is_damaged_or_claims_the_absurd_is_refused(made: Callable[..., bytes], instructions: bytes):
    refused(made(instructions, []))


@every_format
def test_a_pickle_without_end_is_given_up(made: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch_weights, "_MOST_STEPS", 1000)
    assert "far longer" in refused(made(b"\x80\x02" + b"]" * 1100 + b".", []))


@every_format
@pytest.mark.parametrize(
    ("shape", "strides", "offset"),
    [
        ((5,), (1,), 0),
        ((4,), (1,), 1),
        ((2, 2), (3, 1), 0),
        ((-4,), (1,), 0),
        ((4,), (-1,), 3),
        ((4,), (1,), -1),
        ((2, 2), (2,), 0),
        ((10**9, 10**9), (0, 0), 0),
        ((8,), (0,), 0),
        ((2**62, 2**62), (1, 1), 0),
        ((1,) * 40, (1,) * 40, 0),
    ],
)
def test_a_tensor_beyond_its_numbers_is_refused(
    made: Callable[..., bytes], shape: tuple[int, ...], strides: tuple[int, ...], offset: int
):
    assert "a tensor " in refused(one_tensor(made, tensor("Float", "0", 4, shape, strides, offset)))


@every_format
@pytest.mark.parametrize("count", [-1, 0, 3, 5, 10**18])
def test_a_storage_of_another_length_than_it_says_is_refused(made: Callable[..., bytes], count: int):
    said = tensor("Float", "0", count, (1,), (1,))
    refused(one_tensor(made, said))
    refused(one_tensor(made, said, count=count))  # the older format says it twice


@every_format
def test_a_storage_of_a_kind_that_is_not_known_is_refused(made: Callable[..., bytes]):
    for kind in ("ComplexFloat", "QInt8", "Untyped"):
        refused(one_tensor(made, tensor(kind, "0", 4, (4,), (1,))))
    both = program({"a": tensor("Float", "0", 4, (4,), (1,)), "b": tensor("Int", "0", 4, (4,), (1,))})
    assert "disagree" in refused(made(both, [("0", 4, bytes(16))]))


@every_format
def test_missing_numbers_are_noticed(made: Callable[..., bytes]):
    refused(made(program({"a": tensor("Float", "1", 4, (4,), (1,))}), [("0", 4, bytes(16))]))
    refused(made(program({"a": tensor("Float", "0", 4, (4,), (1,))}), []))


@every_format
@pytest.mark.parametrize("content", [b"\x80\x02]q\x00.", b"\x80\x02K\x01.", b"\x80\x02}" + text("a") + b"K\x01s."])
def test_what_is_no_dictionary_of_tensors_is_refused(made: Callable[..., bytes], content: bytes):
    assert "something else than tensors" in refused(made(content, []))


@every_format
def test_a_file_cut_anywhere_is_refused(made: Callable[..., bytes]):
    content = file_of(MADE, made)
    for length in range(0, len(content), 5):
        refused(content[:length])


@every_format
def test_a_file_with_changed_bytes_is_read_or_refused_in_a_sentence(made: Callable[..., bytes]):
    content, rng = file_of(MADE, made), random.Random(4)
    for _ in range(300):
        changed = bytearray(content)
        for _ in range(rng.choice((1, 1, 2, 8))):
            changed[rng.randrange(len(changed))] = rng.randrange(256)
        try:
            read(bytes(changed))
        except BadInput as error:
            assert "\n" not in str(error)


def test_other_byte_orders_and_compressed_archives_are_refused():
    held = [("0", 4, bytes(16))]
    content = program({"a": tensor("Float", "0", 4, (4,), (1,))})
    assert "little-endian" in refused(older(content, held, system={"little_endian": False}))
    assert "little-endian" in refused(older(content, held, system=[]))
    assert "compressed" in refused(zipped(content, held, compression=zipfile.ZIP_DEFLATED))
    assert read(zipped(content, held))
    big = zipped(content, held).replace(b"little", b"bigbig")
    refused(big)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"hello", bytes(5000), b"\x89HDF\r\n\x1a\n" + bytes(500)])
def test_another_kind_of_file_is_refused(content: bytes):
    refused(content)


def test_a_file_that_shrinks_after_it_was_opened_is_noticed(tmp_path: Path):
    path = tmp_path / "a.pth"
    path.write_bytes(content := file_of(MADE, older))
    with path.open("rb", buffering=0) as file:
        state = StateDict(file, path.name)  # type: ignore[arg-type]
        path.write_bytes(content[:-5])
        with pytest.raises(BadInput, match=r"a\.pth is cut short"):
            dict(state)
