"""Sources: a folder tree is read once, with the right split, class and patient for every image."""

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cxr_core.data import sources
from cxr_core.data.progress import no_progress
from cxr_core.errors import BadDataset, WorkFailed

KAGGLE = (
    "train/NORMAL/IM-0115-0001.jpeg",
    "train/NORMAL/NORMAL2-IM-0246-0001-0002.jpeg",
    "train/PNEUMONIA/person1_bacteria_1.jpeg",
    "train/PNEUMONIA/person1_virus_6.jpeg",
    "val/NORMAL/NORMAL2-IM-1427-0001.jpeg",
    "val/PNEUMONIA/person1946_bacteria_4874.jpeg",
    "test/NORMAL/IM-0001-0001.jpeg",
    "test/PNEUMONIA/person1_virus_6.jpeg",
)


def tree(root: Path, *names: str) -> Path:
    """Empty files: a listing reads names only."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def rows(listing: sources.Listing) -> dict[str, tuple[str, str, str]]:
    return {one.id: (one.split, one.label, one.patient) for one in listing.found}


def patient_of(root: Path, name: str) -> str:
    other = "train/zzz/other.png"
    return rows(sources.list_images(tree(root, name, other)))[name][2]


def test_in_kaggles_set_the_folder_and_the_name_tell_class_and_patient(tmp_path: Path):
    listing = sources.list_images(tree(tmp_path, *KAGGLE))
    assert listing.classes == ("normal", "viral", "bacterial")
    assert rows(listing) == {
        "train/NORMAL/IM-0115-0001.jpeg": ("train", "normal", "train/normal/IM-115"),
        "train/NORMAL/NORMAL2-IM-0246-0001-0002.jpeg": ("train", "normal", "train/normal/NORMAL2-IM-246"),
        "train/PNEUMONIA/person1_virus_6.jpeg": ("train", "viral", "train/viral/1"),
        "train/PNEUMONIA/person1_bacteria_1.jpeg": ("train", "bacterial", "train/bacterial/1"),
        "val/NORMAL/NORMAL2-IM-1427-0001.jpeg": ("val", "normal", "train/normal/NORMAL2-IM-1427"),
        "val/PNEUMONIA/person1946_bacteria_4874.jpeg": ("val", "bacterial", "train/bacterial/1946"),
        "test/NORMAL/IM-0001-0001.jpeg": ("test", "normal", "test/normal/IM-1"),
        "test/PNEUMONIA/person1_virus_6.jpeg": ("test", "viral", "test/viral/1"),
    }


def test_images_are_sorted_by_split_class_and_name(tmp_path: Path):
    found = sources.list_images(tree(tmp_path, *reversed(KAGGLE))).found
    assert [(one.split, one.label) for one in found] == [
        ("train", "normal"),
        ("train", "normal"),
        ("train", "viral"),
        ("train", "bacterial"),
        ("val", "normal"),
        ("val", "bacterial"),
        ("test", "normal"),
        ("test", "viral"),
    ]
    assert found[0].id < found[1].id


def test_the_same_number_in_train_and_test_is_not_the_same_patient(tmp_path: Path):
    listing = sources.list_images(tree(tmp_path, *KAGGLE))
    families: dict[str, set[str]] = {}
    for one in listing.found:
        families.setdefault(one.patient, set()).add("test" if one.split == "test" else "train")
    assert all(len(family) == 1 for family in families.values())


def test_the_same_number_of_another_disease_is_not_the_same_patient(tmp_path: Path):
    root = tree(tmp_path, "train/PNEUMONIA/person7_virus_1.jpeg", "train/PNEUMONIA/person7_bacteria_2.jpeg")
    assert len({one.patient for one in sources.list_images(root).found}) == 2


def test_images_of_one_person_share_a_patient(tmp_path: Path):
    root = tree(
        tmp_path,
        "train/PNEUMONIA/person23_bacteria_78.jpeg",
        "train/PNEUMONIA/person23_bacteria_79.jpeg",
        "train/PNEUMONIA/person0023_bacteria_80.jpg",
        "train/NORMAL/IM-0023-0001.jpeg",
        "train/NORMAL/IM-0023-0001-0002.jpeg",
        "train/NORMAL/NORMAL2-IM-0023-0001.jpeg",
    )
    assert Counter(one.patient for one in sources.list_images(root).found) == {
        "train/bacterial/23": 3,
        "train/normal/IM-23": 2,
        "train/normal/NORMAL2-IM-23": 1,
    }


def test_train_and_val_share_their_patients_since_kaggle_cut_val_off_train(tmp_path: Path):
    root = tree(
        tmp_path, "train/PNEUMONIA/person9_virus_1.jpeg", "val/PNEUMONIA/person9_virus_2.jpeg", "val/NORMAL/a.jpeg"
    )
    patients = {one.id: one.patient for one in sources.list_images(root).found}
    assert patients["train/PNEUMONIA/person9_virus_1.jpeg"] == patients["val/PNEUMONIA/person9_virus_2.jpeg"]


def test_a_pneumonia_of_unknown_kind_is_skipped_with_the_reason(tmp_path: Path):
    listing = sources.list_images(tree(tmp_path, *KAGGLE, "train/PNEUMONIA/scan.jpeg"))
    assert listing.skipped == (("train/PNEUMONIA/scan.jpeg", "The file name says neither virus nor bacteria."),)
    assert len(listing.found) == len(KAGGLE)


def test_nih_names_give_the_patient_in_every_split_and_classes_without_their_number(tmp_path: Path):
    root = tree(
        tmp_path,
        "NIH/train/0_normal/00000013_005.png",
        "NIH/valid/1_abnormal/00000013_006.png",
        "NIH/test/0_normal/00000014_000.png",
    )
    listing = sources.list_images(root)
    assert listing.classes == ("normal", "abnormal")
    assert rows(listing) == {
        "train/0_normal/00000013_005.png": ("train", "normal", "00000013"),
        "valid/1_abnormal/00000013_006.png": ("val", "abnormal", "00000013"),
        "test/0_normal/00000014_000.png": ("test", "normal", "00000014"),
    }


def test_phantoms_are_keyed_by_split_class_and_number(tmp_path: Path):
    assert patient_of(tmp_path, "val/viral/synthetic-p0003-1.jpeg") == "val/viral/3"


def test_a_name_that_says_nothing_is_a_patient_of_its_own(tmp_path: Path):
    names = (
        "train/cat/a.png",
        "train/cat/b.png",
        "train/dog/a.png",
        "test/cat/a.png",
        "train/cat/a.tif",
        "train/cat/x/a.png",
    )
    assert len({one.patient for one in sources.list_images(tree(tmp_path, *names)).found}) == 6


def test_known_classes_come_in_clinical_order_and_others_by_name_after_them(tmp_path: Path):
    labels = ("zebra", "bacterial", "covid", "viral", "NORMAL")
    root = tree(tmp_path, *(f"train/{label}/a.png" for label in labels))
    assert sources.list_images(root).classes == ("normal", "viral", "bacterial", "covid", "zebra")


def test_without_virus_and_bacteria_in_the_names_pneumonia_is_one_class(tmp_path: Path):
    root = tree(tmp_path, "train/PNEUMONIA/a.png", "train/NORMAL/b.png")
    assert sources.list_images(root).classes == ("normal", "pneumonia")


@pytest.mark.parametrize(
    ("folder", "split"),
    [
        ("train", "train"),
        ("Training", "train"),
        ("VAL", "val"),
        ("valid", "val"),
        ("Validation", "val"),
        ("Test", "test"),
    ],
)
def test_split_folders_have_several_names_in_any_case(tmp_path: Path, folder: str, split: str):
    root = tree(tmp_path, f"{folder}/a/1.png", f"{folder}/b/1.png")
    assert {one.split for one in sources.list_images(root).found} == {split}


def test_a_tree_that_holds_itself_again_is_read_once(tmp_path: Path):
    """Kaggle's zip: chest_xray/{train,…}, chest_xray/chest_xray/{train,…} and __MACOSX/chest_xray/…"""
    outer = tree(tmp_path / "chest_xray", *KAGGLE)
    tree(outer / "chest_xray", *KAGGLE)
    tree(tmp_path / "__MACOSX" / "chest_xray", *KAGGLE)
    tree(outer / "__MACOSX", *KAGGLE)
    listing = sources.list_images(tmp_path)
    assert listing.root == outer
    assert sorted(one.id for one in listing.found) == sorted(KAGGLE)


