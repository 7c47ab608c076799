"""The HTTP endpoint: `POST /api/predict` with image files, JSON back. Off unless `python -m cxr_core serve` is started.

    GET  /api/health        {"status": "ok"}
    GET  /api/runs          the runs that can answer
    POST /api/predict       multipart/form-data with one or more `file` fields; ?run=RUN
    GET  /api/openapi.json  the description of all this

Nothing that is sent is written to disk or to a log.
"""

import hmac
import time
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxr_core import __version__
from cxr_core.errors import BadInput, CxrError, UnknownName
from cxr_core.formatting import DISCLAIMER
from cxr_core.inference import predict, uploads
from cxr_core.inference.predict import LoadedModel, Result
from cxr_core.runs import run_store as runs

_CLIENTS = 10_000  # whose pace is remembered


@dataclass(frozen=True)
class Limits:
    """`megabytes` of a request, `files` in it, `per_minute` requests of one client, `seconds` that an answer may take."""

    megabytes: int = 50
    files: int = 64
    per_minute: int = 120
    seconds: float = 60.0


class _Refused(Exception):
    """A request that is not even looked into; `code` of HTTP."""

    def __init__(self, code: int, sentence: str):
        super().__init__(sentence)
        self.code = code


def app(run_id: str = "", *, token: str = "", limits: Limits | None = None) -> Starlette:
    """The endpoint as an ASGI application.

    Args:
        run_id: which run answers where a request names none; by default the newest that can.
        token: if given, requests have to carry it (`Authorization: Bearer …`).
        limits: of what is taken.
    """
    bounds, pace = limits or Limits(), _Pace((limits or Limits()).per_minute)
    # Starlette would write files of more than 1 MB to the disk.
    MultiPartParser.spool_max_size = (bounds.megabytes + 1) * 2**20

    def refused(request: Request) -> JSONResponse | None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            return _problem(401, "This endpoint asks for a token: send 'Authorization: Bearer TOKEN'.")
        if wait := pace.wait(request.client.host if request.client else ""):
            return _problem(
                429, f"At most {bounds.per_minute} requests a minute are taken.", {"Retry-After": str(wait)}
            )
        return None

    async def health(_: Request) -> JSONResponse:
        return JSONResponse({"status": "ok", "version": __version__})

    async def listed(request: Request) -> JSONResponse:
        if problem := refused(request):
            return problem
        usable = await run_in_threadpool(lambda: [one for one in runs.list_runs() if one.has_predictions])
        return JSONResponse([{"id": one.id, "model": one.config.model, "data": one.config.data} for one in usable])

    async def predict(request: Request) -> JSONResponse:
        if problem := refused(request):
            return problem
        try:
            files = await _files(request, bounds)
            asked = request.query_params.get("run") or run_id
            return JSONResponse(await run_in_threadpool(answered, asked, files, bounds.seconds))
        except _Refused as error:
            return _problem(error.code, str(error))
        except UnknownName as error:
            return _problem(404, str(error))
        except CxrError as error:
            return _problem(400 if isinstance(error, BadInput) else 500, str(error))

    async def described(_: Request) -> JSONResponse:
        return JSONResponse(description(bounds, token=bool(token)))

    return Starlette(
        routes=[
            Route("/api/health", health),
            Route("/api/runs", listed),
            Route("/api/predict", predict, methods=["POST"]),
            Route("/api/openapi.json", described),
        ]
    )


