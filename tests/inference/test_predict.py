"""Loaded models: kept in memory, bounded, in order, the same answers as the evaluation's, and honest about doubt."""

import json
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pandas as pd
import pytest

from cxr_core import images
from cxr_core.data import datasets
from cxr_core.errors import BadInput, UnknownName, WorkFailed
from cxr_core.evaluation import calibration, ensembles, rule_store
from cxr_core.inference import litert_model, model_cache, predict
from cxr_core.inference.input_check.checks import Finding
from cxr_core.inference.predict import InputFile
from cxr_core.runs import run_store as runs
from cxr_core.server import documents
from tests.test_dicom import content as dicom_content
from tests.test_dicom import made


@pytest.fixture
def run_id(trained_home: Path) -> str:
    model_cache.clear()
    return runs.list_ids()[0]


def asked(model: predict.LoadedModel, grey: np.ndarray) -> predict.Prediction:
    return model.predict(model.prepare([images.DecodedImage(grey)]))[0]


def table_of(run_id: str) -> pd.DataFrame:
    return pd.read_parquet(runs.predictions_path(run_id, "test"))


def test_every_test_image_gets_the_probabilities_of_its_row(run_id: str) -> None:
    table = table_of(run_id)
    items = [InputFile(name, datasets.image_path("phantoms", name)) for name in table["id"]]
    found = list(predict.stream(predict.load(run_id), items))
    assert [one.name for one in found] == table["id"].tolist()
    given = np.array([list(one.prediction.probabilities.values()) for one in found if one.prediction])
    np.testing.assert_allclose(given, table[[f"p_{name}" for name in runs.get(run_id).config.classes]], atol=1e-4)


def test_neither_keras_nor_what_takes_long_to_import_is_needed(run_id: str) -> None:
    code = (
        "import sys; from cxr_core.server import endpoint; from cxr_core.inference import predict, prediction_export\n"
        f"file = predict.InputFile('x', {IMAGE!r})\n"
        f"print(list(predict.stream(predict.load({run_id!r}), [file]))[0].prediction.label)\n"
        "late = set(sys.modules) & {'tensorflow', 'keras', 'scipy.stats', 'scipy.optimize', 'scipy.sparse'}\n"
        "assert not late, late"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


IMAGE = images.encode(np.random.default_rng(0).integers(0, 256, (70, 60), dtype=np.uint8), format="PNG")


def test_what_cannot_be_read_is_told_in_its_place(run_id: str) -> None:
    items = [
        InputFile("a", IMAGE),
        InputFile("b", b"no image"),
        InputFile("c", IMAGE),
        InputFile("d", Path("/none.png")),
        InputFile("e", b""),
    ]
    found = list(predict.stream(predict.load(run_id), items))
    assert [one.name for one in found] == list("abcde")
    assert [one.prediction is None for one in found] == [False, True, False, True, True]
    assert all(one.problem for one in found if one.prediction is None)
    assert (
        found[0].small is not None
        and found[0].small.shape == (64, 64)
        and (found[0].width, found[0].height) == (60, 70)
    )


def test_whoever_stops_reading_stops_the_work(run_id: str) -> None:
    asked: list[int] = []

    def content(number: int) -> bytes:
        asked.append(number)
        return IMAGE

    stream = predict.stream(
        predict.load(run_id), (InputFile(str(one), lambda one=one: content(one)) for one in range(1000))
    )
    next(stream)
    stream.close()
    assert len(asked) <= 2 * predict.PREFETCH


def test_a_run_without_an_export_is_exported_once(run_id: str) -> None:
    shutil.rmtree(runs.folder(run_id) / litert_model.FOLDER)
    predict.load(run_id)
    assert litert_model.files_of(runs.get(run_id))


@pytest.mark.slow
def test_a_network_that_cannot_be_exported_does_not_answer_and_tensorflow_stays_out(run_id: str) -> None:
    """Whatever fails: the exporting process ends with a sentence, and this one says it and what to do."""
    shutil.rmtree(runs.folder(run_id) / litert_model.FOLDER)
    (runs.folder(run_id) / "model.keras").write_bytes(b"no model")
    code = (
        "import sys; from cxr_core.errors import WorkFailed; from cxr_core.inference import predict\n"
        "from cxr_core.server import endpoint\n"
        f"try: predict.load({run_id!r})\n"
        "except WorkFailed as error: print(error)\n"
        "assert not set(sys.modules) & {'tensorflow', 'keras'}"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "cannot answer on this machine" in done.stdout and "damaged" in done.stdout
    assert f"python -m cxr_core export {run_id}" in done.stdout and "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (subprocess.TimeoutExpired("export", 600), "more than 600 seconds"),
        (OSError(28, "No space left on device", "/x"), "/x could not be written (No space left on device)"),
        (subprocess.CompletedProcess([], -9, "", ""), "ended by signal 9"),
        (subprocess.CompletedProcess([], 1, "", ""), "ended with code 1"),
        (
            subprocess.CompletedProcess([], 1, "", "W0000 a remark\nThe disk is full.\n"),
            "exported. The disk is full. To try",
        ),
    ],
)
def test_why_an_export_failed_is_told_and_not_tried_again_at_once(
    run_id: str, monkeypatch: pytest.MonkeyPatch, outcome: object, words: str
) -> None:
    tries: list[object] = []

    def run(*given: object, **named: object) -> object:
        tries.append(given)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    shutil.rmtree(runs.folder(run_id) / litert_model.FOLDER)
    monkeypatch.setattr(model_cache, "_CACHE", model_cache.ModelCache())
    monkeypatch.setattr(model_cache.subprocess, "run", run)
    for _ in range(2):
        with pytest.raises(WorkFailed, match=re.escape(words)):
            predict.load(run_id)
    assert len(tries) == 1


