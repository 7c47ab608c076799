"""The documentation and the program agree: every command and flag is documented, and every documented command works."""

import argparse
import json
import re
import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxr_core import cli, process, workspace
from cxr_core.data import datasets, decisions, index
from cxr_core.errors import CxrError
from cxr_core.evaluation import paper
from cxr_core.jobs import queue
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs import trash
from cxr_core.runs.config import with_settings
from cxr_core.server import endpoint
from tests import synthetic_runs
from tests.conftest import PROJECT
from tests.test_dicom import content, made

CARDS = sorted((PROJECT / "artifacts" / "pretrained").glob("**/README.md"))
DOCS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), *CARDS]
TEXTS = {path.relative_to(PROJECT).as_posix(): path.read_text() for path in DOCS}
BLOCKS = {name: "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S)) for name, text in TEXTS.items()}
MODULE = "python -m cxr_core "
COMMANDS = sorted(
    {line.removeprefix(MODULE) for block in BLOCKS.values() for line in block.splitlines() if line.startswith(MODULE)}
)
OTHERS = sorted(
    {line for block in BLOCKS.values() for line in block.splitlines() if line.strip()}
    - {MODULE + line for line in COMMANDS}
)


def commands(parser: argparse.ArgumentParser, path: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Each command of the program, as ('data add', its parser)."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, command in action.choices.items():
                yield f"{path}{name}", command
                yield from commands(command, f"{path}{name} ")


def needs_a_subcommand(parser: argparse.ArgumentParser) -> bool:
    return any(isinstance(action, argparse._SubParsersAction) and action.required for action in parser._actions)


@pytest.mark.parametrize(("path", "parser"), [pytest.param(*each, id=each[0]) for each in commands(cli.parser())])
def test_every_command_and_flag_is_documented(path: str, parser: argparse.ArgumentParser) -> None:
    if needs_a_subcommand(parser):
        return
    texts = [text for text in TEXTS.values() if re.search(rf"(python -m cxr_core {path}|`{path})\b", text)]
    assert texts, f"No page of the documentation has the command '{path}'."
    flags = {flag for action in parser._actions for flag in action.option_strings} - {"-h", "--help"}
    missing = {flag for flag in flags if not any(re.search(rf"{flag}(?![\w-])", text) for text in texts)}
    assert not missing, f"'{path}' is documented without {sorted(missing)}."


@pytest.mark.parametrize("line", COMMANDS)
def test_every_documented_command_is_understood(line: str) -> None:
    arguments = shlex.split(line, comments=True)
    try:
        cli.parser().parse_args(arguments)
    except CxrError as error:  # pragma: no cover - the failure's message
        pytest.fail(str(error))


def test_readme_is_one_page_and_names_the_paper() -> None:
    text = TEXTS["README.md"]
    assert len(text.splitlines()) <= 90
    authors = re.findall(r"[A-Z]\. (?:[A-Z]\. )*[A-Z][a-z]+", paper.CITATION)
    assert authors and all(author in " ".join(text.split()) for author in authors)


def test_the_test_commands_are_those_of_ci() -> None:
    lines = (PROJECT / ".ci" / "run").read_text().splitlines()
    assert lines[-2:] == ["make test", "make test-slow"]
    assert all(f"\n{line}\n" in TEXTS["README.md"] for line in lines[-2:])


@pytest.mark.parametrize("line", OTHERS)
def test_what_other_programs_are_given_exists(line: str) -> None:
    """Files that pip installs from, targets of make, the app's entry file, the endpoint's address."""
    words = [word for word in shlex.split(line, comments=True) if "=" not in word or word.startswith("-")]
    for file in re.findall(r"-r (\S+)|streamlit run (\S+)", line):
        assert (PROJECT / "".join(file)).is_file(), line
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (PROJECT / "Makefile").read_text(), re.MULTILINE), line
    elif words[0] == "curl":
        paths = {route.path for route in endpoint.app("").routes}  # type: ignore[attr-defined]
        assert re.search(r"8600(/\S+)", line)[1] in paths, line  # type: ignore[index]
    else:
        assert words[0] in {"pip", "python3", "streamlit", "ray"}, line


@pytest.mark.parametrize("name", TEXTS)
def test_links_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[name]):
        file, _, heading = target.partition("#")
        if not target.startswith("https://"):
            path = (PROJECT / name).parent / file
            assert path.exists(), (name, target)
            slugs = {
                re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
                for title in re.findall(r"^#+ (.+)$", path.read_text() if file.endswith(".md") else "", re.MULTILINE)
            }
            assert not heading or heading in slugs, (name, target)


# What the commands of the documentation need to run: a folder with the files that they name, and a workspace.


