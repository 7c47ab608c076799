"""The results pages: each view of a run, the leaderboard, the comparison, and odd cases, on made-up predictions."""

import ast
import base64
import json
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from PIL import Image
from streamlit.testing.v1 import AppTest

from cxr_core import cli, formatting, process
from cxr_core.data import manifest
from cxr_core.errors import UnknownName
from cxr_core.evaluation import (
    calibration,
    confusion,
    decision_metrics,
    decision_rule,
    ensembles,
    leaderboard,
    metrics,
    operating_point,
    prediction_set,
    predictions,
    rule_store,
)
from cxr_core.runs import run_store as runs
from cxr_core.runs import trash
from pages.ui import model_card
from pages.ui.gallery import Picked
from tests import synthetic_runs
from tests.conftest import PROJECT
from tests.pages.test_pages import box, text, visit

RESULTS, BOARD, COMPARE = (f"pages/model/{page}.py" for page in ("results", "leaderboard", "compare"))
NOBODY = Picked(None, ())
VIEWS = ("matrix", "curves", "calibration", "threshold", "groups", "learning", "files")


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def patient(home: Path) -> str:
    """The paper's images by their numbers, validation by patients; its manifest."""
    synthetic_runs.paper_set()
    return manifest.build("kermany", split="patient").id


@pytest.fixture
def two(patient: str) -> list[str]:
    """A better run and a worse one."""
    return [
        synthetic_runs.on("kermany", patient, seed=1, skill=2.2, age=10),
        synthetic_runs.on("kermany", patient, seed=2, skill=1.4, age=500),
    ]


def view(test: AppTest, name: str, **state: object) -> AppTest:
    test.session_state["view"] = name
    for key, value in state.items():
        test.session_state[key] = value
    test.run()
    assert not test.exception, test.exception[0].message
    return test


def table_with(test: AppTest, column: str) -> pd.DataFrame:
    return next(one.value for one in test.dataframe if column in one.value)


@pytest.mark.parametrize("split", ["test", "val", "train"])
def test_every_view_of_every_split_is_drawn(two: list[str], split: str) -> None:
    test = visit(RESULTS, run=two[0])
    test.session_state["split"] = split
    for name in VIEWS:
        view(test, name)
        assert not test.error and not test.warning[1:], name


def test_headline_and_report_are_those_of_the_predictions(two: list[str]) -> None:
    test = visit(RESULTS, run=two[0])
    found = prediction_set.read(two[0], "test")
    shown = {metric.label: metric for metric in test.metric}
    assert shown["Accuracy"].value == f"{100 * found.correct.mean():.1f} %"
    assert " to " in shown["Macro F1"].delta and " to " in shown["Balanced accuracy"].delta
    report = next(one.value for one in test.table if "f1-score" in one.value)
    assert report["support"].tolist()[:3] == [234, 148, 242]
    expected = confusion.classification_report(found.classes, found.confusion)["f1-score"]
    np.testing.assert_allclose(report["f1-score"], expected)


def test_a_cell_in_the_address_shows_its_images_on_a_cold_start(two: list[str]) -> None:
    test = visit(RESULTS, run=two[1], cell="normal,viral")
    found = prediction_set.read(two[1], "test")
    count = int(((found.true == 0) & (found.predicted == 1)).sum())
    assert "Normal predicted as viral pneumonia" in text(test)
    assert f"**{count} images**" in text(test)
    assert not test.error


def test_worst_come_first(two: list[str]) -> None:
    from pages.ui import image_drilldown

    found = prediction_set.read(two[1], "test")
    inside = (found.true == 0) & (found.predicted != 0)
    places = image_drilldown.worst_first(found, inside)
    truth = found.probabilities[places, 0]
    assert len(places) == inside.sum() and (np.diff(truth) >= 0).all()


