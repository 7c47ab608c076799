"""NIH ChestX-ray14: classes, patients and splits from its table of findings."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images
from cxr_core.data import audit, datasets, index, sources
from cxr_core.errors import BadDataset, UnknownName

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
ROWS = {
    "00000001_000.png": ("No Finding", "1"),
    "00000001_001.png": ("Pneumonia|Infiltration", "1"),
    "00000002_000.png": ("No Finding", "2"),
    "00000003_000.png": ("Mass", "3"),
    "00000004_000.png": ("Pneumonia|Mass", "4"),
    "00000005_000.png": ("Hernia", "5"),
}
Make = Callable[..., Path]


@pytest.fixture
def nih(tmp_path: Path) -> Make:
    """Makes a folder of empty images, in two subfolders as NIH ships them, with its table."""

    def make(table: str | None = None, rows: dict[str, tuple[str, str]] = ROWS) -> Path:
        root = tmp_path / "nih"
        for number, name in enumerate(rows):
            place = root / f"images_{number % 2:03}" / "images"
            place.mkdir(parents=True, exist_ok=True)
            (place / name).touch()
        lines = "".join(f"{name},{found},0,{patient},50,M,PA\n" for name, (found, patient) in rows.items())
        (root / "Data_Entry_2017_v2020.csv").write_text(HEADER + lines if table is None else table)
        return root

    return make


def told(listing: sources.ImageListing) -> dict[str, tuple[str, str, str]]:
    return {one.id.rsplit("/", 1)[-1]: (one.split, one.label, one.patient) for one in listing.files}


def test_no_finding_is_normal_and_any_other_abnormal(nih: Make):
    listing = sources.list_images(nih())
    assert listing.classes == ("normal", "abnormal")
    assert told(listing) == {
        name: ("train", "normal" if found == "No Finding" else "abnormal", patient)
        for name, (found, patient) in ROWS.items()
    }
    assert listing.skipped == ()
    assert "Wang" in listing.citation


def test_chosen_findings_make_classes_and_what_fits_none_or_several_is_left_out(nih: Make):
    listing = sources.list_images(nih(), findings={"pneumonia": ["Pneumonia"], "mass": ["Mass"]})
    labels = {name: label for name, (_, label, _) in told(listing).items()}
    assert labels == {
        "00000001_000.png": "normal",
        "00000001_001.png": "pneumonia",
        "00000002_000.png": "normal",
        "00000003_000.png": "mass",
    }
    assert sorted(Path(file).name for file, _ in listing.skipped) == ["00000004_000.png", "00000005_000.png"]


def test_an_unknown_finding_is_answered_with_those_of_the_table(nih: Make):
    with pytest.raises(
        UnknownName, match=r"no finding named 'Pneumonie'\. Did you mean 'Pneumonia'\? Known: Hernia, Infil"
    ):
        sources.list_images(nih(), findings={"sick": ["Pneumonie"]})


def test_splits_are_those_of_nihs_lists(nih: Make):
    root = nih()
    (root / "test_list.txt").write_text("00000001_000.png\n00000003_000.png\n")
    (root / "train_val_list.txt").write_text("00000001_001.png\n")
    found = told(sources.list_images(root))
    assert sorted(name for name, (split, *_) in found.items() if split == "test") == [
        "00000001_000.png",
        "00000003_000.png",
    ]


def test_files_and_rows_without_each_other_are_told(nih: Make):
    root = nih()
    (root / "images_000/images/00000009_000.png").touch()
    (root / "images_001/images/00000005_000.png").unlink()
    assert sources.list_images(root).skipped == (
        ("images_000/images/00000009_000.png", "The table of findings does not name it."),
        ("Data_Entry_2017_v2020.csv", "Not in the folder: 1 image of the table."),
    )


def test_a_table_elsewhere_with_marks_of_windows_is_read(nih: Make, tmp_path: Path):
    root = nih()
    table = (root / "Data_Entry_2017_v2020.csv").rename(tmp_path / "labels.csv")
    table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n"))
    assert len(sources.list_images(root, labels=table).files) == 6


@pytest.mark.parametrize("content", ["", "a,b\n1,2\n", "\0\1"])
def test_a_table_that_is_none_is_refused_with_what_was_expected(nih: Make, content: str):
    with pytest.raises(BadDataset, match="Data_Entry_2017"):
        sources.list_images(nih(content))


@pytest.mark.parametrize(
    "content", ["TOKEN\n1\n", "TOKEN,b\n1,2,3\n", "TOKEN\n1,2\n1,2,3\n", '"TOKEN', "Patient ID,TOKEN\n1,2\n"]
)
def test_a_refusal_quotes_nothing_of_a_file_that_is_no_table(nih: Make, content: str):
    with pytest.raises(BadDataset) as refusal:
        sources.list_images(nih(content), findings={"mass": ["Mess"]})
    assert "TOKEN" not in str(refusal.value) and "Expected: a CSV" in str(refusal.value)
    assert refusal.value.__cause__ is None


def test_findings_are_listed_of_images_that_are_in_the_folder_only(nih: Make):
    with pytest.raises(UnknownName) as refusal:
        sources.list_images(nih(HEADER + "other.png,TOKEN,0,1,50,M,PA\n"), findings={"mass": ["Mess"]})
    assert "TOKEN" not in str(refusal.value)


@pytest.mark.parametrize("file", ["Data_Entry_2017_v2020.csv", "test_list.txt"])
def test_a_job_of_a_page_follows_no_link_out_of_the_roots(
    nih: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str
):
    root = nih()
    outside = tmp_path / file
    if file == "test_list.txt":
        outside.write_text("\n".join(ROWS))
    else:
        (root / file).rename(outside)
    (root / file).symlink_to(outside)
    assert len(sources.list_images(root).files) == 6, "the command line follows it"
    monkeypatch.setenv("CXR_DATA_ROOTS", str(root))
    monkeypatch.setenv("CXR_FROM_PAGE", "1")
    if file == "test_list.txt":
        listing = sources.list_images(root)
        assert {image.split for image in listing.files} == {"train"}
        assert [name for name, _ in listing.skipped] == [file]
    else:
        with pytest.raises(BadDataset, match="its table of findings"):
            sources.list_images(root)


def test_a_list_of_a_split_that_is_no_text_is_refused(nih: Make):
    root = nih()
    (root / "test_list.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadDataset, match=r"test_list\.txt cannot be read as a list"):
        sources.list_images(root)


def test_a_table_that_is_not_there_is_refused(nih: Make):
    with pytest.raises(BadDataset, match=r"There is no table of findings at 'nowhere\.csv'"):
        datasets.add(str(nih()), "small", labels="nowhere.csv")


def test_findings_without_a_table_are_refused(xray_tree: Make):
    with pytest.raises(BadDataset, match="no table of them"):
        datasets.add(str(xray_tree()), "small", findings={"sick": ["Mass"]})


def test_it_becomes_a_dataset_with_patients(nih: Make):
    root = nih()
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        file.write_bytes(images.encode(np.full((20, 20), number, np.uint8), format="PNG"))
    made = datasets.add(str(root), "small")
    assert (made.images, made.patients, made.counts) == (6, 5, {"train": {"normal": 2, "abnormal": 4}})


@pytest.mark.parametrize("below", ["", "NIH/"])
def test_a_zip_with_its_table_and_lists_is_added_like_the_folder(nih: Make, tmp_path: Path, below: str):
    root = nih()
    for number, file in enumerate(sorted(root.rglob("*.png"))):
        file.write_bytes(images.encode(np.full((20, 20), number, np.uint8), format="PNG"))
    (root / "test_list.txt").write_text("00000001_000.png\n00000003_000.png\n")
    with zipfile.ZipFile(tmp_path / "nihf.zip", "w") as opened:
        for file in sorted(root.rglob("*.*")):
            opened.write(file, f"{below}{file.relative_to(root).as_posix()}")
    whole, packed = datasets.add(str(root), "whole"), datasets.add(str(tmp_path / "nihf.zip"), "packed")
    assert packed.counts == whole.counts
    assert "test" in packed.counts
    assert index.read("packed")["patient"].tolist() == index.read("whole")["patient"].tolist()
    assert "Wang" in packed.citation


def test_parts_of_nih_without_their_table_are_no_classes(nih: Make):
    root = nih()
    (root / "Data_Entry_2017_v2020.csv").unlink()
    with pytest.raises(BadDataset, match="its table of findings"):
        sources.list_images(root)


def test_the_real_sample_is_a_two_class_set_whose_resolution_the_audit_flags(nih_zip: Path):
    made = datasets.add(str(nih_zip), "nih")
    assert (made.images, made.classes) == (1000, ("normal", "abnormal"))
    table = index.read("nih")
    assert (table["patient"] == table["id"].str.extract(r"/(\d{8})_")[0]).all()
    found = {one.kind: one.images for one in audit.run("nih").findings}
    assert found["smaller_than_input"] == 1000
    assert found["other_colour_mode"] == 21