def answered(run_id: str, files: list[tuple[str, bytes]], seconds: float) -> dict[str, Any]:
    """The JSON document for some files, by a run or by the newest that can answer.

    Files that have not had their turn after so many seconds get a sentence instead of an answer.

    Raises:
        UnknownName, BadInput, WorkFailed: there is no such run, or it cannot answer.
    """
    if not run_id:
        usable = [one for one in runs.list_runs() if one.has_predictions]
        if not usable:
            raise BadInput("No run can answer yet. Train one first.")
        run_id = usable[0].id
    panel = predict.load(run_id)
    items, problems = uploads.input_files(files)
    results, end = [], time.monotonic() + seconds
    with closing(predict.stream(panel, items)) as stream:
        for one in stream:
            results.append(document(one))
            if time.monotonic() > end:
                break
    late = f"Not looked at: the request had taken {seconds:g} seconds already. Send fewer or smaller images."
    results += [{"file": one.name, "error": late} for one in items[len(results) :]]
    results += [{"file": name, "error": sentence} for name, sentence in problems]
    return {"run": run_id, "results": results, **said_of_all(panel)}


def said_of_all(panel: LoadedModel) -> dict[str, Any]:
    """What the command line and the endpoint tell beside the results."""
    rule = panel.rule
    return {
        "decision_rule": rule.document(),
        "operating_point": rule.operating_point(),
        "notice": panel.notice,
        "disclaimer": DISCLAIMER,
    }


def document(one: Result) -> dict[str, Any]:
    """A result as the command line and the endpoint tell it."""
    if one.answer is None:
        return {"file": one.name, "error": one.problem}
    return {
        "file": one.name,
        "label": None if one.answer.refused else one.answer.label,
        "most_probable": None if one.answer.refused else one.answer.most_probable,
        "probabilities": one.answer.probabilities,
        "calibrated": one.answer.calibrated,
        "confident": one.answer.confident and not one.answer.refused,
        "sure": one.answer.confident and not one.answer.refused,
        "refused": one.answer.refused,
        "warnings": [remark.text for remark in one.answer.remarks],
    }


