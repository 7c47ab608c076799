"""Manifests: frozen splits, with an id made of the content, and patients that are kept apart."""

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_core import images, workspace
from cxr_core.data import balancing, datasets, decisions, index, manifest
from cxr_core.data.manifest import Supplement
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from tests.conftest import command

Tree = Callable[..., Path]
CLASSES = ("normal", "viral", "bacterial")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Kaggle-like folder of 40 patients a class with one to three images each in train, and a little val and test."""
    root, rng = tmp_path_factory.mktemp("many") / "tree", np.random.default_rng(4)
    picture = images.encode(np.zeros((4, 4), np.uint8), format="BMP")
    number = 0
    for patient in range(44):
        split = "train" if patient < 40 else "val" if patient < 42 else "test"
        for kind in ("NORMAL", "virus", "bacteria"):
            folder = root / split / ("NORMAL" if kind == "NORMAL" else "PNEUMONIA")
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(rng.integers(1, 4)):
                number += 1
                name = f"IM-{patient:04}-{number:04}" if kind == "NORMAL" else f"person{patient}_{kind}_{number}"
                (folder / f"{name}.bmp").write_bytes(picture + number.to_bytes(4, "little"))
    return root


@pytest.fixture(scope="module")
def kept(many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with the dataset `many`; never written to."""
    place = tmp_path_factory.mktemp("kept") / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CXR_HOME", str(place))
        datasets.add(str(many), "many")
    return place


@pytest.fixture
def added(kept: Path, home: Path) -> datasets.Dataset:
    """The dataset `many` in a workspace that the test may change."""
    shutil.copytree(kept, home)
    return datasets.get("many")


def test_the_official_split_is_the_sources_own(added: datasets.Dataset):
    built = manifest.build("many")
    table = index.read("many")
    rows = manifest.rows(built)
    assert tuple(rows.columns) == manifest.COLUMNS
    for name in ("id", "patient", "sha256"):
        assert rows[name].tolist() == table[name].tolist()
    for name in ("split", "class"):
        assert rows[name].astype(str).tolist() == table[name].astype(str).tolist()
    assert rows["row"].tolist() == list(range(len(table)))
    assert built.counts == added.counts
    assert (built.split, built.val_fraction, built.seed, built.classes) == ("official", 0.0, 0, CLASSES)


@pytest.mark.usefixtures("added")
def test_building_the_same_twice_gives_the_same_id_and_writes_nothing_new():
    for options in ({}, {"split": "patient", "val_fraction": 0.2, "seed": 3}):
        first = manifest.build("many", **options)
        folder = workspace.dataset("many") / "manifests"
        before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
        assert manifest.build("many", **options) == first
        assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.usefixtures("added")
def test_the_id_does_not_depend_on_the_name_of_the_dataset(many: Path):
    datasets.add(str(many), "other")
    for options in ({}, {"split": "patient", "seed": 5}):
        one, two = manifest.build("many", **options), manifest.build("other", **options)
        assert one.id == two.id
        assert (one.data, two.data) == ("many", "other")


@pytest.mark.usefixtures("added")
def test_the_id_does_not_depend_on_where_the_images_lie(many: Path, tmp_path: Path):
    shutil.copytree(many, tmp_path / "copy")
    datasets.add(str(tmp_path / "copy"), "copy")
    assert manifest.build("copy").id == manifest.build("many").id


@pytest.mark.usefixtures("added")
def test_the_id_is_the_hash_of_images_splits_classes_copies_and_weights():
    table = index.read("many")
    lines = sorted(
        f"{row.id}\t{row.split}\t{label}\t{row.sha256}\t0\t0\t1"
        for row, label in zip(table.itertuples(), table["class"], strict=True)
    )
    assert manifest.build("many").id == hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]


def test_another_image_another_class_or_another_split_gives_another_id(xray_tree: Tree):
    root = xray_tree()
    moves = (
        None,
        ("train/NORMAL/IM-0001-0001.jpeg", "val/NORMAL/IM-0001-0001.jpeg"),
        ("train/PNEUMONIA/person1_virus_1.jpeg", "train/NORMAL/person1_virus_1.jpeg"),
    )
    ids = set()
    for number, move in enumerate(moves):
        if move:
            (root / move[0]).rename(root / move[1])
        datasets.add(str(root), f"d{number}")
        ids.add(manifest.build(f"d{number}").id)
    image = root / "test/NORMAL/IM-0001-0001.jpeg"
    image.write_bytes(image.read_bytes() + b"\0")
    datasets.add(str(root), "d9")
    ids.add(manifest.build("d9").id)
    assert len(ids) == 4


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("seed", range(4))
def test_the_patient_split_puts_no_patient_in_two_splits(seed: int):
    rows = manifest.rows(manifest.build("many", split="patient", val_fraction=0.2, seed=seed))
    assert (rows.groupby("patient")["split"].nunique() == 1).all()
    assert set(rows["split"]) == {"train", "val", "test"}