@pytest.fixture(scope="module")
def prepared_folder(trained: Path, build_once: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    """A workspace, `home`, and the files that the documentation names, `current`; never written to."""

    def build(folder: Path) -> None:
        shutil.copytree(trained, folder / "home")
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("CXR_HOME", str(folder / "home"))
            datasets.add("synthetic", "kermany", images=60)
            datasets.add("synthetic", "nih-part", images=30)
            write_files(folder / "current")

    return build_once("documented", build)


def write_files(folder: Path) -> None:
    images = workspace.dataset("kermany") / "images"
    image = next((images / "test").rglob("*.jpeg"))
    for name in ("image.jpeg", "folder/a.jpeg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(image, folder / name)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 96, 80), dtype=np.uint8)
    for name in ("series.dcm", "more/a.dcm"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content(made(pixels, NumberOfFrames=3)))
    shutil.make_archive(str(folder / "some"), "zip", folder / "folder")
    shutil.make_archive(str(folder / "chest_xray"), "zip", images)
    shutil.make_archive(str(folder / "more"), "zip", workspace.dataset("nih-part") / "images")
    (folder / "nih").mkdir()
    for number in range(4):
        shutil.copy(image, folder / "nih" / f"0000000{number}_000.png")
    findings = ("Pneumonia", "Mass", "No Finding", "Nodule")
    rows = [f"0000000{number}_000.png,{finding},{number}" for number, finding in enumerate(findings)]
    (folder / "Data_Entry_2017.csv").write_text("\n".join(["Image Index,Finding Labels,Patient ID", *rows]))
    (folder / "resnet152_notop.weights.h5").write_bytes(b"read by the training only")


@pytest.fixture
def documented(prepared_folder: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of a finished run; the current folder has every file that the documentation names.

    Trainings are queued and not started, and Kaggle's download is a folder: both have tests of their own.
    """
    shutil.copytree(prepared_folder / "home", home)
    shutil.copytree(prepared_folder / "current", tmp_path / "current")
    (run_id,) = runs.list_ids()
    monkeypatch.chdir(tmp_path / "current")
    monkeypatch.setenv("CXR_PRETRAINED", str(tmp_path / "pretrained"))
    monkeypatch.setattr(process, "start", lambda arguments, log, variables=None: process.process_id())
    monkeypatch.setattr(process, "kill", lambda who: None)
    monkeypatch.setattr(queue, "wait", lambda started, look: runs.get(run_id))
    images = prepared_folder / "home" / "datasets" / "kermany" / "images"
    monkeypatch.setattr("kagglehub.dataset_download", lambda handle: str(images))
    monkeypatch.setattr("uvicorn.Server.run", lambda self: None)
    return run_id


def prepared(words: list[str], run_id: str) -> list[str]:
    """The words of a command with real ids in them, in a workspace where it makes sense."""
    run = runs.get(run_id)
    command = " ".join(words[:2])
    target = run_id
    if command in ("runs stop", "runs move", "runs resume", "work RUN"):
        blocking, target = (queue.submit(with_settings(run.config, {"epochs": 1, "seed": seed})) for seed in (1, 2))
        if command == "work RUN":
            queue.stop(blocking)
        if command == "runs resume":
            folder = workspace.run(target)
            states.write(folder, replace(states.read(folder), state="stopped", ended=time.time()))
    if command == "runs restore":
        trash.delete(target)
    if words[0] == "calibrate":  # needs 50 validation images
        labels = list(synthetic_runs.CLASSES) * 20
        target = synthetic_runs.run({"val": ([f"val/{number}.jpeg" for number in range(60)], labels)})
    if words[0] == "data":
        table = index.read("kermany")
        real = iter(table.loc[table["split"] == "train", "id"])
        words = [next(real) if word.startswith("train/NORMAL/") else word for word in words]
        if words[1] in ("undo", "redo"):
            decisions.decide("kermany", "exclude", [next(real)], reason="lateral view", who="Ada")
        if words[1] == "redo":
            decisions.undo("kermany", 1, who="Ada")
        if words[1] == "restore":
            datasets.remove("kermany")
        if words[1] == "add" and "--more" not in words:
            shutil.rmtree(workspace.dataset("kermany"))
        if any("nih:" in word for word in words):
            (workspace.dataset("nih-part")).rename(workspace.dataset("nih"))
            words = [word.replace("=200", "=2") if word.startswith("nih:") else word for word in words]
    other = synthetic_runs.on("phantoms", run.config.manifest, seed=4) if "RUN_B" in words else ""
    return [{"RUN": target, "RUN_A": run_id, "RUN_B": other}.get(word, word) for word in words]


@pytest.mark.slow
@pytest.mark.parametrize("line", COMMANDS)
def test_every_documented_command_runs(line: str, documented: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = prepared(shlex.split(line, comments=True), documented)
    capsys.readouterr()
    code = cli.main(words)
    out, err = capsys.readouterr()
    assert code == 0, (words, err)
    if "--json" in words:
        json.loads(out)
