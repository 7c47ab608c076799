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

SOURCES = (
    *("pyproject.toml", "setup.py", "README.md", "LICENSE", "requirements-serve.txt", "requirements-train.txt"),
    *("cxr_core", "artifacts/pretrained"),
)


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
    run_id = sorted(path.parent.name for path in (PROJECT / "artifacts" / "pretrained").glob("*/model.keras"))[-1]
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


PAGES = """
import sys
from streamlit.testing.v1 import AppTest
for page in sys.argv[1:]:
    app = AppTest.from_file("streamlit_app.py", default_timeout=120).run()
    app = app.switch_page(page).run()
    assert not app.exception and not app.error, (page, app.exception, app.error)
assert not {"tensorflow", "keras", "h5py"} & set(sys.modules)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a fresh virtual environment with requirements-serve.txt and nothing else."""
    folder = tmp_path_factory.mktemp("server")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    done = subprocess.run(
        [folder / "bin" / "python", "-m", "pip", "install", "-q", "-r", PROJECT / "requirements-serve.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("The package index cannot be reached.")
    assert done.returncode == 0, done.stderr
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_server_needs_no_tensorflow_and_less_than_a_gigabyte(server: Path, tmp_path: Path) -> None:
    """Everything but training and exporting a model."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "CXR_HOME": str(tmp_path / "home")}
        environment = {
            name: value for name, value in environment.items() if name not in ("PYTHONPATH", "CXR_PRETRAINED")
        }
        return subprocess.run(
            [server, *map(str, arguments)],
            env=environment,
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    assert sum(path.lstat().st_size for path in server.parents[1].rglob("*")) < 10**9
    (run_id,) = [path.parent.name for path in (PROJECT / "artifacts" / "pretrained").glob("custom_cnn-*/config.json")]
    image = tmp_path / "image.png"
    image.write_bytes(images.encode(phantom("bacterial", np.random.default_rng(0), size=224)))
    for words in (
        ["doctor"],
        ["data", "add", "synthetic", "--images", "30", "--quiet"],
        ["data", "audit", "synthetic"],
        ["data", "build", "synthetic", "--split", "patient"],
        ["runs"],
        ["predict", run_id, image, "--json"],
        ["evaluate", run_id, "--json"],
        ["report", run_id, "--out", tmp_path / "report.html"],
        ["features"],
    ):
        done = run("-m", "cxr_core", *words)
        assert done.returncode == 0, (words, done.stderr)
    refused = run("-m", "cxr_core", "train", "--data", "synthetic", "--model", "custom_cnn", "--epochs", "1", "--wait")
    assert refused.returncode == 2
    assert "TensorFlow is not installed here, and training needs it" in refused.stderr
    assert "pip install -r requirements.txt" in refused.stderr
    pages = sorted(str(path.relative_to(PROJECT)) for path in (PROJECT / "pages").glob("[!u]*/*.py"))
    assert len(pages) >= 9
    shown = run("-c", PAGES, *pages)
    assert shown.returncode == 0, shown.stderr[-2000:]
