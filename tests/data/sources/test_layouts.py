"""Layouts: a folder tree is read once, with the right split, class and patient for every image."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from cxr_core.data.sources import ImageListing, list_images
from cxr_core.errors import BadDataset

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


def rows(listing: ImageListing) -> dict[str, tuple[str, str, str]]:
    return {one.id: (one.split, one.label, one.patient) for one in listing.files}


def patient_of(root: Path, name: str) -> str:
    other = "train/zzz/other.png"
    return rows(list_images(tree(root, name, other)))[name][2]


def test_in_kaggles_set_the_folder_and_the_name_tell_class_and_patient(tmp_path: Path):
    listing = list_images(tree(tmp_path, *KAGGLE))
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
    found = list_images(tree(tmp_path, *reversed(KAGGLE))).files
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
    listing = list_images(tree(tmp_path, *KAGGLE))
    families: dict[str, set[str]] = {}
    for one in listing.files:
        families.setdefault(one.patient, set()).add("test" if one.split == "test" else "train")
    assert all(len(family) == 1 for family in families.values())


def test_the_same_number_of_another_disease_is_not_the_same_patient(tmp_path: Path):
    root = tree(tmp_path, "train/PNEUMONIA/person7_virus_1.jpeg", "train/PNEUMONIA/person7_bacteria_2.jpeg")
    assert len({one.patient for one in list_images(root).files}) == 2


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
    assert Counter(one.patient for one in list_images(root).files) == {
        "train/bacterial/23": 3,
        "train/normal/IM-23": 2,
        "train/normal/NORMAL2-IM-23": 1,
    }


def test_train_and_val_share_their_patients_since_kaggle_cut_val_off_train(tmp_path: Path):
    root = tree(
        tmp_path, "train/PNEUMONIA/person9_virus_1.jpeg", "val/PNEUMONIA/person9_virus_2.jpeg", "val/NORMAL/a.jpeg"
    )
    patients = {one.id: one.patient for one in list_images(root).files}
    assert patients["train/PNEUMONIA/person9_virus_1.jpeg"] == patients["val/PNEUMONIA/person9_virus_2.jpeg"]


def test_a_pneumonia_of_unknown_kind_is_skipped_with_the_reason(tmp_path: Path):
    listing = list_images(tree(tmp_path, *KAGGLE, "train/PNEUMONIA/scan.jpeg"))
    assert listing.skipped == (("train/PNEUMONIA/scan.jpeg", "The file name says neither virus nor bacteria."),)
    assert len(listing.files) == len(KAGGLE)


def test_nih_names_give_the_patient_in_every_split_and_classes_without_their_number(tmp_path: Path):
    root = tree(
        tmp_path,
        "NIH/train/0_normal/00000013_005.png",
        "NIH/valid/1_abnormal/00000013_006.png",
        "NIH/test/0_normal/00000014_000.png",
    )
    listing = list_images(root)
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
    assert len({one.patient for one in list_images(tree(tmp_path, *names)).files}) == 6


def test_known_classes_come_in_clinical_order_and_others_by_name_after_them(tmp_path: Path):
    labels = ("zebra", "bacterial", "covid", "viral", "NORMAL")
    root = tree(tmp_path, *(f"train/{label}/a.png" for label in labels))
    assert list_images(root).classes == ("normal", "viral", "bacterial", "covid", "zebra")


def test_without_virus_and_bacteria_in_the_names_pneumonia_is_one_class(tmp_path: Path):
    root = tree(tmp_path, "train/PNEUMONIA/a.png", "train/NORMAL/b.png")
    assert list_images(root).classes == ("normal", "pneumonia")


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
    assert {one.split for one in list_images(root).files} == {split}


def test_a_tree_that_holds_itself_again_is_read_once(tmp_path: Path):
    """Kaggle's zip: chest_xray/{train,…}, chest_xray/chest_xray/{train,…} and __MACOSX/chest_xray/…"""
    outer = tree(tmp_path / "chest_xray", *KAGGLE)
    tree(outer / "chest_xray", *KAGGLE)
    tree(tmp_path / "__MACOSX" / "chest_xray", *KAGGLE)
    tree(outer / "__MACOSX", *KAGGLE)
    listing = list_images(tmp_path)
    assert listing.root == outer
    assert sorted(one.id for one in listing.files) == sorted(KAGGLE)


