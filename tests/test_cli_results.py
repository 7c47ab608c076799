"""`compare`, `ensemble`, `report` on the command line."""

import json
from pathlib import Path

import pytest

from cxr_core import cli
from cxr_core.data import manifest
from cxr_core.evaluation import answers, comparison, ensembles
from cxr_core.runs import folder as runs
from tests import made_up


@pytest.fixture
def two(home: Path) -> list[str]:
    made_up.paper_set()
    patient = manifest.build("kermany", split="patient").id
    return [made_up.on("kermany", patient, seed=seed, skill=1.5 + seed / 3, age=9 * seed) for seed in (1, 2)]


def document(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict:
    assert cli.main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_compare(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "compare", *two)
    one, other = (answers.read(run_id, "test") for run_id in two)
    assert found["n"] == 624 and found["mcnemar"]["p"] == comparison.mcnemar(one, other).p
    apart = found["second_less_first"]["accuracy"]
    assert apart["value"] == pytest.approx(other.right.mean() - one.right.mean())
    assert cli.main(["compare", *two]) == 0
    assert "McNemar's exact p" in capsys.readouterr().out


def test_ensemble(two: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    found = document(capsys, "ensemble", *two, "--way", "weighted")
    assert found["members"] == two and sum(found["weights"]) == pytest.approx(1)
    assert runs.get(found["run"]).config.model == ensembles.MODEL
    assert document(capsys, "evaluate", found["run"])["n"] == 624
    assert cli.main(["ensemble", two[0]]) == 2
    assert "at least two" in capsys.readouterr().err


def test_report(two: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "deep" / "report.html"
    found = document(capsys, "report", *two, "--out", str(out))
    assert out.stat().st_size == found["bytes"] <= 8 * 2**20
    assert out.read_text().startswith("<!doctype html>")
    assert cli.main(["report", "nobody", "--out", str(out)]) == 2
    assert "There is no run named 'nobody'" in capsys.readouterr().err