class _Pace:
    """Requests of each client in the running minute."""

    def __init__(self, per_minute: int):
        self._most, self._seen = per_minute, OrderedDict[str, tuple[int, int]]()

    def wait(self, client: str) -> int:
        """0 if the request may go on, else seconds to wait."""
        now = time.monotonic()
        minute, count = self._seen.pop(client, (0, 0))
        minute, count = (minute, count + 1) if minute == int(now // 60) else (int(now // 60), 1)
        self._seen[client] = (minute, count)
        if len(self._seen) > _CLIENTS:
            self._seen.popitem(last=False)
        return 0 if count <= self._most else 60 - int(now % 60)


async def _files(request: Request, bounds: Limits) -> list[tuple[str, bytes]]:
    """Names and contents of the fields called file; raises _Refused."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise _Refused(415, "Send multipart/form-data with the images in fields called 'file'.")
    capped = _capped(request, bounds.megabytes)
    try:
        async with capped.form(max_files=bounds.files, max_fields=8) as form:
            sent = [one for one in form.getlist("file") if not isinstance(one, str)]
            files = [((one.filename or "image")[:200], await one.read()) for one in sent]
    except (HTTPException, MultiPartException, ClientDisconnect) as error:
        raise _Refused(400, f"The form could not be read ({getattr(error, 'detail', 'it is cut short')}).") from error
    if not files:
        raise _Refused(400, "There was no image. Send one or more files in fields called 'file'.")
    return files


def _capped(request: Request, megabytes: int) -> Request:
    """The request with a body that ends in a refusal when it grows too large, whatever its header says."""
    taken, receive = 0, request.receive

    async def counted() -> Any:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > megabytes * 2**20:
            raise _Refused(413, f"A request may have {megabytes} MB.")
        return message

    return Request(request.scope, counted)


def _problem(code: int, sentence: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"error": sentence}, status_code=code, headers=headers)


def description(bounds: Limits, *, token: bool) -> dict[str, Any]:
    """OpenAPI 3.1 of the endpoint."""
    share = {"type": "object", "additionalProperties": {"type": "number", "minimum": 0, "maximum": 1}}
    result = {
        "type": "object",
        "description": "An answer, or `error`, the sentence that says why there is none.",
        "required": ["file"],
        "properties": {
            "file": {"type": "string"},
            "error": {"type": "string"},
            "label": {
                "type": ["string", "null"],
                "description": "By the run's decision rule, given whether it is confident or not; null if refused.",
            },
            "most_probable": {
                "type": ["string", "null"],
                "description": "The most probable single class after the temperature; the decision rule may give another.",
            },
            "probabilities": {**share, "description": "Of the network itself, by class."},
            "calibrated": {**share, "description": "After the temperature of the run's decision rule."},
            "confident": {
                "type": "boolean",
                "description": "Whether the calibrated probability of `label` reaches the `reject_threshold` of the decision rule.",
            },
            "sure": {"type": "boolean", "description": "The same, by its name in version 0.1."},
            "refused": {"type": "boolean", "description": "True if the image seems to be no frontal chest X-ray."},
            "warnings": {"type": "array", "items": {"type": "string"}},
        },
    }
    problem = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Problem"}}}}
    sentences = {
        "400": "No image, or a form that cannot be read.", "404": "No such run.", "413": "Too large.",
        "415": "Not multipart/form-data.", "429": f"More than {bounds.per_minute} requests a minute.",
    } | ({"401": "No token."} if token else {})  # fmt: skip
    return {
        "openapi": "3.1.0",
        "info": {"title": "Chest X-ray workbench", "version": __version__, "description": DISCLAIMER},
        "paths": {
            "/api/predict": {
                "post": {
                    "summary": f"Classify up to {bounds.files} images, {bounds.megabytes} MB in all.",
                    "parameters": [{"name": "run", "in": "query", "schema": {"type": "string"}}],
                    "requestBody": {
                        "required": True,
                        "content": {
                            "multipart/form-data": {
                                "schema": {
                                    "type": "object",
                                    "required": ["file"],
                                    "properties": {
                                        "file": {"type": "array", "items": {"type": "string", "format": "binary"}}
                                    },
                                }
                            }
                        },
                    },
                    "responses": {
                        "200": {
                            "description": "One result an image, in the order sent; what could not be taken comes last. After "
                            f"{bounds.seconds:g} seconds the rest gets an `error` each.",
                            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Answers"}}},
                        },
                        **{code: {"description": words, **problem} for code, words in sentences.items()},
                    },
                    **({"security": [{"token": []}]} if token else {}),
                }
            },
            "/api/runs": {
                "get": {"summary": "Runs that can answer.", "responses": {"200": {"description": "A list."}}}
            },
            "/api/health": {"get": {"summary": "Whether it is up.", "responses": {"200": {"description": "It is."}}}},
        },
        "components": {
            "schemas": {
                "Problem": {"type": "object", "properties": {"error": {"type": "string"}}},
                "Answers": {
                    "type": "object",
                    "properties": {
                        "run": {"type": "string"},
                        "results": {"type": "array", "items": result},
                        "decision_rule": {
                            "type": "object",
                            "description": "How the run answers: the probabilities after `temperature`; the most probable of the "
                            "`positive` classes where their sum is at or above `threshold`, else of the others (both empty: "
                            "the most probable class); confident at or above `reject_threshold`.",
                        },
                        "operating_point": {
                            "type": ["object", "null"],
                            "description": "The threshold of the decision rule, as in version 0.1: where the summed calibrated "
                            "probability of the `positive` classes is at or above `threshold`, the label is one of them; `rule` "
                            "says how it was chosen.",
                            "properties": {
                                "positive": {"type": "array", "items": {"type": "string"}},
                                "threshold": {"type": "number", "minimum": 0, "maximum": 1},
                                "rule": {"type": "string"},
                            },
                        },
                        "notice": {
                            "type": "string",
                            "description": "What holds of all answers, such as that no input check looks.",
                        },
                        "disclaimer": {"type": "string"},
                    },
                },
            },
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if token else {}),
        },
    }
