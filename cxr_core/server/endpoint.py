"""The HTTP endpoint: `POST /api/predict` with image files, JSON back. Off unless `python -m cxr_core serve` is started.

    GET  /api/health        {"status": "ok"}
    GET  /api/runs          the runs that can answer
    POST /api/predict       multipart/form-data with one or more `file` fields; ?run=RUN
    GET  /api/openapi.json  the description of all this

Nothing that is sent is written to disk or to the log (request_log.py).
"""

import hmac
import logging
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
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxr_core import __version__
from cxr_core.errors import BadInput, CxrError, UnknownName
from cxr_core.inference import predict, uploads
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from cxr_core.server.browser_security import ENDPOINT_POLICY, BrowserSecurity, allowed_hosts
from cxr_core.server.documents import Answers, Health, ImageResult, UsableRun, image_result, model_notes
from cxr_core.server.openapi import Operation, describe
from cxr_core.server.request_log import RequestLog

_log = logging.getLogger(__name__)
_MAX_CLIENTS = 10_000  # whose requests are counted
_PREDICT_REQUEST = {
    "parameters": [{"name": "run", "in": "query", "schema": {"type": "string"}}],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "items": {"type": "string", "format": "binary"}}},
                }
            }
        },
    },
}


@dataclass(frozen=True)
class RequestLimits:
    """`megabytes` of a request, `files` in it, `per_minute` requests of one client, `seconds` that an answer may take."""

    megabytes: int = 50
    files: int = 64
    per_minute: int = 120
    seconds: float = 60.0


class _RefusedRequest(Exception):
    """A request that is not processed; `code` of HTTP, and for the log the `reason`, which quotes nothing that was sent."""

    def __init__(self, code: int, sentence: str, headers: Mapping[str, str] | None = None, *, reason: str = ""):
        super().__init__(sentence)
        self.code, self.headers, self.reason = code, headers, reason or sentence


def app(run_id: str = "", *, token: str = "", limits: RequestLimits | None = None) -> Starlette:
    """The endpoint as an ASGI application.

    Args:
        run_id: which run answers where a request names none; by default the newest that can.
        token: if given, requests have to carry it (`Authorization: Bearer …`).
        limits: of what is taken.
    """
    limits = limits or RequestLimits()
    rate_limit = _RateLimit(limits.per_minute)
    # Starlette would write files of more than 1 MB to the disk.
    MultiPartParser.spool_max_size = (limits.megabytes + 1) * 2**20

    def admit(request: Request) -> None:
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            raise _RefusedRequest(401, "This endpoint asks for a token: send 'Authorization: Bearer TOKEN'.")
        if seconds := rate_limit.seconds_to_wait(request.client.host if request.client else ""):
            sentence = f"At most {limits.per_minute} requests a minute are taken."
            raise _RefusedRequest(429, sentence, {"Retry-After": str(seconds)})

    async def get_health(_: Request) -> JSONResponse:
        return JSONResponse(Health(status="ok", version=__version__))

    async def get_runs(request: Request) -> JSONResponse:
        admit(request)
        usable = await run_in_threadpool(_usable_runs)
        return JSONResponse([UsableRun(id=run.id, model=run.config.model, data=run.config.data) for run in usable])

    async def post_predict(request: Request) -> JSONResponse:
        admit(request)
        files = await _read_files(request, limits)
        requested_run = request.query_params.get("run") or run_id
        return JSONResponse(await run_in_threadpool(answer, requested_run, files, limits.seconds))

    refusals = {429: f"More than {limits.per_minute} requests a minute."} | ({401: "No token."} if token else {})
    operations = [
        Operation(
            "POST", "/api/predict", post_predict, Answers,
            f"Classify up to {limits.files} images, {limits.megabytes} MB in all.",
            "One result an image, in the order sent; what could not be taken comes last. After "
            f"{limits.seconds:g} seconds the rest gets an `error` each.",
            {
                400: "No image, or a form that cannot be read.", 404: "No such run.", 413: "Too large.",
                415: "Not multipart/form-data.", 500: "The run cannot answer.", **refusals,
            },
            _PREDICT_REQUEST,
        ),
        Operation("GET", "/api/runs", get_runs, list[UsableRun], "Runs that can answer, newest first.", refusals=refusals),
        Operation("GET", "/api/health", get_health, Health, "Health check."),
    ]  # fmt: skip

    description = JSONResponse(describe(operations, token=bool(token)))
    routes = [
        *(Route(operation.path, operation.handler, methods=[operation.method]) for operation in operations),
        Route("/api/openapi.json", description, methods=["GET"]),
    ]
    return Starlette(
        routes=routes,
        middleware=[
            Middleware(RequestLog, paths={route.path for route in routes}),
            Middleware(BrowserSecurity, hosts=allowed_hosts(), policy=ENDPOINT_POLICY),
        ],
        exception_handlers={_RefusedRequest: _refusal, CxrError: _refusal},
    )


