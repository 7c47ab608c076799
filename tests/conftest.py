"""Fixtures of all tests. No test touches the real artifacts: each has a workspace of its own."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from cxr_core import images

THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
if "PYTEST_XDIST_WORKER" in os.environ:  # one core each: threads of several workers would stand in each other's way
    for variable in THREADS:
        os.environ.setdefault(variable, "1")

PROJECT = Path(__file__).resolve().parent.parent
SHARED = PROJECT.parent / "shared" / "data"
os.environ["CXR_PRETRAINED"] = str(PROJECT / "tests" / "nothing")  # the runs that ship have tests of their own


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty workspace."""
    place = tmp_path / "home"
    monkeypatch.setenv("CXR_HOME", str(place))
    return place


@pytest.fixture(autouse=True)
def _log(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that configures the log of a server does so for itself alone."""
    monkeypatch.setattr(logging.getLogger("cxr_core"), "handlers", [])


@pytest.fixture
def every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes that the test starts compute on all cores: what is the same on one thread may differ on two."""
    for variable in THREADS:
        monkeypatch.delenv(variable, raising=False)


def shared_file(name: str) -> Path:
    path = SHARED / name
    if not path.is_file():
        pytest.skip(f"The real data set {name} is not on this machine.")
    return path


@pytest.fixture(scope="session")
def kermany_zip() -> Path:
    """The whole real set of 5,856 images, reduced to 224 × 224 pixels."""
    return shared_file("chest_xray_224.zip")


@pytest.fixture(scope="session")
def nih_zip() -> Path:
    """1,000 NIH images of 64 × 64 pixels."""
    return shared_file("nih_chestxray14_64px.zip")


@pytest.fixture
def xray_tree(tmp_path: Path) -> Callable[..., Path]:
    """Makes a small Kaggle-like folder: two images of each class in train and test, one normal in val."""

    def make(name: str = "tree", *, size: tuple[int, int] = (90, 80)) -> Path:
        rng = np.random.default_rng(1)
        root = tmp_path / name
        for place in (
            "train/NORMAL/IM-0001-0001.jpeg",
            "train/NORMAL/IM-0002-0001.jpeg",
            "train/PNEUMONIA/person1_virus_1.jpeg",
            "train/PNEUMONIA/person2_virus_2.jpeg",
            "train/PNEUMONIA/person1_bacteria_1.jpeg",
            "train/PNEUMONIA/person1_bacteria_2.jpeg",
            "val/NORMAL/NORMAL2-IM-0003-0001.jpeg",
            "test/NORMAL/IM-0001-0001.jpeg",
            "test/NORMAL/NORMAL2-IM-0001-0001-0002.jpeg",
            "test/PNEUMONIA/person1_virus_1.jpeg",
            "test/PNEUMONIA/person2_virus_2.jpeg",
            "test/PNEUMONIA/person1_bacteria_1.jpeg",
            "test/PNEUMONIA/person2_bacteria_2.jpeg",
        ):
            path = root / place
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(images.encode(rng.integers(0, 256, size, dtype=np.uint8)))
        return root

    return make


def command(*arguments: object, home: Path | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
    """Run `python -m cxr_core ARGUMENTS` as a person would."""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)} | ({"CXR_HOME": str(home)} if home else {})
    return subprocess.run(
        [sys.executable, "-m", "cxr_core", *map(str, arguments)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], None]], Path]:
    """A function that builds a folder once for all workers of a test session: `build_once(name, build) -> folder`."""
    session = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        session = session.parent  # each worker has a folder in that of the session

    def build_once(name: str, build: Callable[[Path], None]) -> Path:
        folder = session / "shared" / name
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                unfinished = folder.with_name(f"{name}.unfinished")
                shutil.rmtree(unfinished, ignore_errors=True)
                build(unfinished)
                unfinished.rename(folder)
        return folder

    return build_once


@pytest.fixture(scope="session")
def trained(build_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A workspace with a small synthetic dataset, `phantoms`, and one finished run on it; never written to."""

    def build(home: Path) -> None:
        for arguments in (
            ("data", "add", "synthetic", "--name", "phantoms", "--images", 60),
            ("train", "--data", "phantoms", "--model", "custom_cnn", "--epochs", 2, "--set", "image_size=64", "--wait"),
        ):
            completed = command(*arguments, home=home)
            assert completed.returncode == 0, completed.stderr

    return build_once("trained", build)


@pytest.fixture
def trained_home(trained: Path, home: Path) -> Path:
    """A copy of `trained` that the test may change."""
    shutil.copytree(trained, home)
    return home
