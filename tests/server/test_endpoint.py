"""The HTTP endpoint: right answers, and a clear sentence for whatever is sent instead of images."""

import json
import logging
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from cxr_core import images, logs
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.evaluation import rule_store
from cxr_core.inference import model_cache, predict
from cxr_core.runs import run_store as runs
from cxr_core.server import endpoint
from cxr_core.server.endpoint import RequestLimits
from tests.inference.test_uploads import zipped
from tests.test_dicom import RAMP, content, made

TELLTALE = "patient-7.png"
IMAGE = images.encode(np.random.default_rng(0).integers(0, 256, (70, 60), dtype=np.uint8), format="PNG")


def connect(app: Starlette, **options: Any) -> TestClient:
    return TestClient(app, base_url="http://localhost", **options)


@pytest.fixture
def client(trained_home: Path) -> TestClient:
    return connect(endpoint.app(limits=RequestLimits(megabytes=1, files=3, per_minute=1000)))


def test_images_are_answered_in_their_order(client: TestClient) -> None:
    files = [("file", ("a.png", IMAGE)), ("file", ("b.png", b"no image"))]
    document = client.post("/api/predict", files=files).json()
    assert document["run"] == runs.list_ids()[0] and "not a medical device" in document["disclaimer"]
    first, second = document["results"]
    assert first["file"] == "a.png" and sum(first["probabilities"].values()) == pytest.approx(1)
    assert second == {"file": "b.png", "error": "The file is not an image that can be read here. Expected: "
                      "JPEG, PNG, BMP, TIFF, WEBP, DICOM."}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ({}, 415, "multipart/form-data"),
        ({"content": b"raw", "headers": {"content-type": "image/png"}}, 415, "multipart/form-data"),
        ({"content": b"junk", "headers": {"content-type": "multipart/form-data; boundary=x"}}, 400, "form|no image"),
        ({"data": {"file": "text"}, "files": {"other": b"x"}}, 400, "no image"),
        ({"files": {"file": bytes(2_000_000)}}, 413, "1 MB"),
        ({"files": [("file", IMAGE)] * 4}, 400, "form could not be read"),
        ({"files": {"file": IMAGE}, "params": {"run": "nobody"}}, 404, "no run named 'nobody'"),
        ({"files": {"file": IMAGE}, "params": {"run": "../../etc"}}, 400, "letters, digits"),
    ],
)
def test_what_is_no_request_gets_a_sentence(client: TestClient, arguments: dict, code: int, words: str) -> None:
    found = client.post("/api/predict", **arguments)
    assert found.status_code == code
    assert re.search(words, found.json()["error"])


def test_a_body_that_hides_its_size_is_cut_off(client: TestClient) -> None:
    def stream():
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
        for _ in range(40):
            yield bytes(100_000)

    found = client.post("/api/predict", content=stream(), headers={"content-type": "multipart/form-data; boundary=x"})
    assert found.status_code == 413


def test_the_decision_rule_is_told_and_the_most_probable_class_beside_the_label(client: TestClient) -> None:
    assert client.post("/api/predict", files={"file": IMAGE}).json()["operating_point"] is None
    (run_id,) = runs.list_ids()
    first = client.post("/api/predict", files={"file": IMAGE}).json()["results"][0]
    others = [name for name in first["probabilities"] if name != first["most_probable"]]
    rule = rule_store.fit(run_id, min_images=1, positive=others, threshold=0.0, criterion="all of them")
    rule_store.save(run_id, rule)
    told = client.post("/api/predict", files={"file": IMAGE}).json()
    assert told["operating_point"] == {"positive": others, "threshold": 0.0, "rule": "all of them"}
    assert told["decision_rule"] == rule.document() and told["results"][0]["confident"] == told["results"][0]["sure"]
    again = told["results"][0]
    assert again["most_probable"] == first["most_probable"] != again["label"] and again["label"] in others


