"""The Predict page: one image, several, many, archives, DICOM frames, second opinions, doubt, and what is no X-ray."""

import io
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from cxr_core import formatting, images
from cxr_core.evaluation import decision_metrics, ensembles, prediction_set, rule_store
from cxr_core.evaluation.decision_rule import DecisionRule, decided
from cxr_core.inference import model_cache, predict
from cxr_core.inference.input_check.checks import Finding
from cxr_core.runs import run_store as runs
from pages.ui import batch_predictions
from tests import synthetic_runs
from tests.inference.test_uploads import zipped
from tests.pages.test_pages import box, text, visit
from tests.test_dicom import content, made

PAGE = "pages/model/predict.py"


@pytest.fixture
def image(trained_home: Path) -> Path:
    return next((trained_home / "datasets/phantoms/images/test").rglob("*.jpeg"))


def uploaded(*files: tuple[str, bytes]) -> AppTest:
    test = visit(PAGE)
    for name, data in files:
        test.file_uploader(key="uploads-False").upload(name, data, "application/octet-stream")
    test.run()
    assert not test.exception
    return test


def test_an_upload_is_answered_with_its_reason_and_the_disclaimer(image: Path) -> None:
    test = uploaded(("lungs.jpeg", image.read_bytes()))
    said = text(test)
    assert "(uncalibrated)" in said and "not a medical device" in said and "Test performance" in said
    assert "Bright: contributed most to the score of the class" in said
    assert test.selectbox(key="for-lungs.jpeg").options == ["Normal", "Viral pneumonia", "Bacterial pneumonia"]
    test.selectbox(key="for-lungs.jpeg").select_index(1).run()
    assert not test.exception


def test_the_probabilities_shown_are_those_of_the_table(image: Path) -> None:
    test = uploaded(("lungs.jpeg", image.read_bytes()))
    table = pd.read_parquet(runs.predictions_path(runs.list_ids()[0], "test"))
    row = table[table["id"] == f"test/{image.parent.name}/{image.name}"].iloc[0]
    (shown,) = [one.value for one in test.dataframe if "probability" in one.value]
    for name, value in zip(shown["class"], shown["probability"], strict=True):
        assert float(value) == pytest.approx(row[f"p_{name}"], abs=1e-4)


def test_many_files_become_a_table_with_what_could_not_be_read(image: Path) -> None:
    files = [(f"{number}.jpeg", image.read_bytes()) for number in range(6)]
    test = uploaded(*files, ("notes.png", b"no image"))
    assert "7 files" in text(test) and "**without an answer** 1" in text(test)
    table = test.dataframe[0].value
    assert table["file"].tolist() == [*(name for name, _ in files), "notes.png"]
    assert "not an image" in table["remarks"].iloc[-1]
    test.pills(key="batch-filter").set_value("none").run()
    assert test.dataframe[0].value["file"].tolist() == ["notes.png"]