@pytest.mark.usefixtures("added")
def test_the_patient_split_leaves_test_and_every_class_as_they_are_and_loses_no_image():
    rows = manifest.rows(manifest.build("many", split="patient"))
    table = index.read("many")
    assert rows["id"].tolist() == table["id"].tolist()
    assert rows["class"].astype(str).tolist() == table["class"].astype(str).tolist()
    assert ((rows["split"] == "test") == (table["split"] == "test")).all()


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize(
    "share",
    [
        0.1,
        0.15,
        0.2,
        0.25,
        0.5,
        0.4,
    ],
)
def test_the_patient_split_gives_val_its_share_of_every_class(share: float):
    rows = manifest.rows(manifest.build("many", split="patient", val_fraction=share))
    pool = rows[rows["split"] != "test"]
    assert (pool["split"] == "val").mean() == pytest.approx(share, abs=0.04)
    for label in CLASSES:
        assert (pool.loc[pool["class"] == label, "split"] == "val").mean() == pytest.approx(share, abs=0.07)


@pytest.mark.usefixtures("added")
def test_the_seed_decides_the_patient_split():
    ids = {manifest.build("many", split="patient", seed=seed).id for seed in range(3)}
    assert len(ids) == 3
    assert manifest.build("many", split="patient", seed=2).id in ids


@pytest.mark.usefixtures("added")
def test_the_official_split_takes_no_notice_of_share_and_seed():
    assert manifest.build("many", val_fraction=0.4, seed=9) == manifest.build("many")


@pytest.mark.usefixtures("added")
def test_counts_are_those_of_the_rows():
    built = manifest.build("many", split="patient")
    rows = manifest.rows(built)
    assert built.counts == {
        split: {label: int(((rows["split"] == split) & (rows["class"] == label)).sum()) for label in CLASSES}
        for split in ("train", "val", "test")
    }


@pytest.mark.usefixtures("added")
def test_an_unknown_rule_lists_the_known_ones():
    with pytest.raises(
        UnknownName, match=r"no split rule named 'patients'\. Did you mean 'patient'\? Known: official, p"
    ):
        manifest.build("many", split="patients")


def test_an_unknown_dataset_is_answered_with_the_known_ones():
    with pytest.raises(UnknownName, match="no dataset named 'none'"):
        manifest.build("none")


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("share", [0, -0.1, 0.51, 1, float("nan"), float("inf")])
def test_a_share_out_of_range_is_refused_with_the_range_and_the_value(share: float):
    with pytest.raises(BadInput, match=rf"from 0\.001 to 0\.5\. Received: {share}\."):
        manifest.build("many", split="patient", val_fraction=share)


@pytest.mark.usefixtures("added")
def test_too_few_patients_for_the_share_are_told_with_both_numbers():
    with pytest.raises(BadInput, match="needs at least 100 patients in each class; one class has 42"):
        manifest.build("many", split="patient", val_fraction=0.01)
    assert not (workspace.dataset("many") / "manifests").exists()


def only_test(name: str) -> None:
    """A dataset as it would be if its source had a test split and nothing else."""
    table = index.read(name)
    table = table[table["split"] == "test"]
    index.write(workspace.dataset(name), table)
    path = workspace.dataset(name) / "dataset.json"
    workspace.write_json(path, {**workspace.read_json(path), "images": len(table)})


@pytest.mark.usefixtures("added")
def test_a_set_with_a_test_split_only_cannot_be_split_by_patient_and_says_so():
    only_test("many")
    with pytest.raises(BadInput):
        manifest.build("many", split="patient")