def test_the_folder_that_macos_adds_is_neither_tree_nor_class(tmp_path: Path):
    tree(tmp_path / "__MACOSX", *KAGGLE)
    root = tree(tmp_path / "chest_xray" / "chest_xray", *KAGGLE, "train/__MACOSX/a.jpeg")
    listing = sources.list_images(tmp_path)
    assert listing.root == root
    assert listing.classes == ("normal", "viral", "bacterial")


def test_only_the_inner_tree_is_found_too(tmp_path: Path):
    tree(tmp_path / "chest_xray" / "chest_xray", *KAGGLE)
    assert sources.list_images(tmp_path).root == tmp_path / "chest_xray" / "chest_xray"


def test_hidden_files_and_files_that_are_no_images_are_left_out(tmp_path: Path):
    root = tree(tmp_path, *KAGGLE, "train/NORMAL/.DS_Store", "train/NORMAL/._IM-1.jpeg", "train/NORMAL/notes.txt")
    tree(root, ".cache/train/NORMAL/x.jpeg", "train/.hidden/x.jpeg", "other/NORMAL/x.jpeg")
    assert len(sources.list_images(root).found) == len(KAGGLE)


def test_images_may_lie_deeper_in_a_class_folder(tmp_path: Path):
    root = tree(tmp_path, "train/a/2020/01/x.png", "train/b/y.png")
    assert {one.label for one in sources.list_images(root).found} == {"a", "b"}


