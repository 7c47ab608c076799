"""The report is one file that says all that a reader must know, in words and tables too."""

import base64
import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from cxr_core import formatting
from cxr_core.data import audit, datasets, manifest
from cxr_core.errors import BadInput, UnknownName
from cxr_core.evaluation import (
    decision_metrics,
    decision_rule,
    image_metadata,
    intervals,
    metrics,
    prediction_set,
    predictions,
    report,
    rule_store,
)
from cxr_core.runs import run_store as runs
from tests import synthetic_runs


@pytest.fixture
def two(home: Path) -> list[str]:
    synthetic_runs.paper_set()
    patient = manifest.build("kermany", split="patient")
    return [synthetic_runs.on("kermany", patient.id, seed=seed, skill=1.5 + seed / 3, age=9 * seed) for seed in (1, 2)]


def words(html: str) -> str:
    text = re.sub(r"<(script|style)>.*?</\1>", " ", html, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", text))


def test_one_run(two: list[str]) -> None:
    rule = rule_store.fit(two[0])
    rule_store.save(two[0], rule)
    html = report.html([two[0]])
    told = words(html)
    run, found = runs.get(two[0]), prediction_set.read(two[0], "test")
    assert formatting.DISCLAIMER in told and all(one in told for one in report.LIMITS)
    assert run.config.manifest in told and "4,097" not in told and f"{datasets.get('kermany').patients:,}" in told
    patients = image_metadata.patients(found, "kermany")
    card = metrics.estimate(found, patients)
    card |= metrics.estimate(decision_rule.calibrated(found, rule.temperature), patients, parts=("terms",))
    for name in ("accuracy", "macro_f1", "auc:viral", "ece"):
        assert formatting.estimate(card[name], share=metrics.is_percentage(name)) in " ".join(told.split()), name
    assert all(meaning in told for meaning in metrics.DESCRIPTIONS.values())
    assert "After temperature" in html and "Temperature(" not in told
    assert html.count("<script>draw(") == 8 and html.count('role="img"') == 8
    assert "learning_rate" in told and "Trained for" in told
    for row in found.confusion:
        assert re.search(r"\s+".join(map(str, row)), told)
    assert len(html.encode()) <= 8 * 2**20


def test_figures_are_by_the_decision_rule_and_the_highest_probability_stands_beside_them(two: list[str]) -> None:
    assert "By highest probability" not in words(report.html([two[0]]))
    rule = rule_store.fit(two[0], target_sensitivity=0.99)
    rule_store.save(two[0], rule)
    told = " ".join(words(report.html([two[0]])).split())
    plain = prediction_set.read(two[0], "test")
    called = decision_rule.decided(plain, rule)
    card = metrics.estimate(called, None, parts=("counts",))
    for name in ("accuracy", "recall:normal"):
        assert formatting.estimate(card[name]) in told
    assert "finds at least 99 % of them" in told and " ".join(map(str, called.confusion[0])) in told
    shown = told.split("What a person is shown")[1]
    for part, whole in decision_metrics.count(plain, rule).values():
        assert f"{formatting.interval(intervals.wilson(part, whole))}), {part:,} of {whole:,}" in shown
    assert f"the accuracy is {formatting.percent(plain.correct.mean())}" in shown


def test_each_plot_can_be_saved_as_png_and_svg_under_a_name_of_its_own(two: list[str]) -> None:
    saved = re.findall(r"save\('([^']+)', '(png|svg)'\)", report.html(two))
    assert len(saved) == len(set(saved)) == 2 * 2 * 8
    assert any(name.startswith(f"confusion-matrix-{two[0].replace('_', '-')}-test") for name, _ in saved)


def test_one_class_alone_has_no_curves_and_is_reported(home: Path) -> None:
    synthetic_runs.paper_set()
    made = synthetic_runs.run(
        {"test": ([f"test/normal/{n:04d}.jpeg" for n in range(20)], ["normal"] * 20)}, data="kermany"
    )
    assert report.html([made]).count('role="img"') == 6


def test_it_needs_nothing_from_elsewhere(two: list[str]) -> None:
    html = report.html(two)
    without = re.sub(r"<script>.*?</script>", "", html, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=['"]?https?:""", without)
    assert len(html.encode()) <= 8 * 2**20


def test_predictions_are_in_it_as_csv(two: list[str]) -> None:
    (content,) = re.findall('data:text/csv;base64,([^"]+)"', report.html([two[0]], split="val"))
    lines = base64.b64decode(content).decode().splitlines()
    assert lines[0].split(",") == ["id", "true", "p_normal", "p_viral", "p_bacterial"]
    assert len(lines) == len(prediction_set.read(two[0], "val")) + 1


def test_several_runs_are_compared(two: list[str]) -> None:
    told = words(report.html(two))
    assert "Compared on test images" in told and "McNemar's exact p" in told and "624 images that both" in told
    assert "seed" in told.split("Settings that differ")[1][:200]


def test_a_rule_that_is_damaged_or_void_is_named_above_the_figures(two: list[str]) -> None:
    for run_id in two:
        rule_store.save(run_id, rule_store.fit(run_id, target_sensitivity=0.99))
    (runs.folder(two[0]) / rule_store.FILE).write_text("{")
    val = prediction_set.read(two[1], "val")
    predictions.write(runs.predictions_path(two[1], "val"), val.take(np.arange(len(val) - 1)).table())
    for run_id, problem in zip(two, ("is damaged. Delete its file", "is void: the predictions"), strict=True):
        text = words(report.html([run_id]))
        assert problem in text and text.index(problem) < text.index("Metrics on")
    compared = words(report.html(two)).split("Compared on")[1].split("Settings that differ")[0]
    assert "is damaged. Delete its file" in compared and "is void: the predictions" in compared


def test_what_people_wrote_is_text_and_not_markup(two: list[str]) -> None:
    path = runs.folder(two[0]) / "config.json"
    path.write_text(path.read_text().replace('"custom_cnn"', '"<script>alert(1)</script>"'))
    html = report.html([two[0]], title="</title><script>alert(2)</script>")
    assert "<script>alert" not in html and "&lt;script&gt;alert(1)" in html


@pytest.mark.slow
def test_synthetic_images_are_marked(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    audit.run("phantoms")
    told = words(report.html([run.id]))
    assert "drawn, not photographed" in told and "Audit found" in told


def test_a_dataset_that_is_gone_is_told(two: list[str]) -> None:
    datasets.remove("kermany")
    assert "Not all of it is on this machine" in words(report.html([two[0]]))


def test_what_cannot_be_reported(two: list[str]) -> None:
    with pytest.raises(BadInput, match="at least one run"):
        report.html([])
    with pytest.raises(UnknownName):
        report.html(["nobody"])
    with pytest.raises(UnknownName, match="split"):
        report.html([two[0]], split="dev")