@pytest.mark.usefixtures("added")
def test_a_manifest_is_found_again_by_its_id():
    built = manifest.build("many", split="patient", seed=1)
    assert manifest.get("many", built.id) == built
    with pytest.raises(UnknownName, match=rf"no manifest of 'many' named 'abc'\..*Known: {built.id}"):
        manifest.get("many", "abc")


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("damage", [None, b"", b"PAR1 no parquet"])
def test_a_damaged_manifest_is_told_in_words(damage: bytes | None):
    built = manifest.build("many")
    path = workspace.dataset("many") / "manifests" / f"{built.id}.parquet"
    path.unlink() if damage is None else path.write_bytes(damage)
    with pytest.raises(WorkFailed, match=rf"Manifest {built.id} of 'many' is missing or damaged\. Build it again\."):
        manifest.rows(built)


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("damage", [None, b""])
def test_a_damaged_manifest_is_mended_by_building_it_again_as_the_message_says(damage: bytes | None):
    built = manifest.build("many")
    path = workspace.dataset("many") / "manifests" / f"{built.id}.parquet"
    path.unlink() if damage is None else path.write_bytes(damage)
    assert len(manifest.rows(manifest.build("many"))) == index.read("many").shape[0]


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("content", ["", "[]", "{}", '{"id": "x"}', "provenance"])
def test_a_damaged_description_is_told_and_mended_by_building_it_again(content: str):
    built = manifest.build("many")
    path = workspace.dataset("many") / "manifests" / f"{built.id}.json"
    if content == "provenance":
        content = json.dumps({**json.loads(path.read_text()), "provenance": 3})
    path.write_text(content)
    with pytest.raises(WorkFailed, match=rf"description of manifest {built.id} is damaged\. Build it again"):
        manifest.get("many", built.id)
    assert replace(manifest.build("many"), provenance={}) == replace(built, provenance={})
    assert manifest.get("many", built.id).counts == built.counts