def refusal(root: Path) -> str:
    with pytest.raises(BadDataset) as caught:
        sources.list_images(root)
    return str(caught.value)


def test_a_folder_without_images_is_refused_with_what_was_expected(tmp_path: Path):
    message = refusal(tree(tmp_path, "train/NORMAL/notes.txt"))
    assert message.startswith(f"No images were found below {tmp_path}.")
    assert "train/NORMAL/a.jpeg" in message


def test_an_empty_folder_is_refused(tmp_path: Path):
    assert "No images were found" in refusal(tmp_path)


def test_images_in_folders_of_classes_without_a_split_are_all_in_train(tmp_path: Path):
    listing = sources.list_images(
        tree(tmp_path, "set/NORMAL/a.jpeg", "set/1_abnormal/deep/b.png", "set/1_abnormal/.c.png")
    )
    assert listing.root == tmp_path / "set"
    assert rows(listing) == {
        "NORMAL/a.jpeg": ("train", "normal", "NORMAL/a.jpeg"),
        "1_abnormal/deep/b.png": ("train", "abnormal", "1_abnormal/deep/b.png"),
    }


def test_images_of_one_folder_are_refused_with_what_was_expected(tmp_path: Path):
    message = refusal(tree(tmp_path, "images/a.jpeg", "images/b.jpeg"))
    assert "nothing tells their class" in message
    assert "train/NORMAL/a.jpeg" in message


def test_kermanys_set_is_cited_by_its_names_wherever_it_comes_from(tmp_path: Path):
    assert "10.17632/rscbjbr9sj.2" in sources.list_images(tree(tmp_path / "kaggle", *KAGGLE)).citation
    assert "Kermany" in sources.list_images(tree(tmp_path / "mendeley", *MENDELEY)).citation
    assert sources.list_images(tree(tmp_path / "other", "train/a/1.png", "train/b/2.png")).citation == ""


def test_a_single_class_is_refused_by_name(tmp_path: Path):
    assert "Only one class, 'normal'," in refusal(tree(tmp_path, "train/NORMAL/a.jpeg", "test/NORMAL/b.jpeg"))


def test_class_folders_of_a_number_alone_keep_it_as_their_name(tmp_path: Path):
    listing = sources.list_images(tree(tmp_path, "train/0_/a.png", "train/1/b.png"))
    assert listing.classes == ("0_", "1")


def test_images_straight_in_the_split_folders_are_not_called_absent(tmp_path: Path):
    assert "No images were found" not in refusal(tree(tmp_path, "train/a.png", "test/b.png"))


def fetch(source: str, own: Path) -> sources.SourceFolder:
    return sources.fetch(source, own, images=30, seed=0, progress=no_progress)


def test_a_folder_is_taken_where_it_is(tmp_path: Path):
    material = fetch(str(tmp_path), tmp_path / "own")
    assert (material.root, material.kind, material.synthetic) == (tmp_path.resolve(), "folder", False)
    assert not (tmp_path / "own").exists()


@pytest.mark.parametrize("source", ["/no/such/place", "kagle", "a.zip"])
def test_a_source_that_is_not_there_is_refused_with_the_known_ones(tmp_path: Path, source: str):
    with pytest.raises(BadDataset, match=f"There is nothing at '{source}'. Expected: kaggle, synthetic, a folder"):
        fetch(source, tmp_path)


def test_the_home_of_nobody_is_refused_in_words(tmp_path: Path):
    with pytest.raises(BadDataset):
        fetch("~nobody-of-this-name/xrays", tmp_path)


def test_a_file_that_is_no_zip_is_refused(tmp_path: Path):
    (tmp_path / "a.jpeg").write_bytes(b"x")
    with pytest.raises(BadDataset, match="not a zip archive"):
        fetch(str(tmp_path / "a.jpeg"), tmp_path / "own")


def test_without_a_connection_kaggle_is_told_in_words_with_the_way_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import kagglehub
    import requests

    def unreachable(*_: Any, **__: Any) -> str:
        raise requests.exceptions.ConnectionError("no route")

    monkeypatch.setattr(kagglehub, "dataset_download", unreachable)
    with pytest.raises(WorkFailed, match=r"Kaggle could not be reached .* add\s+the zip"):
        fetch("kaggle", tmp_path)