def test_a_request_that_takes_too_long_is_answered_as_far_as_it_came(
    trained_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decode = predict.decode

    def slowly(*arguments: Any, **named: Any) -> images.DecodedImage:
        time.sleep(0.1)
        return decode(*arguments, **named)

    files = [("file", (f"{number}.png", IMAGE)) for number in range(60)]
    client = connect(endpoint.app(limits=RequestLimits(seconds=1)))
    client.post("/api/predict", files=files[:1])  # loads the network
    monkeypatch.setattr(predict, "decode", slowly)
    monkeypatch.setattr(predict.process, "cpu_count", lambda: 1)
    start = time.monotonic()
    found = client.post("/api/predict", files=files).json()["results"]
    assert time.monotonic() - start < 5
    assert [one["file"] for one in found] == [f"{number}.png" for number in range(60)]
    assert "label" in found[0] and "Send fewer or smaller" in found[-1]["error"]
    assert all(("label" in one) != ("error" in one) for one in found)


def test_too_many_requests_have_to_wait(trained_home: Path) -> None:
    client = connect(endpoint.app(limits=RequestLimits(per_minute=3)))
    codes = [client.get("/api/runs").status_code for _ in range(5)]
    assert codes.count(429) >= 1 and codes[0] == 200
    assert client.get("/api/health").json()["status"] == "ok"


def test_a_token_is_asked_for(trained_home: Path) -> None:
    client = connect(endpoint.app(token="secret"))
    assert client.get("/api/runs").status_code == 401
    assert client.get("/api/runs", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/runs", headers={"authorization": "Bearer secret"}).status_code == 200


def test_wrong_tokens_are_counted_and_then_the_right_one_has_to_wait_too(trained_home: Path) -> None:
    client = connect(endpoint.app(token="0123456789abcdef"))
    right, wrong = ({"authorization": f"Bearer {token}"} for token in ("0123456789abcdef", "0123456789abcdee"))
    assert client.get("/api/runs", headers=right).status_code == 200
    codes = [client.get("/api/runs", headers=wrong).status_code for _ in range(25)]
    assert set(codes) <= {401, 429} and codes[0] == 401 and codes.count(401) <= 20  # a minute may begin meanwhile
    refused = client.get("/api/runs", headers=right)
    assert refused.status_code == 429 and "wrong tokens" in refused.json()["error"] and refused.headers["retry-after"]


@pytest.mark.parametrize("token", ["", "x", "short", "with spaces in between", "ä" * 20, " " * 30])
def test_a_token_that_is_guessed_too_easily_is_refused(token: str) -> None:
    with pytest.raises(BadInput, match="at least 16 letters"):
        endpoint.check_token(token)
    endpoint.check_token("0123456789abcdef")


def test_the_images_of_an_archive_are_counted(client: TestClient) -> None:
    archive = zipped({f"{number}.png": IMAGE for number in range(4)})
    found = client.post("/api/predict", files={"file": ("a.zip", archive)})
    assert found.status_code == 413 and "may have 3 images" in found.json()["error"]
    fewer = zipped({f"{number}.png": IMAGE for number in range(3)})
    assert len(client.post("/api/predict", files={"file": ("a.zip", fewer)}).json()["results"]) == 3


def test_a_run_that_has_to_be_exported_first_is_not_listed_and_not_exported(client: TestClient) -> None:
    (run_id,) = runs.list_ids()
    assert [run["id"] for run in client.get("/api/runs").json()] == [run_id]
    model_cache.clear()
    shutil.rmtree(runs.folder(run_id) / "export")
    assert client.get("/api/runs").json() == []
    found = client.post("/api/predict", files={"file": IMAGE}, params={"run": run_id})
    assert found.status_code == 500 and f"python -m cxr_core export {run_id}" in found.json()["error"]
    assert not (runs.folder(run_id) / "export").exists()
    assert client.post("/api/predict", files={"file": IMAGE}).status_code == 400


def test_beyond_the_budget_of_work_a_client_is_asked_to_come_again(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoint, "_BUDGET_REQUESTS", 0)
    full = connect(endpoint.app(limits=RequestLimits(megabytes=1)))
    found = full.post("/api/predict", files={"file": IMAGE})
    assert found.status_code == 503 and found.headers["retry-after"] and "Try again later" in found.json()["error"]
    assert client.post("/api/predict", files={"file": IMAGE}).status_code == 200


def test_what_is_not_there_is_told_in_json(client: TestClient) -> None:
    found = client.get("/nothing")
    assert found.status_code == 404 and "nothing at this path" in found.json()["error"]
    found = client.post("/api/runs")
    assert found.status_code == 405 and "method" in found.json()["error"] and found.headers["allow"]
    found = client.get("/api/runs", headers={"host": "evil.example"})
    assert found.status_code == 403 and "does not answer to the name" in found.json()["error"]


def test_without_a_run_it_says_what_to_do(home: Path) -> None:
    found = connect(endpoint.app()).post("/api/predict", files={"file": IMAGE})
    assert found.status_code == 400 and "Train one first" in found.json()["error"]


def test_it_describes_itself(client: TestClient) -> None:
    document = client.get("/api/openapi.json").json()
    assert document["openapi"] == "3.1.0"
    codes = document["paths"]["/api/predict"]["post"]["responses"]
    assert {"400", "403", "404", "408", "413", "415", "429", "500", "503"} <= set(codes) and "401" not in codes
    secured = connect(endpoint.app(token="0123456789abcdef")).get("/api/openapi.json").json()
    assert "401" in secured["paths"]["/api/predict"]["post"]["responses"]
    for path, ways in document["paths"].items():
        for way in ways:
            assert client.request(way.upper(), path).status_code not in (404, 405)
    fields = document["components"]["schemas"]["Answers"]["properties"]["results"]["items"]["properties"]
    (answer,) = client.post("/api/predict", files={"file": IMAGE}).json()["results"]
    assert set(answer) <= set(fields)


def test_what_it_sends_is_what_it_describes(client: TestClient) -> None:
    def check(value: object, schema: dict) -> None:
        names = {dict: "object", list: "array", str: "string", bool: "boolean", float: "number", type(None): "null"}
        types = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
        assert names[type(value)] in types, (value, schema)
        if isinstance(value, dict):
            assert set(schema.get("required", [])) <= set(value)
            for name, inner in value.items():
                if described := schema.get("properties", {}).get(name) or schema.get("additionalProperties"):
                    check(inner, described)
                else:
                    assert "properties" not in schema, name
        for item in value if isinstance(value, list) else []:
            check(item, schema["items"])

    document = client.get("/api/openapi.json").json()
    schemas = document["components"]["schemas"]
    assert "\\n" not in json.dumps(document)
    files = [("file", IMAGE), ("file", b"no image")]
    check(client.post("/api/predict", files=files).json(), schemas["Answers"])
    check(client.get("/api/health").json(), schemas["Health"])
    check(client.post("/api/predict").json(), schemas["Problem"])
    content = document["paths"]["/api/runs"]["get"]["responses"]["200"]["content"]
    check(client.get("/api/runs").json(), content["application/json"]["schema"])


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Output of the server on stderr, with the log that an operator has."""
    logger = logging.getLogger("cxr_core")
    handlers, level = logger.handlers[:], logger.level
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setenv("CXR_LOG_LEVEL", "debug")
    logger.handlers.clear()
    logs.configure()
    yield lambda: capsys.readouterr().err
    logger.handlers[:] = handlers
    logger.setLevel(level)


def test_the_log_has_requests_and_refusals_and_nothing_of_what_was_sent(
    trained_home: Path, log: Callable[[], str]
) -> None:
    dicom = content(made(RAMP, PatientName="TELLTALE^TAG", PatientID="TELLTALE-ID"))
    client = connect(endpoint.app(token="TELLTALE-TOKEN", limits=RequestLimits(megabytes=1, files=3)))
    files = [("file", ("TELLTALE.dcm", dicom)), ("file", ("TELLTALE.png", b"TELLTALE"))]
    bearer = {"authorization": "Bearer TELLTALE-TOKEN"}
    first, second = client.post("/api/predict", files=files, headers=bearer).json()["results"]
    assert "label" in first and "error" in second
    assert client.post("/api/predict", files=files, headers={"authorization": "Bearer TELLTALE"}).status_code == 401
    assert client.post("/api/predict", params={"run": "TELLTALE"}, files=files, headers=bearer).status_code == 404
    assert client.get("/TELLTALE", headers=bearer).status_code == 404
    assert client.request("TELLTALE", "/api/runs", headers=bearer).status_code == 405
    too_many = [("file", ("TELLTALE.png", IMAGE))] * 4
    assert client.post("/api/predict", files=too_many, headers=bearer).status_code == 400
    text = log()
    lines = [re.sub(r"^\S+ \S+ |[\d.]+ ms$", "", line) for line in text.splitlines()]
    assert lines == [
        f"INFO cxr_core.server.endpoint: Run {runs.list_ids()[0]}: 2 results, 1 refused, 1 with an error.",
        "INFO cxr_core.server.request_log: POST /api/predict 200 ",
        "WARNING cxr_core.server.endpoint: Refused with 401: This endpoint asks for a token: "
        "send 'Authorization: Bearer TOKEN'.",
        "INFO cxr_core.server.request_log: POST /api/predict 401 ",
        "WARNING cxr_core.server.endpoint: Refused with 404: UnknownName.",
        "INFO cxr_core.server.request_log: POST /api/predict 404 ",
        "INFO cxr_core.server.request_log: GET (unknown path) 404 ",
        "INFO cxr_core.server.request_log: (other method) /api/runs 405 ",
        "WARNING cxr_core.server.endpoint: Refused with 400: The form could not be read.",
        "INFO cxr_core.server.request_log: POST /api/predict 400 ",
    ]
    assert "TELLTALE" not in text.upper()


@pytest.mark.parametrize("error", [ValueError, WorkFailed])
def test_an_error_is_logged_with_its_traceback_and_without_its_message(
    client: TestClient, log: Callable[[], str], monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(run_id: str, **_: object) -> None:
        try:
            raise KeyError(TELLTALE)
        except KeyError as cause:
            raise error(TELLTALE) from cause

    monkeypatch.setattr(endpoint.predict, "load", fail)
    response = client.post("/api/predict", files={"file": ("TELLTALE.png", IMAGE)})
    assert response.status_code == 500 and response.json()["error"]
    text = log()
    assert "ERROR" in text and error.__name__ in text and "KeyError" in text and "in fail\n" in text
    assert TELLTALE not in text
    assert "POST /api/predict 500" in text


def test_a_warning_of_a_library_is_logged_without_its_message(log: Callable[[], str]) -> None:
    """Decoding ignores warnings, but one thread may restore the filters while another one decodes."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn(TELLTALE, stacklevel=1)
    assert f"UserWarning at {__file__}:" in (text := log()) and TELLTALE not in text


def test_an_unknown_level_is_told_and_the_log_goes_on(log: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    logging.getLogger("cxr_core").handlers.clear()
    monkeypatch.setenv("CXR_LOG_LEVEL", "loud")
    logs.configure()
    logs.configure()  # the pages do at every rerun
    assert log().count("CXR_LOG_LEVEL is one of DEBUG, INFO, WARNING, ERROR. Received: 'LOUD'") == 1
    assert logging.getLogger("cxr_core").level == logging.INFO
