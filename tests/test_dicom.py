"""DICOM: the grey that a viewer would show, nothing of the patient, and words for all that cannot be read."""

import hashlib
import zlib
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    RLELossless,
)

from cxr_core import dicom, images, workspace
from cxr_core.data import audit, datasets
from cxr_core.errors import UnreadableImage

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def made(pixels: npt.NDArray[Any], *, bits: int = 0, syntax: str = ExplicitVRLittleEndian, **elements: Any) -> Dataset:
    """A digital X-ray of these pixels: (H, W), (frames, H, W) with NumberOfFrames, or (H, W, 3)."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1.1", "1.2.3"
    dataset.PatientName, dataset.PatientID, dataset.PatientBirthDate = "Doe^Jane", "SECRET-7", "19700101"
    dataset.StudyDate, dataset.InstitutionName = "20260101", "Hospital"
    dataset.Modality, dataset.ViewPosition = "DX", "PA"
    colour = pixels.ndim == 3 and pixels.shape[-1] == 3
    dataset.SamplesPerPixel = 3 if colour else 1
    dataset.PhotometricInterpretation = "RGB" if colour else "MONOCHROME2"
    if colour:
        dataset.PlanarConfiguration = 0
    dataset.Rows, dataset.Columns = pixels.shape[:2] if colour else pixels.shape[-2:]
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored = bits or dataset.BitsAllocated
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def content(dataset: Dataset) -> bytes:
    out = BytesIO()
    dataset.save_as(out, enforce_file_format=True)
    return out.getvalue()


def grey(dataset: Dataset) -> npt.NDArray[np.uint8]:
    image = images.decode(content(dataset))
    assert image.header.format == "DICOM"
    assert (image.header.height, image.header.width) == image.grey.shape
    return image.grey


def refusal(source: bytes) -> str:
    with pytest.raises(UnreadableImage) as caught:
        images.decode(source)
    return str(caught.value)


def test_eight_bits_come_as_they_are():
    np.testing.assert_array_equal(grey(made(RAMP)), RAMP)


@pytest.mark.parametrize(("kind", "low"), [(np.uint16, 0), (np.int16, -2048)])
def test_without_a_window_the_full_range_of_the_stored_bits_is_shown(kind: type, low: int):
    values = (RAMP.astype(kind) + 1000).astype(kind)
    expected = (values.astype(float) - low) * 255 / 4095
    np.testing.assert_allclose(grey(made(values, bits=12)), expected, atol=0.5)


def test_monochrome1_is_turned_so_that_air_is_black():
    np.testing.assert_array_equal(grey(made(RAMP, PhotometricInterpretation="MONOCHROME1")), 255 - RAMP)


def test_a_window_cuts_off_what_lies_outside():
    found = grey(made(RAMP.astype(np.uint16), WindowCenter=100, WindowWidth=50))
    assert (found[RAMP <= 75] == 0).all()
    assert (found[RAMP >= 125] == 255).all()
    assert found[RAMP == 100] == 130  # PS3.3 C.11.2.1.2: (0.5 / 49 + 0.5) * 255


def test_of_several_windows_the_first_is_taken():
    one = grey(made(RAMP.astype(np.uint16), WindowCenter=100, WindowWidth=50))
    two = grey(made(RAMP.astype(np.uint16), WindowCenter=[100, 20], WindowWidth=[50, 10]))
    np.testing.assert_array_equal(one, two)


def test_the_window_is_in_rescaled_values():
    plain = grey(made(RAMP.astype(np.uint16), WindowCenter=100, WindowWidth=50, VOILUTFunction="LINEAR_EXACT"))
    scaled = grey(
        made(
            RAMP.astype(np.uint16),
            RescaleSlope=2,
            RescaleIntercept=-1000,
            WindowCenter=-800,
            WindowWidth=100,
            VOILUTFunction="LINEAR_EXACT",
        )
    )
    np.testing.assert_array_equal(plain, scaled)


def test_a_lookup_table_is_followed():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [256, 0, 16], (np.arange(255, -1, -1, dtype=np.uint16) * 257).tobytes()
    table["LUTData"].VR = "OW"
    found = grey(made(RAMP.astype(np.uint16), bits=8, VOILUTSequence=[table]))
    np.testing.assert_allclose(found, 255 - RAMP, atol=1)


def test_colour_becomes_luma():
    colour = np.stack([RAMP, RAMP.T, RAMP[::-1]], axis=-1)
    np.testing.assert_array_equal(grey(made(colour)), np.asarray(Image.fromarray(colour).convert("L")))


def test_one_frame_of_several_is_chosen():
    source = content(made(np.stack([RAMP, 255 - RAMP]), NumberOfFrames=2))
    np.testing.assert_array_equal(dicom.decode(source, max_pixels=1000, frame=1)[1], 255 - RAMP)
    with pytest.raises(UnreadableImage, match=r"2 frames, counted from 0\. Received: 2"):
        dicom.decode(source, max_pixels=1000, frame=2)


def compressed(syntax: str, encode: Callable[[npt.NDArray[np.uint8]], bytes]) -> Dataset:
    dataset = made(RAMP, syntax=syntax)
    dataset.PixelData = encapsulate([encode(RAMP)])
    dataset["PixelData"].VR = "OB"
    return dataset


def saved(kind: str, **options: Any) -> Callable[[npt.NDArray[np.uint8]], bytes]:
    def encode(pixels: npt.NDArray[np.uint8]) -> bytes:
        out = BytesIO()
        Image.fromarray(pixels).save(out, kind, **options)
        return out.getvalue()

    return encode


def test_compressed_pixels_are_read():
    run_length = made(RAMP)
    run_length.compress(RLELossless)
    np.testing.assert_array_equal(grey(run_length), RAMP)
    np.testing.assert_allclose(grey(compressed(JPEGBaseline8Bit, saved("JPEG", quality=100))), RAMP, atol=3)
    np.testing.assert_array_equal(grey(compressed(JPEG2000Lossless, saved("JPEG2000"))), RAMP)


def test_a_compression_without_a_decoder_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch):
    from pydicom.pixels import decoders

    monkeypatch.setattr(decoders.JPEGLosslessSV1Decoder, "_available", {})
    message = refusal(content(compressed(JPEGLosslessSV1, saved("JPEG"))))
    assert "JPEG Lossless" in message
    assert "pylibjpeg-libjpeg" in message


def test_deflated_files_are_refused_before_they_are_unpacked():
    plain = content(made(np.zeros((64, 64), np.uint8)))
    start = plain.index(b"\x08\x00\x16\x00")
    packer = zlib.compressobj(wbits=-15)
    body = packer.compress(plain[start:] + bytes(10_000_000)) + packer.flush()
    syntax = DeflatedExplicitVRLittleEndian.encode()
    head = plain[:start].replace(ExplicitVRLittleEndian.encode() + b"\0", syntax)
    if len(head) != start:  # the new name is longer: mend the lengths
        place = head.index(syntax) - 2
        head = head[:place] + len(syntax).to_bytes(2, "little") + head[place + 2 :]
    assert "is deflated" in refusal(head + body)


def test_sizes_beyond_the_limit_are_refused_before_decoding():
    huge = made(RAMP)
    huge.Rows = huge.Columns = 60_000
    assert "60,000 × 60,000 pixels; at most 100,000,000" in refusal(content(huge))
    many = made(RAMP, NumberOfFrames=100_000)
    assert "Expected: 1 to 1,000 frames" in refusal(content(many))


def test_a_file_without_pixels_says_so():
    report = made(RAMP)
    del report.PixelData
    assert "holds no image" in refusal(content(report))


def test_damaged_files_never_fail_in_any_other_way_than_unreadable():
    whole, rng = content(made(RAMP.astype(np.uint16), WindowCenter=100, WindowWidth=50)), np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole[: rng.integers(132, len(whole))] if rng.random() < 0.3 else whole)
        for place in rng.integers(132, len(damaged) + 1, 3):
            damaged[min(place, len(damaged) - 1)] = rng.integers(256)
        try:
            found = images.read(bytes(damaged))
        except UnreadableImage:
            continue
        assert (found.dtype, found.ndim) == (np.uint8, 2)


def test_what_is_shown_beside_the_image_never_tells_who_the_patient_is():
    told, _ = dicom.decode(content(made(RAMP)))
    assert told.facts == {
        "Modality": "DX",
        "View": "PA",
        "Grey scale": "MONOCHROME2",
        "Rows": "16",
        "Columns": "16",
        "Bits": "8",
    }
    for secret in ("Doe", "SECRET", "1970", "2026", "Hospital"):
        assert secret not in str(told)


def test_other_files_are_no_dicom(tmp_path: Path):
    assert not dicom.is_dicom(b"")
    assert not dicom.is_dicom(images.encode(RAMP))
    assert not dicom.is_dicom(tmp_path / "nowhere.dcm")
    (tmp_path / "a.dcm").write_bytes(content(made(RAMP)))
    assert dicom.is_dicom(tmp_path / "a.dcm")


def test_a_folder_of_dicom_files_becomes_a_dataset(tmp_path: Path):
    for number, label in enumerate(("normal", "viral") * 2):
        path = tmp_path / "set" / "train" / label / f"{number}.dcm"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(made(np.full((20, 30), number, np.uint8))))
    added = datasets.add(str(tmp_path / "set"), "films")
    assert (added.images, added.skipped) == (4, ())


def test_an_eight_bit_table_may_have_more_than_256_entries():
    table = Dataset()
    table.LUTDescriptor, table.LUTData = [4096, 0, 8], (np.arange(4096) // 16).tolist()
    table["LUTData"].VR = "US"
    np.testing.assert_array_equal(grey(made(RAMP.astype(np.uint16) * 16, bits=12, VOILUTSequence=[table])), RAMP)


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_windows_are_those_of_the_standard(function: str):
    from pydicom.pixels import apply_windowing

    dataset = made(RAMP.astype(np.uint16), bits=8, VOILUTFunction=function, WindowCenter=90, WindowWidth=100)
    np.testing.assert_allclose(grey(dataset), apply_windowing(RAMP, dataset), atol=0.5001)


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (JPEGBaseline8Bit, saved("JPEG")),
        (JPEG2000Lossless, saved("JPEG2000")),
        (RLELossless, lambda pixels: bytes([1, 0, 0, 0, 64]) + bytes(59) + b"\x81\0" * 2 * pixels.size),
    ],
)
def test_a_stream_larger_than_its_header_tells_is_refused_before_it_is_decoded(syntax: str, encode: Any):
    dataset = made(RAMP, syntax=syntax)
    dataset.PixelData = encapsulate([encode(np.zeros((256, 256), np.uint8))])
    dataset["PixelData"].VR = "OB"
    assert "not of the size that its header tells" in refusal(content(dataset))


def test_a_refusal_never_quotes_the_file():
    broken = made(RAMP, WindowCenter=100, WindowWidth=50)
    with pytest.warns(UserWarning, match="Invalid value for VR CS"):
        broken.PhotometricInterpretation = "DOE^JANE"
        source = content(broken)
    assert "DOE" not in refusal(source)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(UnreadableImage, match="There is no file"):
        images.decode(tmp_path / "none.dcm")


def test_a_damaged_file_is_named_by_its_path(tmp_path: Path):
    (tmp_path / "a.dcm").write_bytes(content(made(RAMP))[:200])
    with pytest.raises(UnreadableImage, match=r"^a\.dcm "):
        images.decode(tmp_path / "a.dcm")


@pytest.mark.parametrize("kind", ["bytes", "path"])
def test_a_file_is_parsed_once_and_its_header_is_beside_its_pixels(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    parsed: list[object] = []
    plain = pydicom.dcmread
    monkeypatch.setattr(pydicom, "dcmread", lambda *given, **named: parsed.append(given) or plain(*given, **named))
    source = content(made(np.stack([RAMP, 255 - RAMP]), NumberOfFrames=2))
    (tmp_path / "a.dcm").write_bytes(source)
    image = images.decode(source if kind == "bytes" else tmp_path / "a.dcm", frame=1)
    np.testing.assert_array_equal(image.grey, 255 - RAMP)
    assert image.frames == 2 and image.dicom is not None
    assert image.dicom.facts["View"] == "PA" and image.dicom.patient_key.startswith("dicom-")
    assert len(parsed) == 1


def patient_key(dataset: Dataset) -> str:
    return dicom.decode(content(dataset))[0].patient_key


def test_the_patient_is_known_by_a_hash_alone():
    keys = [patient_key(made(RAMP, PatientID=told)) for told in ("PAT1", " PAT1 ", "PAT2")]
    assert keys[0] == keys[1] != keys[2]
    assert keys[0] == "dicom-" + hashlib.sha256(b"PAT1").hexdigest()[:12]


@pytest.mark.parametrize("told", ["", "ANONYMOUS", "Anonymized", "0000", "unknown", "N/A"])
def test_an_id_that_everybody_has_tells_no_patient(told: str):
    assert patient_key(made(RAMP, PatientID=told)) == ""


def test_one_patient_in_two_splits_is_found_by_the_id_in_the_files(tmp_path: Path):
    rng = np.random.default_rng(0)
    for place, told in {"Training/a/1": "PAT1", "Training/b/2": "PAT1", "Test/a/3": "PAT1", "Test/b/4": "PAT2"}.items():
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (200, 200), dtype=np.uint8)
        (tmp_path / f"{place}.dcm").write_bytes(content(made(pixels, PatientID=told)))
    assert datasets.add(str(tmp_path), "set").patients == 2
    found = {one.kind: one.images for one in audit.run("set").findings}
    assert found["same_patient_in_two_splits"] == 3
    assert b"PAT1" not in (workspace.dataset("set") / "index.parquet").read_bytes()