def test_the_images_of_a_cell_are_shown_with_where_the_network_looked(
    trained_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pages.ui import image_selection

    shown: list[list[str]] = []
    monkeypatch.setattr(
        image_selection, "gallery", lambda tiles, **_: shown.append([one.picture for one in tiles]) or NOBODY
    )
    run_id = runs.list_ids()[0]
    found = prediction_set.read(run_id, "test")
    true, called = (found.classes[int(codes[0])] for codes in (found.true, found.predicted))
    test = visit(RESULTS, run=run_id, cell=f"{true},{called}")
    test.toggle(key="mapped-cases").set_value(True).run()
    assert not test.exception and not test.error
    plain, mapped = shown[-2:]
    assert len(plain) == len(mapped) and not set(plain) & set(mapped)
    assert len(set(mapped)) == len(mapped)
    row = Image.open(BytesIO(base64.b64decode(mapped[0].split(",")[1])))
    assert row.mode == "RGB" and row.size == (180, 180)


def test_a_threshold_is_chosen_on_validation_shown_on_test_and_saved(two: list[str]) -> None:
    test = visit(RESULTS, run=two[0])
    view(test, "threshold", rule="sensitivity")
    rule = rule_store.fit(two[0], target_sensitivity=0.95)
    shown = decision_rule.calibrated(prediction_set.read(two[0], "test"), rule.temperature)
    outcome = operating_point.outcome_at(*operating_point.question(shown, ("viral", "bacterial")), rule.threshold)
    on_screen = {metric.label: metric.value for metric in test.metric}
    assert on_screen["Sensitivity"] == f"{100 * outcome.sensitivity.value:.1f} %"
    assert on_screen["NPV"] == f"{100 * outcome.npv.value:.1f} %"
    test.button(key="keep-point").click().run()
    assert rule_store.saved(two[0]) == rule and rule_store.saved(two[1]) is None
    test.button(key="forget-rule").click().run()
    assert rule_store.saved(two[0]) is None


@pytest.mark.parametrize(("way", "criterion"), [("hand", "by hand"), ("youden", "best balance on validation")])
def test_a_threshold_chosen_otherwise_is_saved_as_it_was_shown(two: list[str], way: str, criterion: str) -> None:
    test = view(visit(RESULTS, run=two[0]), "threshold", rule=way)
    on_screen = {metric.label: metric.value for metric in test.metric}
    test.button(key="keep-point").click().run()
    rule = rule_store.saved(two[0])
    assert rule is not None and rule.criterion == criterion and rule.temperature != 1
    found, n = decision_metrics.count(prediction_set.read(two[0], "test"), rule)["specificity"]
    assert on_screen["Specificity"] == f"{100 * found / n:.1f} %"


def test_images_are_called_by_the_decision_rule_unless_the_highest_probability_is_chosen(two: list[str]) -> None:
    plain = prediction_set.read(two[0], "test")
    assert not [one for one in visit(RESULTS, run=two[0]).get("button_group") if one.label == "Decision rule"]
    rule = rule_store.fit(two[0], target_sensitivity=0.99)
    rule_store.save(two[0], rule)
    called = decision_rule.decided(plain, rule)
    assert called.correct.sum() != plain.correct.sum()

    for state, found in (({}, called), ({"by": "probable"}, plain), ({"by": "point"}, called)):
        test = view(visit(RESULTS, run=two[0]), "matrix", **state)
        accuracy = next(one.value for one in test.metric if one.label == "Accuracy")
        assert accuracy == f"{100 * found.correct.mean():.1f} %"
        assert f"all images ({found.correct.mean():.1%})" in text(view(test, "groups"))
        calm = decision_rule.calibrated(found, rule.temperature)
        table = next(one.value for one in view(test, "calibration").table)
        error = calibration.expected_calibration_error(calm.confidence, found.correct)
        assert table.loc["Calibration error", "Calibrated"].startswith(f"{error:.3f} ")


def test_what_a_person_is_shown_stands_under_the_headline(two: list[str]) -> None:
    rule = rule_store.fit(two[0], target_sensitivity=0.95)
    rule_store.save(two[0], rule)
    test = visit(RESULTS, run=two[0])
    said = text(test) + " ".join(one.value for one in test.metric)
    for part, whole in decision_metrics.count(prediction_set.read(two[0], "test"), rule).values():
        assert f"{100 * part / whole:.1f} %" in said
    (runs.folder(two[0]) / rule_store.FILE).write_text("{}")
    damaged = visit(RESULTS, run=two[0])
    assert any("decision rule" in one.value and "damaged" in one.value for one in damaged.warning)
    assert next(one.value for one in damaged.metric if one.label == "Accuracy")


def test_one_headline_figure_stands_everywhere_with_its_rule(two: list[str]) -> None:
    """Home, Results, Leaderboard and Compare give the accuracy with all images called by the decision rule, and name the rule."""
    for run_id in two:
        rule_store.save(run_id, rule_store.fit(run_id, target_sensitivity=0.99))
    rule, plain = rule_store.of_run(two[0]), prediction_set.read(two[0], "test")
    accuracy = decision_metrics.count(plain, rule)["accuracy_all"]
    assert accuracy.value != plain.correct.mean()
    told, between = f"{100 * accuracy.value:.1f} %", formatting.interval(accuracy.interval)
    words = formatting.decision_rule(rule)
    home = [one for one in visit("pages/overview/home.py").metric if one.label.startswith("Best test accuracy")]
    best = max(two, key=lambda run_id: runs.get(run_id).metrics["val"]["accuracy"])
    expected = decision_metrics.count(prediction_set.read(best, "test"), rule_store.of_run(best))["accuracy_all"]
    assert [one.value for one in home] == [f"{100 * expected.value:.1f} %"]
    assert formatting.interval(expected.interval) in home[0].delta
    results = visit(RESULTS, run=two[0])
    shown = next(one for one in results.metric if one.label == "Accuracy")
    assert (shown.value, shown.delta) == (told, between) and f"Decision rule: {words}" in text(results)
    board = board_row(visit(BOARD), two[0])
    assert board["estimate"] == f"{told} ({between})" and board["rule"] == words
    plainly = board_row(visit(BOARD, calling="probable"), two[0])
    assert (
        plainly["estimate"].startswith(f"{100 * plain.correct.mean():.1f} %")
        and plainly["rule"] == "highest probability"
    )
    compare = visit(COMPARE, a=two[0], b=two[1])
    assert next(one.value for one in compare.table).loc["Accuracy", "A"].replace("\u00a0", " ") == told
    assert f"Decision rule of A: {words}" in text(compare)


def test_a_void_or_damaged_rule_is_named_wherever_a_figure_is_shown(two: list[str]) -> None:
    for run_id in two:
        rule = rule_store.fit(run_id, target_sensitivity=0.99)
        rule_store.save(run_id, replace(rule, digest="of others"))
    phrase = "is void: the predictions that it was fitted on have changed since"
    results, home, compare = (
        visit(RESULTS, run=two[0]),
        visit("pages/overview/home.py"),
        visit(COMPARE, a=two[0], b=two[1]),
    )
    assert all(any(phrase in one.value for one in page.warning) for page in (results, home))
    assert f"highest probability (the saved decision rule of run '{two[0]}' {phrase})" in text(results)
    assert phrase in text(compare) and phrase in board_row(visit(BOARD), two[0])["rule"]
    for run_id in two:
        (runs.folder(run_id) / rule_store.FILE).write_text("{")
    home = visit("pages/overview/home.py")
    assert any("decision rule" in one.value and "is damaged" in one.value for one in home.warning)
    best = next(one for one in home.metric if one.label.startswith("Best test accuracy"))
    assert "highest probability (the decision rule" in best.help
    best_of_model = model_card._best(runs.get(two[0]).config, runs.list_runs())
    assert "test accuracy **" in best_of_model and "is damaged. Delete its file" in best_of_model


def board_row(test: AppTest, run_id: str) -> pd.Series:
    table = table_with(test, "rule")
    return table.set_index("run").loc[run_id]


def test_a_rule_is_saved_and_deleted(two: list[str]) -> None:
    test = view(visit(RESULTS, run=two[0]), "calibration")
    table = next(one.value for one in test.table)
    assert list(table.columns) == ["Uncalibrated", "Calibrated"] and all(" to " in one for one in table["Calibrated"])
    test.button(key="keep-temperature").click().run()
    assert rule_store.saved(two[0]) == rule_store.fit(two[0])
    test.button(key="forget-rule").click().run()
    assert rule_store.saved(two[0]) is None


def test_a_validation_split_without_a_class(home: Path) -> None:
    official = synthetic_runs.paper_set()
    made = synthetic_runs.on("kermany", official)
    test = visit(RESULTS, run=made)
    test.session_state["split"] = "val"
    for name in VIEWS:
        view(test, name)
    view(test, "matrix")
    assert "no viral pneumonia images" in text(test)


def test_one_class_only(patient: str) -> None:
    made = synthetic_runs.run(
        {"test": ([f"test/normal/{n:04d}.jpeg" for n in range(20)], ["normal"] * 20)}, data="kermany"
    )
    test = visit(RESULTS, run=made)
    for name in VIEWS:
        view(test, name)


def test_predictions_with_nan_are_refused_with_their_row(two: list[str]) -> None:
    path = runs.predictions_path(two[0], "test")
    table = pd.read_parquet(path)
    table.loc[7, "p_viral"] = np.nan
    table.to_parquet(path)
    assert "Row 7" in text(visit(RESULTS, run=two[0]))
    assert "Row 7" in text(visit(COMPARE, a=two[0], b=two[1]))
    assert "Row 7" in text(visit(BOARD, figure="macro_f1"))


def test_a_damaged_run_asked_for_by_link_is_called_damaged(two: list[str]) -> None:
    (runs.folder(two[1]) / "config.json").write_text("{")
    told = text(visit(RESULTS, run=two[1]))
    assert f"The run '{two[1]}' is damaged" in told and "There is no run" not in told
    trash.delete(two[0])
    assert f"The run '{two[1]}' is damaged" in text(visit(RESULTS, run=two[1]))


def test_a_run_without_results_asked_for_by_link_is_called_so(two: list[str], patient: str) -> None:
    made = synthetic_runs.on("kermany", patient, seed=9, state="failed")
    told = text(visit(RESULTS, run=made))
    assert f"The run '{made}' has no results: it is failed" in told and "There is no run" not in told


@pytest.mark.slow
def test_addresses_of_older_versions_show_the_same(patient: str) -> None:
    ids, true = (
        [f"test/{name}/{n:04d}.jpeg" for name in ("normal", "viral") for n in range(60)],
        ["normal"] * 60 + ["viral"] * 60,
    )
    run_id = synthetic_runs.run({"test": (ids, true), "val": (ids, true), "shifted": (ids, true)}, data="kermany")
    rule_store.save(run_id, rule_store.fit(run_id, target_sensitivity=0.9))
    counts = prediction_set.read(run_id, "test").confusion
    for page, former, expected in (
        (
            RESULTS,
            {"cell": f"Normal called viral pneumonia: {formatting.plural(int(counts[0, 1]), 'image')}"},
            ("normal,viral",),
        ),
        (RESULTS, {"by": "Operating point", "split": "Validation, shifted"}, ("point", "shifted")),
        (RESULTS, {"by": "Most probable class", "view": "Take away"}, ("probable", "files")),
        (RESULTS, {"unit": "Share of the true class"}, ("shares",)),
        (RESULTS, {"unit": "Share of what was called so"}, ("called",)),
        (RESULTS, {"unit": "% of called", "view": "Matrix and images"}, ("called", "matrix")),
        (
            RESULTS,
            {"view": "Threshold", "rule": "Sensitivity at least", "least": "0.8"},
            ("threshold", "sensitivity", 0.8),
        ),
        (RESULTS, {"view": "Threshold", "rule": "Best balance", "prevalence": "4.5"}, ("threshold", "youden", 4.5)),
        (RESULTS, {"view": "Threshold", "rule": "Hand", "threshold": "0.25"}, ("threshold", "hand", 0.25)),
        (BOARD, {"baseline": "Nothing", "figure": "Macro F1"}, ("none", "macro_f1")),
    ):
        test = visit(page, run=run_id, **former)
        assert tuple(test.session_state[key] for key in former) == expected
        assert "Shown instead" not in text(test) and not test.error


def test_a_run_deleted_while_it_is_compared(two: list[str]) -> None:
    test = visit(COMPARE, a=two[0], b=two[1])
    trash.delete(two[1])
    test.run()
    assert not test.exception and "Nothing to compare yet" in text(test)


def test_figures_of_other_images_are_not_set_against_each_other(two: list[str]) -> None:
    stranger = synthetic_runs.run(
        {"test": (["x", "y", "z"], ["normal", "viral", "bacterial"])}, data="elsewhere", seed=4, age=3
    )
    table = table_with(visit(BOARD, data="all", baseline="ConvNeXt-V2, pretrained"), "difference").set_index("run")
    assert table.loc[stranger, "difference"] == "other images"
    assert all(
        "points" in table.loc[one, "difference"] for one in two
    )  # on the official split, as the published figure


def test_the_chosen_run_stays_whatever_its_title_becomes(two: list[str]) -> None:
    test = visit(RESULTS)
    assert test.query_params["run"] == two[0]  # the address holds what is shown, the first time too
    box(test, "run").set_value(two[1]).run()
    assert test.query_params["run"] == two[1] and box(test, "run").value == two[1]
    runs.describe(two[1], name="My favourite")
    for name in ("curves", "threshold", "groups"):
        view(test, name)
        assert box(test, "run").value == two[1] and test.query_params["run"] == two[1]
        assert "There is no run" not in text(test)
    assert "My favourite" in box(test, "run").options


def test_a_run_that_comes_back_is_shown_again(two: list[str]) -> None:
    test = visit(RESULTS, run=two[1])
    trash.delete(two[1])
    test.run()
    assert (box(test, "run").value == two[0] and test.query_params["run"] == [two[1]]) or test.query_params[
        "run"
    ] == two[1]
    trash.restore(two[1])
    assert box(test.run(), "run").value == two[1] and "There is no run" not in text(test)


def test_a_run_deleted_while_it_is_shown(two: list[str]) -> None:
    test = visit(RESULTS, run=two[0], view="Threshold")
    trash.delete(two[0])
    test.run()
    assert not test.exception and f"There is no run '{two[0]}'" in text(test).replace("\\", "")
    assert box(test, "run").value == two[1]
    test = visit(BOARD, baseline=two[1])
    trash.delete(two[1])
    test.run()
    assert not test.exception and f"There is no row '{two[1]}'" in text(test).replace("\\", "")


def test_predictions_that_go_between_two_looks_are_told_and_not_a_bug(two: list[str]) -> None:
    from pages.ui import cached_metrics

    run = runs.get(two[0])
    trash.delete(two[0])
    with pytest.raises(UnknownName, match=two[0]):
        cached_metrics.prediction_set_of(run, "test")


def test_validation_with_nan_leaves_the_other_splits_readable(two: list[str]) -> None:
    path = runs.predictions_path(two[0], "val")
    table = pd.read_parquet(path)
    table.loc[3, "p_viral"] = np.nan
    table.to_parquet(path)
    test = visit(RESULTS, run=two[0])
    for name in VIEWS:
        view(test, name)
        if name in ("calibration", "threshold"):
            assert "Row 3" in text(test), name
    view(test, "threshold", rule="sensitivity")
    assert "Row 3" in text(test)


def test_a_one_class_split_can_be_compared_and_ranked(patient: str) -> None:
    ids = [f"test/normal/{n:04d}.jpeg" for n in range(20)]
    one, other = (
        synthetic_runs.run({"test": (ids, ["normal"] * 20)}, data="kermany", seed=seed, age=9 * seed) for seed in (1, 2)
    )
    assert not visit(COMPARE, a=one, b=other).error
    for figure in ("macro_auc", "macro_f1", "recall:viral"):
        assert not visit(BOARD, figure=figure).error


def test_page_and_command_line_say_the_same(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["evaluate", two[0], "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    shown = {metric.label: metric for metric in visit(RESULTS, run=two[0]).metric}
    for name in ("accuracy", "macro_f1", "balanced_accuracy"):
        assert shown[metrics.TITLES[name]].value == formatting.percent(told[name])
        assert shown[metrics.TITLES[name]].delta == formatting.interval(told["ci95"][name])
        assert [told["figures"][name][end] for end in ("low", "high")] == told["ci95"][name]
    assert runs.get(two[0]).metrics["test"]["ci95"] == told["ci95"]


def test_every_plot_has_words_for_who_cannot_see_it_and_a_camera() -> None:
    calls = 0
    for path in (PROJECT / "pages").glob("*/*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("plotly_chart"):
                given = {one.arg: ast.unparse(one.value) for one in node.keywords}
                assert "alt" in given and given.get("config", "").startswith("plots."), f"{path.name}:{node.lineno}"
                calls += 1
    assert calls >= 15


def test_leaderboard_has_published_rows_groups_and_runs_by_any_figure(patient: str) -> None:
    for seed in range(3):
        synthetic_runs.on("kermany", patient, seed=seed, group="sweep", age=10 * seed)
    table = table_with(visit(BOARD), "estimate")
    assert set(table["origin"]) >= {"Paper, Table 4.1", "This workbench", "Group of runs"}
    (group,) = table[table["origin"] == "Group of runs"].to_dict("records")
    assert group["note"] == "t interval of the mean, 3 runs" and " to " in group["estimate"]
    best = table[table["name"] == "ConvNeXt-V2, pretrained"].iloc[0]
    assert best["estimate"] == "91.3 % (88.9 to 93.3 %)" and best["n"] == 624
    values = [float(one.split(" ")[0]) for one in table["estimate"]]
    assert values == sorted(values, reverse=True)
    test = visit(BOARD, figure="log_loss", on="val")
    assert not test.error
    table = table_with(test, "estimate")
    assert set(table["origin"]) == {"This workbench", "Group of runs"}
    values = [float(one.split(" ")[0]) for one in table["estimate"]]
    assert values == sorted(values)


def test_differences_from_a_pinned_run_and_from_a_published_row(two: list[str]) -> None:
    table = table_with(visit(BOARD, baseline=two[0]), "estimate").set_index("run")
    one, other = (prediction_set.read(run_id, "test") for run_id in two)
    apart = 100 * (other.correct.mean() - one.correct.mean())
    assert table.loc[two[0], "difference"] == "baseline"
    assert table.loc[two[1], "difference"].startswith(f"{apart:+.1f} points (")
    table = table_with(visit(BOARD, baseline="VGG-16"), "estimate").set_index("run")
    apart = 100 * (one.correct.mean() - 0.6474)
    assert table.loc[two[0], "difference"].startswith(f"{apart:+.1f} points (")


def test_leaderboard_filters_by_dataset_and_network(patient: str) -> None:
    synthetic_runs.on("kermany", patient, seed=1)
    synthetic_runs.on("kermany", patient, seed=2, model="vgg16", age=9)
    table = table_with(visit(BOARD, network="vgg16"), "estimate")
    assert table["run"].str.startswith("vgg16").sum() == 1 and not table["run"].str.startswith("custom").any()


def test_the_leaderboard_shows_one_dataset_at_a_time_real_ones_first(patient: str) -> None:
    real = synthetic_runs.on("kermany", patient, seed=1, age=9)
    drawn = synthetic_runs.on("drawn", synthetic_runs.paper_set("drawn", synthetic=True), seed=2)
    shown = {
        address.get("data", ""): set(table_with(visit(BOARD, **address), "estimate")["run"])
        for address in ({}, {"data": "drawn"}, {"data": "all"})
    }
    assert real in shown[""] and drawn not in shown[""]
    assert drawn in shown["drawn"] and real not in shown["drawn"]
    assert {real, drawn} <= shown["all"]


def test_compare_says_what_is_shared_and_takes_further_runs_from_the_address(two: list[str], patient: str) -> None:
    third = synthetic_runs.on("kermany", patient, seed=3, age=900)
    test = visit(COMPARE, a=two[0], b=two[1], more=third)
    assert not test.error
    assert "624 images that both have answered" in text(test)
    assert "McNemar" in text(test)
    further = next(one.value for one in test.dataframe if "McNemar's p" in one.value)
    assert len(further) == 1 and "C: " in further.index[0]
    assert test.multiselect(key="more").value == [third]
    assert test.query_params["more"] in (third, [third])


def test_runs_on_different_images_are_compared_on_the_common_ones(patient: str) -> None:
    ids = [f"test/normal/{n:04d}.jpeg" for n in range(40)] + [f"test/viral/{n:04d}.jpeg" for n in range(40)]
    true = ["normal"] * 40 + ["viral"] * 40
    one = synthetic_runs.run({"test": (ids[:60], true[:60])}, data="kermany", seed=1)
    other = synthetic_runs.run({"test": (ids[20:], true[20:])}, data="kermany", seed=2, age=5)
    told = text(visit(COMPARE, a=one, b=other))
    assert "40 images that both have answered (A 60, B 60)" in told
    stranger = synthetic_runs.run({"test": (["x"], ["normal"])}, data="kermany", seed=3, age=9)
    assert "no image in common" in text(visit(COMPARE, a=one, b=stranger))


@pytest.mark.slow
def test_an_ensemble_is_made_on_the_page_and_is_a_row_of_its_own(two: list[str]) -> None:
    test = visit(COMPARE, a=two[0], b=two[1])
    test.session_state["ensemble-way"] = "weighted"
    test.run()
    next(one for one in test.button if one.label.startswith("Make an ensemble")).click().run()
    assert not test.exception and not test.error
    made = runs.list_runs()[0]
    assert made.config.model == ensembles.MODEL
    table = table_with(visit(BOARD), "estimate")
    assert table.set_index("run").loc[made.id, "origin"] == "Ensemble"
    test = visit(RESULTS, run=made.id)
    assert "A weighted mean" in text(test)
    for name in VIEWS:
        view(test, name)
        assert not test.error, name


def test_compare_proposes_a_partner_of_the_same_dataset(two: list[str]) -> None:
    synthetic_runs.run({"test": (["x"], ["normal"])}, data="elsewhere", seed=4, age=300)
    test = visit(COMPARE, a=two[0])
    assert box(test, "b").value == two[1]


def test_reproduction_is_shown_in_points_and_asks_before_it_queues(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    synthetic_runs.paper_set("aaa-drawn", synthetic=True)
    official = synthetic_runs.paper_set()
    test = visit(BOARD)
    assert "No run on 'kermany' repeats one of the paper's trainings" in text(test)
    assert not [one for one in test.dataframe if "Ours − paper" in one.value]
    made = synthetic_runs.on("kermany", official, recipe="paper", epochs=100)
    tuned = synthetic_runs.on("kermany", official, recipe="tuned", age=9, seed=5)
    test = visit(BOARD)
    table = table_with(test, "Ours − paper")
    assert set(table["Model"]) == {"Custom CNN"} and len(table) == 3
    row = table[table["Images"] == "Test"].iloc[0]
    apart = 100 * (runs.get(made).metrics["test"]["accuracy"] - 0.5817)
    assert row["Ours − paper"].lstrip("+−").startswith(f"{abs(apart):.1f} points") and "%" not in row["Ours − paper"]
    differs = table_with(test, "differs").set_index("run")["differs"]
    assert differs[tuned] == "recipe tuned" and differs[made] == ""
    before = set(runs.list_ids())
    assert "Three trainings of 100 epochs" in text(test) and "downloaded unless they are on this machine" in text(test)
    next(one for one in test.button if one.label == "Queue them").click().run()
    assert not test.exception and not test.error
    made_now = {run.config.model: run.config for run in map(runs.get, set(runs.list_ids()) - before)}
    assert {name: (one.recipe, one.weights, one.epochs) for name, one in made_now.items()} == {
        "custom_cnn": ("paper", "none", 100), "vgg16": ("paper", "imagenet", 100), "resnet152": ("paper", "imagenet", 100),
    }  # fmt: skip


def test_reproduction_is_not_offered_on_other_sets(trained_home: Path) -> None:
    test = visit(BOARD)
    assert "Add that set on Home first" in text(test)
    assert not [one for one in test.button if one.label == "Queue them"]


def test_the_figures_of_all_rows_are_known_to_the_page(two: list[str]) -> None:
    """Every figure that can be chosen on the leaderboard is one of the card."""
    test = visit(BOARD)
    options = box(test, "figure").options
    assert len(options) == len(metrics.names(synthetic_runs.CLASSES))
    assert leaderboard.published_rows("accuracy", "test")["n"].eq(624).all()
    assert (PROJECT / RESULTS).is_file() and predictions.classes(prediction_set.read(two[0], "test").table())