def test_without_litert_it_says_what_to_install_and_deletes_nothing(
    run_id: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(runs.folder(run_id).rglob("*"))
    monkeypatch.setattr(model_cache, "_CACHE", model_cache.ModelCache())
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    with pytest.raises(WorkFailed, match="pip install ai-edge-litert"):
        predict.load(run_id)
    assert sorted(runs.folder(run_id).rglob("*")) == before


@pytest.mark.slow
def test_a_damaged_export_is_made_again(run_id: str) -> None:
    part = runs.folder(run_id) / litert_model.FOLDER / "part.tflite"
    expected, whole = asked(predict.load(run_id), images.read(IMAGE)), part.read_bytes()
    part.write_bytes(whole[: len(whole) // 3])
    model_cache.clear()
    again = asked(predict.load(run_id), images.read(IMAGE))
    assert again.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    assert len(part.read_bytes()) == len(whole)


def test_networks_stay_warm_up_to_the_budget(run_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = f"{run_id[:-3]}fff"
    shutil.copytree(runs.folder(run_id), runs.folder(run_id).with_name(other))
    first = predict.load(run_id).members[0]
    assert predict.load(run_id).members[0] is first
    predict.load(other)
    assert model_cache.loaded_ids() == [run_id, other]
    monkeypatch.setenv("CXR_MODELS_MB", "1")
    model_cache.clear()
    predict.load(run_id), predict.load(other)
    assert model_cache.loaded_ids() == [other]
    monkeypatch.setenv("CXR_MODELS_MB", "much")
    with pytest.raises(BadInput, match="CXR_MODELS_MB"):
        model_cache.budget()


def test_many_sessions_share_one_network_and_get_the_same_answers(run_id: str) -> None:
    grey, found = images.read(IMAGE), []
    threads = [Thread(target=lambda: found.append(asked(predict.load(run_id), grey))) for _ in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert len({json.dumps(one.probabilities) for one in found}) == 1 and len(found) == 12


def test_the_decision_rule_is_that_of_this_moment(run_id: str) -> None:
    grey = images.read(IMAGE)
    before = asked(predict.load(run_id), grey)
    assert before.calibrated == before.probabilities
    classes = runs.get(run_id).config.classes
    rule = rule_store.fit(run_id, min_images=1, positive=classes[1:], threshold=0.0)
    rule_store.save(run_id, rule)
    after = asked(predict.load(run_id), grey)
    assert rule.temperature != 1 and after.probabilities == before.probabilities
    expected = calibration.apply_temperature([list(before.probabilities.values())], rule.temperature)[0]
    assert list(after.calibrated.values()) == pytest.approx(expected)
    assert after.label != classes[0]  # at a threshold of 0 nothing is normal


def test_members_of_an_ensemble_are_counted_by_their_own_rules(run_id: str) -> None:
    other = f"{run_id[:-3]}fff"
    shutil.copytree(runs.folder(run_id), runs.folder(run_id).with_name(other))
    made = ensembles.create([run_id, other])
    answer = asked(predict.load(made), images.read(IMAGE))
    assert answer.member_labels == {run_id: answer.label, other: answer.label}
    others = tuple(name for name in runs.get(run_id).config.classes if name != answer.label)
    rule_store.save(other, rule_store.fit(other, min_images=1, positive=others, threshold=0.0))
    apart = asked(predict.load(made), images.read(IMAGE))
    assert apart.label == answer.label == apart.member_labels[run_id] != apart.member_labels[other]


def test_an_ensemble_answers_by_its_way(run_id: str) -> None:
    other = f"{run_id[:-3]}fff"
    shutil.copytree(runs.folder(run_id), runs.folder(run_id).with_name(other))
    made = ensembles.create([run_id, other])
    model = predict.load(made)
    answer = asked(model, images.read(IMAGE))
    assert set(answer.member_probabilities) == {run_id, other}
    assert answer.probabilities == pytest.approx(answer.member_probabilities[run_id], abs=1e-6)
    assert model.attribution(images.read(IMAGE), answer.label).max() > 0


def test_heatmaps_know_the_classes(run_id: str) -> None:
    with pytest.raises(BadInput, match="knows no class 'broken'"):
        predict.load(run_id).attribution(images.read(IMAGE), "broken")


def test_an_unknown_run_lists_the_known_ones(run_id: str) -> None:
    with pytest.raises(UnknownName, match=run_id):
        predict.load("nobody")


def test_a_run_without_a_gate_says_so_once_and_not_of_each_image(run_id: str) -> None:
    model = predict.load(run_id)
    said = [one.text for one in asked(model, images.read(IMAGE)).findings]
    assert "export RUN" in model.notice and model.notice not in said
    assert replace(model, checks=(lambda shown: [()] * len(shown),)).notice == ""


def test_a_void_rule_is_a_notice(run_id: str) -> None:
    rule = rule_store.fit(run_id, min_images=1, positive=runs.get(run_id).config.classes[1:], threshold=0.5)
    rule_store.save(run_id, rule)
    assert "void" not in predict.load(run_id).notice
    rule_store.save(run_id, replace(rule, digest="of others"))
    notice = documents.model_notes(predict.load(run_id))["notice"]
    assert notice.count("is void: the predictions that it was fitted on have changed") == 1 and "export RUN" in notice
    rule_store.delete(run_id)


def test_a_gate_that_refuses_is_told(run_id: str) -> None:
    said = (Finding("small", False, "Small."), Finding("no_xray", True, "None."))
    model = replace(predict.load(run_id), checks=(lambda shown: [said] * len(shown),))
    answer = asked(model, images.read(IMAGE))
    assert answer.refused and [one.text for one in answer.findings] == ["None.", "Small."]


def test_several_frames_are_told_unless_one_was_chosen(run_id: str) -> None:
    grey = images.read(IMAGE)
    film = dicom_content(made(np.stack([grey, 255 - grey]), NumberOfFrames=2, Modality="CT"))
    model = predict.load(run_id)
    first, chosen = predict.stream(model, [InputFile("a", film), InputFile("b", film, frame=1)])
    assert (
        first.prediction
        and {"frames", "modality"} <= {one.kind for one in first.prediction.findings}
        and first.prediction.refused
    )
    assert chosen.prediction and "frames" not in {one.kind for one in chosen.prediction.findings}
    assert first.prediction.probabilities != chosen.prediction.probabilities


def test_an_answer_that_the_threshold_forces_is_not_confident(run_id: str) -> None:
    grey, model = images.read(IMAGE), predict.load(run_id)
    shares = asked(model, grey).calibrated
    least = min(shares, key=shares.__getitem__)
    bar = (shares[least] + max(shares.values())) / 2
    sure = replace(model, rule=replace(model.rule, reject_threshold=bar))
    assert asked(sure, grey).confident
    others = tuple(name for name in model.classes if name != least)
    forced = asked(replace(sure, rule=replace(sure.rule, positive=others, threshold=1.0)), grey)
    assert forced.label == least and not forced.confident