async def _refusal(_: Request, error: Exception) -> JSONResponse:
    headers = None
    if isinstance(error, _RefusedRequest):
        code, headers = error.code, error.headers
        _log.warning("Refused with %d: %s", code, error.reason)
    elif isinstance(error, BadInput):
        code = 404 if isinstance(error, UnknownName) else 400
        _log.warning("Refused with %d: %s.", code, type(error).__name__)
    else:
        code = 500
        _log.error("A run could not answer.", exc_info=error)
    return JSONResponse({"error": str(error)}, status_code=code, headers=headers)


def _usable_runs() -> list[Run]:
    return [run for run in runs.list_runs() if run.has_predictions]


def answer(run_id: str, files: list[tuple[str, bytes]], seconds: float) -> Answers:
    """The JSON document for some files, by a run or by the newest that can answer.

    Files that have not had their turn after so many seconds get a sentence instead of an answer.

    Raises:
        UnknownName, BadInput, WorkFailed: there is no such run, or it cannot answer.
    """
    if not run_id:
        usable = _usable_runs()
        if not usable:
            raise BadInput("No run can answer yet. Train one first.")
        run_id = usable[0].id
    model = predict.load(run_id)
    items, problems = uploads.input_files(files)
    results: list[ImageResult] = []
    deadline = time.monotonic() + seconds
    with closing(predict.stream(model, items)) as stream:
        for result in stream:
            results.append(image_result(result))
            if time.monotonic() > deadline:
                break
    late = f"Not looked at: the request had taken {seconds:g} seconds already. Send fewer or smaller images."
    results += [{"file": item.name, "error": late} for item in items[len(results) :]]
    results += [{"file": name, "error": sentence} for name, sentence in problems]
    refused, unread = (sum(bool(result.get(key)) for result in results) for key in ("refused", "error"))
    _log.info("Run %s: %d results, %d refused, %d with an error.", run_id, len(results), refused, unread)
    return {"run": run_id, "results": results, **model_notes(model)}


class _RateLimit:
    """Requests of each client in the running minute."""

    def __init__(self, per_minute: int):
        self._per_minute, self._counts = per_minute, OrderedDict[str, tuple[int, int]]()

    def seconds_to_wait(self, client: str) -> int:
        """Count a request; 0 if it may proceed."""
        now = time.monotonic()
        minute, count = self._counts.pop(client, (0, 0))
        minute, count = (minute, count + 1) if minute == int(now // 60) else (int(now // 60), 1)
        self._counts[client] = (minute, count)
        if len(self._counts) > _MAX_CLIENTS:
            self._counts.popitem(last=False)
        return 0 if count <= self._per_minute else 60 - int(now % 60)


async def _read_files(request: Request, limits: RequestLimits) -> list[tuple[str, bytes]]:
    """Names and contents of the fields called file; raises _RefusedRequest."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise _RefusedRequest(415, "Send multipart/form-data with the images in fields called 'file'.")
    capped = _capped(request, limits.megabytes)
    try:
        async with capped.form(max_files=limits.files, max_fields=8) as form:
            fields = [field for field in form.getlist("file") if not isinstance(field, str)]
            files = [((field.filename or "image")[:200], await field.read()) for field in fields]
    except (HTTPException, MultiPartException, ClientDisconnect) as error:
        detail = getattr(error, "detail", "it is cut short")
        sentence = f"The form could not be read ({detail})."
        raise _RefusedRequest(400, sentence, reason="The form could not be read.") from error
    if not files:
        raise _RefusedRequest(400, "There was no image. Send one or more files in fields called 'file'.")
    return files


def _capped(request: Request, megabytes: int) -> Request:
    """The request with a body that ends in a refusal when it grows too large, whatever its header says."""
    received, receive = 0, request.receive

    async def receive_counted() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > megabytes * 2**20:
            raise _RefusedRequest(413, f"A request may have {megabytes} MB.")
        return message

    return Request(request.scope, receive_counted)
