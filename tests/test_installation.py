"""Installed with pip, the package gives the command `cxr` and brings the models that ship."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cxr_core import __version__, cli, images
from cxr_core.data.phantoms import phantom
from tests.conftest import PROJECT

SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements.txt", "cxr_core", "artifacts/pretrained")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of commands of a fresh virtual environment with the package; its dependencies are those of this one."""
    folder = tmp_path_factory.mktemp("installation")
    clone, environment = folder / "clone", folder / "environment"
    for name in SOURCES:
        source, copy = PROJECT / name, clone / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, copy, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, copy)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    completed = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "--python", environment / "bin" / "python"),
            *("install", "--no-deps", "--no-build-isolation", "--no-index", clone),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    shutil.rmtree(clone)
    return environment / "bin"


def cxr(commands: Path, *arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CXR_", "PYTHONPATH"))}
    return subprocess.run(
        [commands / "cxr", *map(str, arguments)],
        env={**environment, "XDG_DATA_HOME": str(cwd / "data")},
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.slow
def test_the_command_answers_with_a_model_that_ships(installed: Path, tmp_path: Path) -> None:
    helped = cxr(installed, "--help", cwd=tmp_path)
    assert helped.stdout.startswith("usage: cxr "), helped.stderr
    assert cxr(installed, "--version", cwd=tmp_path).stdout.strip() == __version__
    listed = cxr(installed, "runs", "--json", cwd=tmp_path)
    assert listed.returncode == 0, listed.stderr
    shipped = {path.parent.name for path in (PROJECT / "artifacts" / "pretrained").glob("*/config.json")}
    assert {run["id"] for run in json.loads(listed.stdout)} == shipped

    (tmp_path / "lungs.png").write_bytes(images.encode(phantom("normal", np.random.default_rng(0), size=224)))
    (run_id,) = [path.parent.name for path in (PROJECT / "artifacts" / "pretrained").glob("*/model.keras")]
    answered = cxr(installed, "predict", run_id, "lungs.png", "--json", cwd=tmp_path)
    assert answered.returncode == 0, answered.stderr
    (result,) = json.loads(answered.stdout)["results"]
    assert sum(result["probabilities"].values()) == pytest.approx(1, abs=1e-6)
    added = cxr(installed, "data", "add", "synthetic", "--images", 30, cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    assert (tmp_path / "data" / "cxr-workbench" / "datasets" / "synthetic").is_dir()


def test_the_command_and_the_module_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/cxr"])
    assert cli.parser().prog == "cxr"
    monkeypatch.setattr(sys, "argv", [str(PROJECT / "cxr_core" / "__main__.py")])
    assert cli.parser().prog == "python -m cxr_core"