def test_the_folder_that_macos_adds_is_neither_tree_nor_class(tmp_path: Path):
    tree(tmp_path / "__MACOSX", *KAGGLE)
    root = tree(tmp_path / "chest_xray" / "chest_xray", *KAGGLE, "train/__MACOSX/a.jpeg")
    listing = list_images(tmp_path)
    assert listing.root == root
    assert listing.classes == ("normal", "viral", "bacterial")


def test_only_the_inner_tree_is_found_too(tmp_path: Path):
    tree(tmp_path / "chest_xray" / "chest_xray", *KAGGLE)
    assert list_images(tmp_path).root == tmp_path / "chest_xray" / "chest_xray"


def test_hidden_files_and_files_that_are_no_images_are_left_out(tmp_path: Path):
    root = tree(tmp_path, *KAGGLE, "train/NORMAL/.DS_Store", "train/NORMAL/._IM-1.jpeg", "train/NORMAL/notes.txt")
    tree(root, ".cache/train/NORMAL/x.jpeg", "train/.hidden/x.jpeg", "other/NORMAL/x.jpeg")
    assert len(list_images(root).files) == len(KAGGLE)


def test_images_may_lie_deeper_in_a_class_folder(tmp_path: Path):
    root = tree(tmp_path, "train/a/2020/01/x.png", "train/b/y.png")
    assert {one.label for one in list_images(root).files} == {"a", "b"}


def refusal(root: Path) -> str:
    with pytest.raises(BadDataset) as caught:
        list_images(root)
    return str(caught.value)


def test_a_folder_without_images_is_refused_with_what_was_expected(tmp_path: Path):
    message = refusal(tree(tmp_path, "train/NORMAL/notes.txt"))
    assert message.startswith(f"No images were found below {tmp_path}.")
    assert "train/NORMAL/a.jpeg" in message


def test_an_empty_folder_is_refused(tmp_path: Path):
    assert "No images were found" in refusal(tmp_path)


def test_images_in_folders_of_classes_without_a_split_are_all_in_train(tmp_path: Path):
    listing = list_images(tree(tmp_path, "set/NORMAL/a.jpeg", "set/1_abnormal/deep/b.png", "set/1_abnormal/.c.png"))
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
    assert "10.17632/rscbjbr9sj.2" in list_images(tree(tmp_path / "kaggle", *KAGGLE)).citation
    assert "Kermany" in list_images(tree(tmp_path / "mendeley", *MENDELEY)).citation
    assert list_images(tree(tmp_path / "other", "train/a/1.png", "train/b/2.png")).citation == ""


def test_a_single_class_is_refused_by_name(tmp_path: Path):
    assert "Only one class, 'normal'," in refusal(tree(tmp_path, "train/NORMAL/a.jpeg", "test/NORMAL/b.jpeg"))


def test_class_folders_of_a_number_alone_keep_it_as_their_name(tmp_path: Path):
    listing = list_images(tree(tmp_path, "train/0_/a.png", "train/1/b.png"))
    assert listing.classes == ("0_", "1")


def test_images_straight_in_the_split_folders_are_not_called_absent(tmp_path: Path):
    assert "No images were found" not in refusal(tree(tmp_path, "train/a.png", "test/b.png"))


MENDELEY = (
    "train/NORMAL/NORMAL-1049278-0001.jpeg",
    "train/NORMAL/NORMAL-1049278-0002.jpeg",
    "train/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
    "train/PNEUMONIA/VIRUS-1008087-0001.jpeg",
    "test/PNEUMONIA/BACTERIA-1008087-0001.jpeg",
)


def test_mendeley_names_tell_class_and_patient(tmp_path: Path):
    assert {
        one: (label, patient) for one, (_, label, patient) in rows(list_images(tree(tmp_path, *MENDELEY))).items()
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
    listing = list_images(tree(tmp_path, "train/NORMAL/a.png", f"train/{folder}/b.png"))
    assert listing.classes == ("normal", label)


def test_a_file_name_that_is_not_utf8_is_skipped_and_named(xray_tree: Callable[..., Path]):
    root = xray_tree()
    bad = os.fsencode(root / "train" / "NORMAL") + b"/bad\xff.png"
    Path(os.fsdecode(bad)).write_bytes(b"x")
    listing = list_images(root)
    assert listing.skipped == (
        ("train/NORMAL/bad\ufffd.png", "The file name is not valid UTF-8. Rename it to take it in."),
    )
