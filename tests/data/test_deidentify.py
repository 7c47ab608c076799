"""What a dataset keeps of DICOM files: the image, and nothing that tells who the patient is."""

import hashlib
import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import ImplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from cxr_core import dicom, workspace
from cxr_core.data import append, datasets, deidentify, index, packing
from cxr_core.errors import UnreadableImage, WorkFailed
from tests.test_dicom import compressed, content, made, saved

RNG = np.random.default_rng(21)
SECRETS = [b"Doe", b"1234567", b"19700101", b"20260101", b"Hospital", b"Dr. Who", b"room 7"]


def xray(patient: str = "1234567", *, bits: int = 12, **elements: object) -> Dataset:
    values = RNG.integers(0, 1 << bits, (40, 36)).astype(np.uint16 if bits > 8 else np.uint8)
    known = {"PatientID": patient, "ReferringPhysicianName": "Dr. Who", "WindowCenterWidthExplanation": "room 7"}
    return made(values, bits=bits, WindowCenter=2000, WindowWidth=3000, **{**known, **elements})


def archive(path: Path, patients: Sequence[str], **elements: object) -> Path:
    with zipfile.ZipFile(path, "w") as out:
        for number, patient in enumerate(patients):
            for label in ("normal", "sick"):
                out.writestr(f"train/{label}/{number}.dcm", content(xray(patient, **elements)))
    return path


@pytest.mark.parametrize(
    "kind", ["plain", "inverted", "8 bits", "colour", "rle", "jpeg 2000", "lut", "implicit", "frames"]
)
def test_a_copy_shows_the_same_image_and_names_nobody(kind: str) -> None:
    original = xray()
    if kind == "inverted":
        original.PhotometricInterpretation = "MONOCHROME1"
    elif kind == "8 bits":
        original = xray(bits=8)
    elif kind == "colour":
        original = made(RNG.integers(0, 256, (40, 36, 3), dtype=np.uint8), PatientID="1234567")
    elif kind == "rle":
        original.compress(RLELossless)
    elif kind == "jpeg 2000":
        original = compressed(JPEG2000Lossless, saved("JPEG2000"))
        original.PatientID = "1234567"
    elif kind == "frames":
        original = made(RNG.integers(0, 255, (3, 40, 36), dtype=np.uint8), NumberOfFrames=3, PatientID="1234567")
    elif kind in ("lut", "implicit"):
        item = Dataset()
        item.LUTDescriptor, item.LUTExplanation = [4096, 0, 12], "room 7"
        item.LUTData = np.arange(4095, -1, -1, dtype="<u2").tobytes()
        item["LUTData"].VR = "OW"
        original.VOILUTSequence = [item]
        if kind == "implicit":
            original.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    original.add_new(0x00091010, "LO", "Doe of room 7")
    before = b"Doe^Jane".ljust(128, b"\0") + content(original)[128:]
    copy, patient = deidentify.deidentified(before)
    header, grey = dicom.decode(before)
    kept, same = dicom.decode(copy)
    np.testing.assert_array_equal(same, grey)
    assert patient == header.patient_key == f"dicom-{hashlib.sha256(b'1234567').hexdigest()[:12]}"
    assert kept.facts == header.facts and not kept.patient_key
    assert not [secret for secret in SECRETS if secret in copy] and any(secret in before for secret in SECRETS)
    again = dcmread(io.BytesIO(copy))
    assert again.PatientIdentityRemoved == "YES" and again.SOPInstanceUID != "1.2.3" and "StudyDate" not in again
    assert deidentify.deidentified(before)[0] == copy


def test_what_cannot_be_read_has_no_copy_and_no_original(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(content(xray())[:2000])
    (tmp_path / "b.png").write_bytes(b"no DICOM")
    ((patient, reason),) = deidentify.rewrite(tmp_path, ["a.dcm", "b.png"]).values()
    assert patient == "" and "damaged" in reason and [path.name for path in tmp_path.iterdir()] == ["b.png"]
    with pytest.raises(UnreadableImage):
        deidentify.deidentified(b"no DICOM")


def test_a_dataset_keeps_no_names_and_its_patients_are_not_found_by_counting(tmp_path: Path, home: Path) -> None:
    source = archive(tmp_path / "a.zip", ["1234567", "7654321"])
    dataset = datasets.add(str(source), "clinic")
    for path in home.rglob("*"):
        assert not path.is_file() or not [secret for secret in SECRETS if secret in path.read_bytes()], path
    table = index.read("clinic")
    guessed = {f"dicom-{hashlib.sha256(b'%d' % number).hexdigest()[:12]}" for number in (1234567, 7654321)}
    assert dataset.patients == 2 and not guessed & set(table["patient"])
    secret = workspace.secret()
    assert set(table["patient"]) == {deidentify.pseudonym(key, secret) for key in guessed}
    assert dataset.patient_key == deidentify.key_id(secret)
    stored = [hashlib.sha256((index.root("clinic") / name).read_bytes()).hexdigest() for name in table["id"]]
    assert stored == table["sha256"].tolist()
    packing.open_packed("clinic", size=32)  # reads the copies, which are those of the index
    assert (home / ".secret").stat().st_mode & 0o777 == 0o600


def test_more_images_are_compared_and_named_as_they_are_kept(tmp_path: Path) -> None:
    first = archive(tmp_path / "a.zip", ["1234567"])
    datasets.add(str(first), "clinic")
    again = append.append_images("clinic", str(first))
    assert (again.added, again.already_there) == (0, 2)
    folder = tmp_path / "folder" / "train"
    for label in ("normal", "sick"):
        (folder / label).mkdir(parents=True)
        (folder / label / "new.dcm").write_bytes(content(xray("1234567")))
    grown = append.append_images("clinic", str(tmp_path / "folder"))
    assert grown.added == 2 and index.read("clinic")["patient"].nunique() == 1
    assert not [path for path in index.root("clinic").rglob("*.dcm") if b"1234567" in path.read_bytes()]
    assert b"1234567" in (folder / "sick" / "new.dcm").read_bytes()  # of one's own nothing is changed
    (workspace.home() / ".secret").write_bytes(bytes(32))
    (folder / "sick" / "newer.dcm").write_bytes(content(xray("1234567")))
    with pytest.raises(WorkFailed, match="one patient would be taken for two"):
        append.append_images("clinic", str(tmp_path / "folder"))


def test_a_dataset_of_an_earlier_version_keeps_its_plain_hashes(tmp_path: Path) -> None:
    datasets.add(str(archive(tmp_path / "a.zip", ["1234567"])), "clinic")
    plain = f"dicom-{hashlib.sha256(b'1234567').hexdigest()[:12]}"
    index.write(workspace.dataset("clinic"), index.read("clinic").assign(patient=plain))
    path = workspace.dataset("clinic") / "dataset.json"
    document = {name: value for name, value in workspace.read_json(path).items() if name != "patient_key"}
    workspace.write_json(path, document)
    append.append_images("clinic", str(archive(tmp_path / "b.zip", ["x", "1234567"])))
    assert plain in set(index.read("clinic")["patient"].iloc[2:])


def test_a_damaged_secret_is_told(home: Path) -> None:
    assert len(workspace.secret()) == 32 and workspace.secret() == workspace.secret()
    (home / ".secret").write_bytes(b"short")
    with pytest.raises(WorkFailed, match="holds 5 bytes instead of 32"):
        workspace.secret()
