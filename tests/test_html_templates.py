"""Templates escape every value, and miss none in silence."""

import sys
from pathlib import Path

import jinja2
import pytest

from cxr_core import html_templates


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    folder = tmp_path / "a_package_with_templates"
    (folder / "templates").mkdir(parents=True)
    (folder / "__init__.py").touch()
    (folder / "templates" / "page.html.j2").write_text("<p title='{{ title }}'>{{ text }}</p>")
    monkeypatch.syspath_prepend(tmp_path)
    yield folder.name
    sys.modules.pop(folder.name, None)


def test_every_value_is_escaped(package: str) -> None:
    html = html_templates.render(package, "page.html.j2", title="' onclick='", text="<script>")
    assert html == "<p title='&#39; onclick=&#39;'>&lt;script&gt;</p>"


def test_a_missing_value_is_an_error(package: str) -> None:
    with pytest.raises(jinja2.UndefinedError, match="text"):
        html_templates.render(package, "page.html.j2", title="")