def shuffled(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[::-1].reset_index(drop=True)


def shortened(table: pd.DataFrame) -> pd.DataFrame:
    return table.iloc[:-1]


def altered(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(sha256=["0" * 64, *table["sha256"][1:]])


@pytest.mark.usefixtures("added")
@pytest.mark.parametrize("change", [shuffled, shortened, altered])
def test_a_dataset_that_has_changed_under_its_manifest_is_detected(change: Callable[[pd.DataFrame], pd.DataFrame]):
    built = manifest.build("many")
    index.write(workspace.dataset("many"), change(index.read("many")))
    with pytest.raises(WorkFailed, match=rf"'many' has changed since manifest {built.id} was built"):
        manifest.rows(built)


@pytest.mark.usefixtures("added")
def test_a_manifest_of_a_dataset_that_was_removed_is_told_in_words():
    built = manifest.build("many")
    datasets.remove("many")
    with pytest.raises(WorkFailed, match="missing or damaged"):
        manifest.rows(built)
    with pytest.raises(WorkFailed):
        manifest.rows(replace(built, id="0" * 12))


NIH_LIKE = Supplement("other", "normal", 9)


def strangers(many: Path, place: Path) -> Path:
    """The same tree at `place` with other pictures in it."""
    shutil.copytree(many, place)
    for file in place.rglob("*.bmp"):
        file.write_bytes(file.read_bytes() + b"other")
    return place


@pytest.fixture
def other(kept: Path, many: Path, added: datasets.Dataset, tmp_path: Path) -> str:
    """A second dataset, whose images are not in the first."""
    datasets.add(str(strangers(many, tmp_path / "strangers")), "other")
    return "other"


def decide_six() -> None:
    ids = index.read("many")["id"].tolist()
    decisions.decide("many", "exclude", ids[:5], reason="lateral", who="Ada")
    decisions.decide("many", "relabel", ids[5:6], value="viral", who="Ada")


def test_decisions_are_applied_and_undoing_them_gives_the_old_id_back(added: datasets.Dataset):
    before = manifest.build("many", split="patient", seed=7)
    decide_six()
    after = manifest.build("many", split="patient", seed=7)
    rows = manifest.rows(after).set_index("id")
    ids = index.read("many")["id"].tolist()
    assert not set(ids[:5]) & set(rows.index)
    assert rows.loc[ids[5], ["class", "was", "decisions"]].tolist() == ["viral", "normal", "2"]
    assert (after.excluded, after.relabelled) == (5, 1)
    assert after.id != before.id
    decisions.undo("many", 1, who="Ada")
    decisions.undo("many", 2, who="Ada")
    assert manifest.build("many", split="patient", seed=7) == before


@pytest.mark.usefixtures("other")
def test_a_supplement_joins_the_training_images_under_its_datasets_name():
    built = manifest.build("many", supplements=[NIH_LIKE])
    rows = manifest.rows(built)
    extra = rows[rows["data"] == "other"]
    assert len(extra) == 9
    assert set(extra["split"]) == {"train"}
    assert set(extra["class"]) == {"normal"}
    assert extra["id"].str.startswith("other:").all()
    assert extra["patient"].str.startswith("other:").all()
    assert built.counts["train"]["normal"] == manifest.build("many").counts["train"]["normal"] + 9
    assert manifest.get("many", built.id) == built
    assert index.column("other", "sha256").to_numpy()[extra["row"]].tolist() == extra["sha256"].tolist()


@pytest.mark.usefixtures("other")
@pytest.mark.parametrize(
    ("supplement", "words"),
    [
        (Supplement("other", "normal", 100_000), r"'other' has \d+ normal images to draw from. Received: 100,000"),
        (Supplement("other", "normal", 0), "Received: 0"),
        (Supplement("other", "zebra", 1), "no class in many named 'zebra'"),
        (Supplement("many", "normal", 1), "comes from another dataset"),
        (Supplement("nowhere", "normal", 1), "no dataset named 'nowhere'"),
    ],
)
def test_a_supplement_that_cannot_be_is_refused(supplement: Supplement, words: str):
    with pytest.raises(BadInput, match=words):
        manifest.build("many", supplements=[supplement])


@pytest.mark.usefixtures("other")
def test_the_same_decisions_and_choices_give_the_same_id_in_another_workspace_and_another_process(
    many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    decide_six()
    first = manifest.build("many", split="patient", seed=7, supplements=[NIH_LIKE], balance="augment")
    done = command(
        *("data", "build", "many", "--split", "patient", "--seed", 7, "--balance", "augment"),
        *("--supplement", "other:normal=9", "--json"),
    )
    assert json.loads(done.stdout)["manifest"] == first.id
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "elsewhere"))
    shutil.copytree(many, tmp_path / "moved")
    datasets.add(str(strangers(many, tmp_path / "moved-too")), "other")
    datasets.add(str(tmp_path / "moved"), "many")
    decide_six()
    assert manifest.build("many", split="patient", seed=7, supplements=[NIH_LIKE], balance="augment").id == first.id


@pytest.mark.usefixtures("added")
def test_balance_is_part_of_the_id_and_of_the_counts():
    built = {how: manifest.build("many", balance=how) for how in balancing.STRATEGIES}
    assert len({one.id for one in built.values()}) == len(built)
    assert len(set(built["oversample"].counts["train"].values())) == 1
    assert built["oversample"].images == built["none"].counts
    assert [one.id for one in manifest.list_manifests("many")] == [one.id for one in reversed(built.values())]


@pytest.mark.usefixtures("added")
def test_a_plan_writes_nothing():
    rows = manifest.plan("many", balance="oversample")
    assert tuple(rows.columns) == manifest.COLUMNS
    assert manifest.list_manifests("many") == []


@pytest.mark.usefixtures("added")
def test_with_every_image_excluded_there_is_nothing_to_build_from():
    decisions.decide("many", "exclude", index.read("many")["id"].tolist(), who="Ada")
    with pytest.raises(BadInput, match="Undo a decision first"):
        manifest.build("many")


@pytest.mark.usefixtures("other")
def test_a_supplement_that_was_removed_is_told_in_words():
    built = manifest.build("many", supplements=[NIH_LIKE])
    datasets.remove("other")
    with pytest.raises(WorkFailed, match="needs dataset 'other', which is gone"):
        manifest.rows(built)


def test_a_supplement_never_brings_back_what_is_in_the_dataset_or_in_another_supplement(
    added: datasets.Dataset, many: Path
):
    """Else an image of test could be trained on."""
    datasets.add(str(many), "again")
    table = index.read("many")
    there = int((table["class"].astype(str) == "normal").sum())
    with pytest.raises(
        BadInput, match=rf"'again' has 0 normal images to draw from\. {there} more are in 'many' already"
    ):
        manifest.build("many", supplements=(Supplement("again", "normal", 1),))


def test_what_could_not_be_drawn_is_counted(added: datasets.Dataset, many: Path, tmp_path: Path):
    other = tmp_path / "other"
    shutil.copytree(many, other)
    new = next((other / "train" / "NORMAL").iterdir()).with_name("IM-9999-0001.jpeg")
    new.write_bytes(images.encode(np.full((90, 80), 77, np.uint8)))
    datasets.add(str(other), "other")
    made = manifest.build("many", supplements=(Supplement("other", "normal", 1),))
    rows = manifest.rows(made)
    assert rows[rows["data"] == "other"]["id"].tolist() == ["other:train/NORMAL/IM-9999-0001.jpeg"]
    assert made.already_there == (index.column("many", "class").astype(str) == "normal").sum()


@pytest.mark.parametrize("seed", [-1, 2**31])
def test_a_seed_out_of_range_is_refused(added: datasets.Dataset, seed: int):
    with pytest.raises(BadInput, match=f"Received: {seed}"):
        manifest.build("many", split="patient", seed=seed)


def test_a_patient_stays_in_its_split_when_others_are_excluded(added: datasets.Dataset):
    before = manifest.plan("many", split="patient", val_fraction=0.3, seed=7).set_index("id")["split"]
    gone = before.index[before == "train"][:2].tolist()
    decisions.decide("many", "exclude", gone, who="Ada")
    after = manifest.plan("many", split="patient", val_fraction=0.3, seed=7).set_index("id")["split"]
    moved = (before.drop(gone) != after.reindex(before.drop(gone).index)).mean()
    assert moved < 0.1


def test_the_id_does_not_depend_on_what_the_supplements_are_called(added: datasets.Dataset, many: Path, tmp_path: Path):
    place = str(strangers(many, tmp_path / "strangers"))
    for name in ("nih", "adults"):
        datasets.add(place, name)
    for options in ({"balance": "augment"}, {"split": "patient", "seed": 7}, {"balance": "undersample", "seed": 3}):
        one, two = (
            manifest.build("many", supplements=[Supplement(name, "normal", 9)], **options) for name in ("nih", "adults")
        )
        assert one.id == two.id, options
        assert set(manifest.rows(two)["data"]) == {"many", "adults"}


@pytest.mark.usefixtures("other")
def test_more_of_a_supplement_keeps_what_fewer_drew():
    few, more = (manifest.plan("many", seed=7, supplements=[Supplement("other", "normal", count)]) for count in (5, 9))
    assert set(few["id"]) < set(more["id"])


@pytest.mark.usefixtures("other")
def test_two_supplements_of_one_dataset_draw_different_images_and_none_is_called_already_there():
    twice = (Supplement("other", "normal", 9), Supplement("other", "normal", 5))
    built = manifest.build("many", supplements=twice)
    drawn = manifest.rows(built).query("data == 'other'")
    assert (len(drawn), drawn["sha256"].nunique(), built.already_there) == (14, 14, 0)
    whole = int((index.column("other", "class").astype(str) == "normal").sum())
    with pytest.raises(
        BadInput, match=rf"has {whole - 9} normal .* draw from\. 9 more are drawn by the supplements before\. R"
    ):
        manifest.build("many", supplements=(twice[0], Supplement("other", "normal", whole)))


def test_the_rows_name_the_decisions_that_are_in_force_when_it_is_built_again(added: datasets.Dataset):
    ids = index.read("many")["id"].tolist()
    decisions.decide("many", "tag", ids[:1], value="odd", who="Ada")
    first = manifest.build("many")
    decisions.undo("many", 1, who="Ada")
    decisions.decide("many", "tag", ids[:1], value="odd", who="Ada")
    again = manifest.build("many")
    assert again.id == first.id
    assert manifest.rows(again)["decisions"][0] == "3"
    assert [one["number"] for one in manifest.get("many", again.id).provenance["decisions"]] == [3]


@pytest.mark.usefixtures("other")
def test_it_tells_of_what_it_was_made_and_by_which_decisions():
    decide_six()
    built = manifest.build("many", supplements=[NIH_LIKE])
    told = json.loads(manifest.files(built)[1].read_text())["provenance"]
    assert list(told["datasets"]) == ["many", "other"]
    assert told["datasets"]["other"]["origin"] == datasets.get("other").origin
    assert [(one["action"], one["reason"], len(one["images"])) for one in told["decisions"]] == [
        ("exclude", "lateral", 5),
        ("relabel", "", 1),
    ]
    assert told["built"].startswith("20") and told["software"].startswith("cxr_core ")


def test_a_manifest_of_before_provenance_was_kept_can_be_read(added: datasets.Dataset):
    built = manifest.build("many")
    path = manifest.files(built)[1]
    document = json.loads(path.read_text())
    del document["provenance"]
    path.write_text(json.dumps(document))
    assert replace(manifest.get("many", built.id), provenance=built.provenance) == built
    assert len(manifest.rows(manifest.get("many", built.id))) == added.images


def test_a_manifest_follows_its_dataset_to_another_name(added: datasets.Dataset):
    built = manifest.build("many", split="patient", seed=7)
    workspace.dataset("many").rename(workspace.dataset("moved"))
    moved = manifest.get("moved", built.id)
    assert moved.data == "moved"
    assert set(manifest.rows(moved)["data"]) == {"moved"}
    assert manifest.build("moved", split="patient", seed=7).id == built.id
