"""`predict`, `export` and `serve` as scripts call them."""

import json
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from cxr_core import cli
from cxr_core.data import datasets
from cxr_core.inference import litert_model
from cxr_core.runs import run_store as runs
from tests.conftest import PROJECT
from tests.test_cli import answer, refused


@pytest.fixture
def run_id(trained_home: Path) -> str:
    (found,) = runs.list_ids()
    return found


@pytest.fixture
def folder(trained_home: Path) -> Path:
    return trained_home / "datasets" / "phantoms" / "images"


def test_predict_gives_the_probabilities_of_the_evaluation(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = pd.read_parquet(runs.predictions_path(run_id, "test"))
    broken = tmp_path / "notes.png"
    broken.write_text("no image")
    files = [folder / one for one in table["id"]]
    document = answer(capsys, "predict", run_id, *files, broken)
    assert isinstance(document, dict)
    *results, last = document["results"]
    for row, result in zip(table.itertuples(), results, strict=True):
        for name in ("normal", "viral", "bacterial"):
            assert result["probabilities"][name] == pytest.approx(getattr(row, f"p_{name}"), abs=1e-5)
    assert "notes.png" in last["error"] or "image" in last["error"]


def test_a_folder_a_pattern_and_an_archive_are_the_images_in_them(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    inside = sorted((folder / "test").rglob("*.jpeg"))
    archive = shutil.make_archive(str(tmp_path / "test"), "zip", folder / "test")
    for given in (folder / "test", folder / "test" / "*" / "*.jpeg", archive):
        document = answer(capsys, "predict", run_id, given)
        assert isinstance(document, dict) and len(document["results"]) == len(inside)
        assert all("label" in one for one in document["results"])


def test_json_lines_come_one_an_image(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = next(folder.rglob("*.jpeg"))
    (tmp_path / "bad.png").write_text("no image")
    assert cli.main(["predict", run_id, str(image), str(tmp_path / "bad.png"), "--jsonl"]) == 0
    said = capsys.readouterr()
    first, second = map(json.loads, said.out.splitlines())
    assert first["file"] == str(image) and "error" in second and "not a medical device" in said.err


def test_heatmaps_are_written_beside(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    image = next(folder.rglob("*.jpeg"))
    document = answer(capsys, "predict", run_id, image, "--heatmaps", tmp_path / "maps")
    assert isinstance(document, dict)
    with Image.open(document["results"][0]["heatmap"]) as made, Image.open(image) as original:
        assert made.size == original.size and made.mode == "RGB"
    (tmp_path / "file").write_text("")
    said = refused(capsys, "predict", run_id, image, "--heatmaps", tmp_path / "file", code=1)
    assert f"{tmp_path / 'file'} is a file. Expected: a folder." in said and "CXR_HOME" not in said


def test_what_is_not_there_is_told(run_id: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for argument, words in ((tmp_path / "empty", "holds no images"), (tmp_path / "none.png", "There is no file")):
        assert cli.main(["predict", run_id, str(argument)]) == 2
        said = capsys.readouterr()
        assert words in said.out and "None of the files could be read" in said.err
    assert "no run named 'nobody'" in refused(capsys, "predict", "nobody", tmp_path / "none.png")


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("empty", "The folder empty holds no images"),
        ("emp*", "matches folders only"),
        ("", "The name of this file is empty"),
        (" ", "The name of this file is empty"),
        ("x" * 300, "name cannot be looked up"),
        ("~nobody-of-this-name/a.png", "name cannot be looked up"),
        ("none.png", "There is no file none.png"),
    ],
)
def test_an_argument_that_is_no_image_costs_only_its_own_answer(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, argument: str, words: str,
) -> None:  # fmt: skip
    """An empty name, above all, is not the current folder."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    image = next(folder.rglob("*.jpeg"))
    document = answer(capsys, "predict", run_id, argument, image)
    assert isinstance(document, dict)
    by_name = {one["file"]: one for one in document["results"]}
    assert set(by_name) == {argument, str(image)} and "label" in by_name[str(image)]
    assert words in by_name[argument]["error"]


def test_an_export_is_made_again_where_it_is_gone(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(runs.folder(run_id) / litert_model.FOLDER)
    document = answer(capsys, "export", run_id)
    assert isinstance(document, dict) and document["difference"] <= 1e-4
    assert litert_model.files_of(runs.get(run_id))


def test_the_endpoint_answers_from_outside(run_id: str, folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [sys.executable, "-m", "cxr_core", "serve", "--run", run_id, "--port", str(port)],
        cwd=PROJECT, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        image = next(folder.rglob("*.jpeg")).read_bytes()
        body = (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.jpeg"\r\n\r\n' + image + b"\r\n--x--\r\n"
        )
        kind = {"content-type": "multipart/form-data; boundary=x"}
        request = urllib.request.Request(f"http://127.0.0.1:{port}/api/predict", body, kind)
        for _ in range(120):
            try:
                with urllib.request.urlopen(request, timeout=30) as response:
                    document = json.loads(response.read())
                break
            except OSError:
                assert server.poll() is None
                time.sleep(0.25)
        assert document["results"][0]["label"] in ("normal", "viral", "bacterial")
    finally:
        server.terminate()
        _, log = server.communicate(timeout=20)
    assert b"POST /api/predict 200" in log and b"a.jpeg" not in log


def test_beyond_this_machine_a_token_is_needed(
    run_id: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CXR_API_TOKEN", raising=False)
    assert cli.main(["serve", "--host", "0.0.0.0"]) == 2
    assert "CXR_API_TOKEN" in capsys.readouterr().err
    for token in ("", "x", "12345678"):
        monkeypatch.setenv("CXR_API_TOKEN", token)
        assert cli.main(["serve"]) == 2
        assert f"Received: {len(token)} characters" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "-1"], "from 0 to 65535"),
        (["--port", "99999999"], "from 0 to 65535"),
        (["--most-mb", "-1"], "--most-mb is at least 1"),
        (["--most-files", "0"], "--most-files is at least 1"),
        (["--per-minute", "-3"], "--per-minute is at least 1"),
        (["--most-seconds", "nan"], "above 0"),
        (["--trusted-proxy", "anybody"], "IP address, or a network"),
        (["--host", "no-such-host.invalid"], "token|CXR_API_TOKEN"),
    ],
)
def test_limits_and_addresses_of_a_server_are_checked(
    run_id: str, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(words, refused(capsys, "serve", *arguments))


def test_a_port_in_use_is_reported(run_id: str, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert cli.main(["serve", "--port", str(port)]) == 1
    assert f"Could not listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_one_document_and_one_a_line_exclude_each_other(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "Choose one of them" in refused(capsys, "predict", run_id, folder, "--json", "--jsonl")


def test_a_frame_of_a_file_that_has_one_image_is_refused(
    run_id: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = next(folder.rglob("*.jpeg"))
    cli.main(["predict", run_id, str(file), "--frame", "3", "--json"])
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert "is no DICOM file" in result["error"] and "frame 3" in result["error"]


@pytest.mark.parametrize("content", [b"junk", b""])
def test_an_input_check_that_cannot_be_read_is_a_notice_and_export_says_whether_it_was_made(
    run_id: str, folder: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run of an earlier version whose dataset is gone would else never answer again."""
    path = runs.folder(run_id) / "input_check.npz"
    path.write_bytes(content)
    file = next(folder.rglob("*.jpeg"))
    document = answer(capsys, "predict", run_id, file)
    assert isinstance(document, dict) and document["results"][0]["label"]
    assert f"python -m cxr_core export {run_id}" in document["notice"]
    datasets.remove("phantoms")
    exported = answer(capsys, "export", run_id)
    assert isinstance(exported, dict) and "of an earlier version" in exported["notice"]
