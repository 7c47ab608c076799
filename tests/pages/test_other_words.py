"""Words of other people are text on every page: nothing of Markdown or HTML comes of them."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from cxr_core import images
from cxr_core.data import audit, datasets, decisions, index, manifest
from cxr_core.evaluation import report
from cxr_core.runs import run_store as runs
from tests import synthetic_runs
from tests.conftest import PROJECT
from tests.pages.test_pages import PAGES

DATA = "www.evil.example"  # a name that a dataset may have
CLASSES = ("<!--<script> ![p](www.evil.example) :red[x]", "<img src=x> $x$ :material/home:")
WORDS = "![p](//evil.example) www.evil.example :material/home: <img src=x>"
FILE = "![p](www.evil.example) <img src=x> {}.png"

RAW = re.compile(
    r"(?<!\\)!\[|(?<!\\)<(img|!--|script)|www\.evil|(?<!\\):red\[x|(?<!^):material/home|(?<!\\)\$x", re.IGNORECASE
)
PLAIN = {  # fields of Streamlit's messages that no browser reads as Markdown
    "id", "alt", "spec", "config", "url", "query_string", "value", "raw_value", "raw_values", "default", "placeholder", "css",
    "code_text", "json", "mixed_json", "columns", "data", "url_path", "page_script_hash", "form_id", "key", "js_content",
    "html_content", "figure", "file_name", "user_key", "set_value", "arrow_data",
}  # fmt: skip


def strings(message: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """All texts of a message that are read as Markdown, with the field that holds each."""
    for field, value in [] if message is None else message.ListFields():
        name = f"{path}.{field.name}"
        plain = field.name in PLAIN or (field.name == "options" and re.search(r"\.(selectbox|multiselect)$", path))
        if plain or (not isinstance(value, str) and field.type != field.TYPE_MESSAGE and not hasattr(value, "append")):
            continue
        for one in [value] if isinstance(value, str) or hasattr(value, "ListFields") else list(value):
            if isinstance(one, str):
                yield name, one
            elif hasattr(one, "ListFields"):
                yield from strings(one, name)


@pytest.fixture
def hostile_home(build_once: Callable[[str, Callable[[Path], None]], Path], home: Path, tmp_path: Path) -> None:
    """A dataset, a decision and two runs in whose names somebody has hidden links, pictures and markup."""

    def build(folder: Path) -> None:
        _build(tmp_path / "source")
        shutil.copytree(home, folder)

    built = build_once("hostile", build)
    if not home.exists():
        shutil.copytree(built, home)


def _build(source: Path) -> None:
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2), ("test", 4)):
        for folder in CLASSES:
            for number in range(count):
                path = source / split / folder / FILE.format(f"{split}{number}")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(images.encode(rng.integers(0, 256, (40, 40), dtype=np.uint8)))
    (source / "train" / CLASSES[0] / FILE.format("broken")).write_bytes(b"no image")
    dataset = datasets.add(str(source), DATA)
    frozen = manifest.build(DATA, split="official").id
    for seed in range(2):
        run_id = synthetic_runs.on(DATA, frozen, seed=seed)
        runs.describe(run_id, name=WORDS, note=WORDS)
    image = str(index.column(DATA, "id")[0])
    decisions.decide(DATA, "tag", [image], value=WORDS, reason=WORDS, who=WORDS)
    audit.run(DATA)
    assert any("script" in name for name in dataset.classes)


@pytest.fixture(autouse=True)
def fresh_caches() -> None:
    st.cache_data.clear()
    st.cache_resource.clear()


def raw_words(test: AppTest) -> list[tuple[str, str]]:
    found = []
    for node in (*test.main, *test.sidebar):
        kind = type(node).__name__
        if node.type == "json":  # shown as text
            continue
        for field, words in strings(node.proto, f".{node.type}"):
            if RAW.search(words):
                found.append((f"{kind}{field}", words))
        if node.type == "table":
            cells = node.value  # type: ignore[attr-defined]
            texts = [
                *map(str, cells.index),
                *map(str, cells.columns),
                *(str(cell) for cell in cells.to_numpy().ravel()),
            ]
            found += [("table", words) for words in texts if RAW.search(words)]
        if node.type == "plotly_chart" and "<img" in node.proto.spec:
            found.append(("plot", node.proto.spec[:200]))
    return found


@pytest.mark.parametrize(
    ("page", "query"),
    [
        *((page, {}) for page in PAGES if page != "pages/model/predict.py"),
        ("pages/data/curate.py", {"part": "record"}),
        *(("pages/model/results.py", {"view": view}) for view in ("curves", "calibration", "threshold", "groups")),
        ("pages/model/compare.py", {"more": WORDS, "a": WORDS}),
        ("pages/model/results.py", {"run": WORDS, "split": WORDS}),
        ("pages/data/browse.py", {"data": WORDS, "class": WORDS}),
        ("pages/model/train.py", {"manifest": WORDS}),
    ],
)
def test_no_word_of_others_is_read_as_markdown(page: str, query: dict[str, str], hostile_home: None) -> None:
    test = AppTest.from_file(str(PROJECT / "streamlit_app.py"), default_timeout=120)
    for name, value in query.items():
        test.query_params[name] = value
    if page != PAGES[0]:
        test.switch_page(page)
    test.run()
    assert not test.exception, test.exception[0].message
    assert len(test.title) == 1 and raw_words(test) == []


def test_a_report_of_such_a_run_holds_them_as_text(hostile_home: None) -> None:
    html = report.html(runs.list_ids())
    html = html.replace(html[html.index("<script>") : html.index("</script>")], "")  # plotly itself
    for raw in ("<!--<", "<img", "<script> !["):
        assert raw not in html
    assert html.rstrip().endswith("</html>")