def test_an_archive_is_what_is_in_it(image: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(5):
            archive.write(image, f"set/{number}.jpeg")
    assert "5 files" in text(uploaded(("set.zip", out.getvalue())))
    assert "not a zip archive" in text(uploaded(("bad.zip", b"PK\x03\x04 nothing")))


def test_work_that_was_stopped_goes_on_where_it_was(image: Path) -> None:
    test = uploaded(*[(f"{number}.jpeg", image.read_bytes()) for number in range(20)])
    batch = test.session_state["batch"]
    del batch.results[8:]
    batch.stopped = True
    test.run()
    assert "Stopped after 8 of 20 files" in text(test)
    next(one for one in test.button if one.label == "Resume").click().run()
    assert not test.exception and "20 files" in text(test)


def test_a_frame_of_several_is_chosen(trained_home: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (90, 80), dtype=np.uint8)
    test = uploaded(("scan.dcm", content(made(np.stack([grey, 255 - grey]), NumberOfFrames=2, PatientName="Doe^Jane"))))
    assert "View: PA" in text(test) and "Doe" not in text(test)
    before = [one.value["probability"].tolist() for one in test.dataframe if "probability" in one.value]
    test.number_input(key="frame-scan.dcm").set_value(2).run()
    assert before != [one.value["probability"].tolist() for one in test.dataframe if "probability" in one.value]


def test_other_runs_are_asked_for_their_opinion(image: Path) -> None:
    (run_id,) = runs.list_ids()
    other = f"{run_id[:-3]}fff"
    shutil.copytree(runs.folder(run_id), runs.folder(run_id).with_name(other))
    test = visit(PAGE)
    chosen = box(test, "run").value
    (second,) = {run_id, other} - {chosen}
    test.multiselect(key=f"opinions-{chosen}").set_value([second]).run()
    test.file_uploader(key="uploads-False").upload("lungs.jpeg", image.read_bytes(), "image/jpeg").run()
    assert not test.exception and "Second opinions" in text(test) and "1 of 1 say" in text(test)
    made_ = ensembles.create([run_id, other])
    test = visit(PAGE)
    test.query_params["run"] = made_
    test.run()
    test.file_uploader(key="uploads-False").upload("lungs.jpeg", image.read_bytes(), "image/jpeg").run()
    assert not test.exception and "Prediction of the ensemble" in text(test) and "2 of 2 say" in text(test)


@pytest.mark.slow
def test_a_run_that_cannot_answer_here_costs_only_its_opinion(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (run_id,) = runs.list_ids()
    broken = f"{run_id[:-3]}fff"
    shutil.copytree(runs.folder(run_id), runs.folder(run_id).with_name(broken))
    (runs.folder(broken) / "model.keras").write_bytes(b"no model")
    tried: list[str] = []
    real = model_cache._load
    monkeypatch.setattr(model_cache, "_load", lambda run, export: tried.append(run.id) or real(run, export))
    test = visit(PAGE)
    test.query_params["run"] = run_id
    test.run()
    test.multiselect(key=f"opinions-{run_id}").set_value([broken]).run()
    assert any("No second opinion" in one.value and "damaged" in one.value for one in test.warning)
    test.file_uploader(key="uploads-False").upload("lungs.jpeg", image.read_bytes(), "image/jpeg").run()
    assert not test.exception and "(uncalibrated)" in text(test)
    assert tried.count(broken) == 1  # each try takes seconds


def test_without_an_address_the_best_on_the_validation_images_of_the_newest_run_answers(image: Path) -> None:
    """And the others follow, the newest first; figures on other validation images cannot be compared."""
    (best,) = runs.list_ids()
    here, made = runs.get(best).config.data, runs.get(best).config.manifest
    cases = ((here, made, 0.2, 9), ("others", made, 1.0, -9), (here, "0" * 12, 1.0, -8))
    for number, (name, manifest, accuracy, later) in enumerate(cases):
        other = f"{best[:-3]}ff{number}"
        place = runs.folder(best).with_name(other)
        shutil.copytree(runs.folder(best), place)
        for file, change in (
            ("metrics.json", lambda kept, to=accuracy: kept["val"].update(accuracy=to)),
            ("config.json", lambda kept, to=name, of=manifest: kept.update(data=to, manifest=of)),
            ("status.json", lambda kept, by=later: kept.update(created=kept["created"] + by)),
        ):
            kept = json.loads((place / file).read_text())
            change(kept)
            (place / file).write_text(json.dumps(kept))
    for page in (PAGE, "pages/model/results.py"):
        chosen = box(visit(page), "run")
        assert chosen.value == best and chosen.index == 0 and len(chosen.options) == 4


def saved(run_id: str, **changes: object) -> DecisionRule:
    """Save a rule with these changes of what would be fitted."""
    rule = replace(rule_store.fit(run_id, min_images=1), **changes)  # type: ignore[arg-type]
    rule_store.save(run_id, rule)
    return rule


def test_below_the_reject_threshold_it_says_that_it_is_not_confident(image: Path) -> None:
    saved(runs.list_ids()[0], reject_threshold=1.0)
    test = uploaded(("lungs.jpeg", image.read_bytes()))
    assert [one.value for one in test.header] == ["Not confident"] and "The nearest is" in text(test)


def test_the_decision_rule_is_told_with_what_it_gives(image: Path) -> None:
    (run_id,) = runs.list_ids()
    rule = saved(run_id, positive=("viral", "bacterial"), threshold=0.4, criterion="mine", reject_threshold=0.5)
    said = text(uploaded(("lungs.jpeg", image.read_bytes())))
    assert "calibrated: of 100 images" in said and "(mine)" in said
    for split in ("validation", "test"):
        counts = decision_metrics.count(
            prediction_set.read(run_id, split[:3] if split == "validation" else split), rule
        )
        found, spared = (100 * counts[name][0] / counts[name][1] for name in ("sensitivity", "specificity"))
        told = f"on {counts['coverage'][1]:,} {split} images its sensitivity is {found:.1f} % and its specificity {spared:.1f} %"
        assert told in said


def test_an_answer_against_the_most_probable_class_is_explained(image: Path) -> None:
    (run_id,) = runs.list_ids()
    plain = predict.load(run_id)
    answer = plain.predict(plain.prepare([images.decode(image.read_bytes())]))[0]
    best = answer.most_probable
    others = tuple(name for name in plain.classes if name != best)
    saved(run_id, positive=others, threshold=0.0, temperature=1.0)  # whatever it is, it is one of the others
    share = sum(answer.probabilities[name] for name in others)
    said = text(uploaded(("lungs.jpeg", image.read_bytes())))
    assert f"together have {100 * share:.1f} %, at least the 0.0 %" in said
    assert (
        f"most probable single class is {formatting.class_title(best).lower()} ({100 * answer.calibrated[best]:.1f} %)"
        in said
    )


def test_how_good_it_is_is_told_as_it_answers(image: Path) -> None:
    (run_id,) = runs.list_ids()
    plain = synthetic_runs.better(run_id, "test")
    assert f"**{100 * plain.correct.mean():.1f} %**" in text(visit(PAGE))
    # all but everything is normal
    rule = saved(run_id, positive=("viral", "bacterial"), threshold=0.999, criterion="mine", reject_threshold=0.6)
    called = decided(plain, rule)
    assert called.correct.sum() != plain.correct.sum()
    said = text(visit(PAGE))
    assert f"**{100 * called.correct.mean():.1f} %**" in said and "(mine)" in said
    counts = decision_metrics.count(plain, rule)
    assert f"Confident in {counts['coverage'][0]:,} of them" in said
    sure = 100 * counts["sensitivity_confident"][0] / counts["sensitivity_confident"][1]
    assert f" % ({sure:.1f} % confidently), specificity" in said


@pytest.mark.parametrize("refuses", [True, False])
def test_what_the_gate_stops_gets_no_answer(image: Path, monkeypatch: pytest.MonkeyPatch, refuses: bool) -> None:
    said = (Finding("no_xray", refuses, "It seems to be a photograph."),)
    monkeypatch.setattr(
        predict, "basic_findings", lambda *_, **__: [said]
    )  # this run has learned from too few images for a gate
    test = uploaded(("cat.jpeg", image.read_bytes()))
    assert not [one for one in test.get("button_group") if "Heatmap" in str(one)]  # nor one that would explain it
    assert "It seems to be a photograph." in text(test) and "(uncalibrated)" not in text(test)
    if refuses:
        assert "No prediction is shown" in text(test) and not test.toggle
    else:
        test.toggle(key="override-cat.jpeg").set_value(True).run()
        assert "(uncalibrated)" in text(test)


def test_a_run_without_a_gate_says_so_and_files_of_one_name_stay_apart(image: Path) -> None:
    other = next(one for one in image.parent.parent.rglob("*.jpeg") if one != image)
    files = zipped({f"{folder}/x.jpeg": one.read_bytes() for folder, one in (("a", image), ("b", other))})
    test = uploaded(("two.zip", files))
    assert text(test).count("cannot tell whether an image is a chest X-ray") == 1
    said = text(test).replace("\\", "")
    assert "x.jpeg (1 of 2)" in said and "x.jpeg (2 of 2)" in said


def test_a_chosen_row_of_many_is_that_very_file(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_predictions, "_table", lambda *_, **__: 2)  # behind the one that tells what was left out
    files = zipped({f"{folder}/x.jpeg": image.read_bytes() for folder in "abcdef"} | {"notes.txt": b"no"})
    test = uploaded(("x.zip", files))
    assert "b/x.jpeg (2 of 6)" in text(test).replace("\\", "")
    monkeypatch.setattr(batch_predictions, "_table", lambda *_, **__: 0)
    assert "notes.txt" in text(test.run())


def test_a_name_is_shown_as_it_is(image: Path) -> None:
    files = zipped({"d/![x](http://127.0.0.1:9/p.png).jpeg": image.read_bytes(), "d/[a](b).png": b"no image"})
    page = uploaded(("x.zip", files))
    marked = "\n".join(
        str(part.value) for part in (*page.markdown, *page.caption, *page.error, *page.warning, *page.info)
    )
    assert "![x](" not in marked and "[a](b)" not in marked and "http://" not in marked
    assert "![x](http://127.0.0.1:9/p.png)" in text(page) and "[a](b)" in text(page)


@pytest.mark.usefixtures("trained_home")
def test_two_dicom_files_of_one_name_with_several_frames() -> None:
    stack = np.stack([np.full((40, 40), 60 + 50 * frame, np.uint8) for frame in range(3)])
    film = content(made(stack, NumberOfFrames=3))
    test = uploaded(("x.zip", zipped({"a/m.dcm": film, "b/m.dcm": film})))
    assert len(test.number_input) == 2


def test_an_example_says_whether_it_was_right(trained_home: Path) -> None:
    test = visit(PAGE)
    test.segmented_control(key="way").set_value("example").run()
    assert not test.exception and "true class:" in text(test)


def test_a_damaged_file_beside_a_good_one(image: Path) -> None:
    test = uploaded(("a.jpeg", image.read_bytes()), ("b.jpeg", image.read_bytes()[:3000]))
    assert "b.jpeg" in text(test) and "damaged or cut short" in text(test) and "(uncalibrated)" in text(test)
    assert images.read(image.read_bytes()).size