def test_the_kaggle_set_is_cited_and_pinned_to_a_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub

    asked: list[str] = []
    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: asked.append(handle) or str(tmp_path))
    material = fetch("kaggle", tmp_path / "own")
    assert asked == ["paultimothymooney/chest-xray-pneumonia/versions/2"]
    assert "Kermany" in material.citation
    assert material.root == tmp_path


MENDELEY = (
    "train/NORMAL/NORMAL-1049278-0001.jpeg",
    "train/NORMAL/NORMAL-1049278-0002.jpeg",
    "train/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
    "train/PNEUMONIA/VIRUS-1008087-0001.jpeg",
    "test/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
)


def test_mendeley_names_tell_class_and_patient(tmp_path: Path):
    assert {
        one: (label, patient)
        for one, (_, label, patient) in rows(sources.list_images(tree(tmp_path, *MENDELEY))).items()
    } == {
        MENDELEY[0]: ("normal", "mendeley/1049278"),
        MENDELEY[1]: ("normal", "mendeley/1049278"),
        MENDELEY[2]: ("bacterial", "mendeley/1008087"),
        MENDELEY[3]: ("viral", "mendeley/1008087"),
        MENDELEY[4]: ("bacterial", "mendeley/1008087"),
    }


@pytest.mark.parametrize(
    ("folder", "label"),
    [
        ("VIRUS", "viral"),
        ("Viral Pneumonia", "viral"),
        ("2_bacterial_pneumonia", "bacterial"),
        ("BACTERIA", "bacterial"),
        ("COVID", "covid"),
        ("PNEUMONIA", "pneumonia"),
    ],
)
def test_class_folders_are_called_by_our_names(tmp_path: Path, folder: str, label: str):
    listing = sources.list_images(tree(tmp_path, "train/NORMAL/a.png", f"train/{folder}/b.png"))
    assert listing.classes == ("normal", label)


def test_a_download_from_kaggle_tells_how_much_has_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub
    from kagglehub.cache import get_cached_archive_path
    from kagglehub.handle import parse_dataset_handle

    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))

    def slow(handle: str) -> str:
        part = Path(get_cached_archive_path(parse_dataset_handle(handle)))
        part.parent.mkdir(parents=True)
        part.write_bytes(bytes(3_000_000))
        time.sleep(1.5)
        return str(tmp_path)

    monkeypatch.setattr(kagglehub, "dataset_download", slow)
    told: list[tuple] = []
    sources.fetch("kaggle", tmp_path / "own", images=0, seed=0, progress=lambda *one: told.append(one))
    assert ("Downloading from Kaggle, MB", 3, 1229) in told


def test_a_failing_meter_neither_kills_nor_hides_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    import kagglehub

    arrived: list[int] = []

    def slow(handle: str) -> str:
        time.sleep(1.2)
        arrived.append(1)
        return str(tmp_path)

    def broken(*_: object) -> None:
        raise BrokenPipeError("no terminal")

    monkeypatch.setattr(kagglehub, "dataset_download", slow)
    material = sources.fetch("kaggle", tmp_path / "own", images=0, seed=0, progress=broken)
    assert (material.root, arrived) == (tmp_path, [1])
    assert caplog.text.count("Progress cannot be shown") == 1


@pytest.mark.parametrize("error", [ImportError("moved"), AttributeError("renamed"), OSError("gone")])
def test_a_size_that_kagglehub_does_not_tell_does_not_stop_the_download(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
):
    import kagglehub
    import kagglehub.cache

    def unknown(*_: object) -> str:
        raise error

    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: time.sleep(0.1) or str(tmp_path))
    monkeypatch.setattr(kagglehub.cache, "get_cached_archive_path", unknown)
    assert fetch("kaggle", tmp_path / "own").root == tmp_path


def test_an_interrupt_does_not_wait_for_the_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub

    end = threading.Event()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(kagglehub, "dataset_download", lambda handle: end.wait(60) and str(tmp_path))
    with pytest.raises(KeyboardInterrupt):
        sources.fetch("kaggle", tmp_path / "own", images=0, seed=0, progress=interrupt)
    assert not end.is_set()
    end.set()


def test_a_full_disk_while_downloading_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import kagglehub

    def full(handle: str) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kagglehub, "dataset_download", full)
    with pytest.raises(WorkFailed, match=r"No space left on device\. Free some space"):
        fetch("kaggle", tmp_path / "own")


def test_a_file_name_that_is_not_utf8_is_skipped_and_named(xray_tree: Callable[..., Path]):
    root = xray_tree()
    bad = os.fsencode(root / "train" / "NORMAL") + b"/bad\xff.png"
    Path(os.fsdecode(bad)).write_bytes(b"x")
    found = sources.list_images(root)
    assert found.skipped == (
        ("train/NORMAL/bad\ufffd.png", "The file name is not valid UTF-8. Rename it to take it in."),
    )
