"""The HTTP endpoint: `POST /api/predict` with image files, JSON back. Off unless `python -m cxr_core serve` is started.

    GET  /api/health        {"status": "ok"}
    GET  /api/runs          the runs that can answer
    POST /api/predict       multipart/form-data with one or more `file` fields; ?run=RUN
    GET  /api/openapi.json  the description of all this

Nothing that is sent is written to disk or to the log (request_log.py).
"""

import asyncio
import hmac
import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from cxr_core import __version__, process
from cxr_core.decoding import Patience
from cxr_core.errors import BadInput, CxrError, UnknownName
from cxr_core.inference import predict, uploads
from cxr_core.inference.predict import InputFile
from cxr_core.runs import run_store as runs
from cxr_core.runs.run_store import Run
from cxr_core.server.admission import Full, MinuteCount, RequestInFlight, WorkInFlight, client_key
from cxr_core.server.browser_security import ENDPOINT_POLICY, BrowserSecurity, allowed_hosts
from cxr_core.server.documents import Answers, Health, ImageResult, UsableRun, image_result, model_notes
from cxr_core.server.openapi import Operation, describe
from cxr_core.server.request_log import RequestLog

T = TypeVar("T")
_log = logging.getLogger(__name__)
MIN_TOKEN = 16  # characters
_WRONG_TOKENS = 10  # of one client in a minute
_MAX_REQUESTS = 64  # in flight: received, waiting or answered
_ANSWERING = 16  # of them at once, so that small images are answered beside large ones that wait for memory
_BUDGET_REQUESTS = 4  # that may be as large as they may be, in flight
_RETRY_SECONDS = 5
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
    """`megabytes` of a request, `files` (images, those in an archive too) in it, `per_minute` requests of one client, and
    `seconds` from the head of a request to its answer."""

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
    rate_limit, wrong_tokens = MinuteCount(limits.per_minute), MinuteCount(_WRONG_TOKENS)
    work = WorkInFlight(_MAX_REQUESTS, _BUDGET_REQUESTS * limits.megabytes * 2**20)
    answering = asyncio.Semaphore(max(_ANSWERING, process.cpu_count()))
    # Starlette would write files of more than 1 MB to the disk.
    MultiPartParser.spool_max_size = (limits.megabytes + 1) * 2**20

    def admit(request: Request) -> None:
        client = client_key(request.client.host if request.client else "")
        if seconds := wrong_tokens.seconds_to_wait(client):
            raise _RefusedRequest(
                429, "There were too many wrong tokens. Wait a minute.", {"Retry-After": str(seconds)}
            )
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if token and not hmac.compare_digest(given.encode(), token.encode()):
            wrong_tokens.add(client)
            sentence = "This endpoint asks for a token: send 'Authorization: Bearer TOKEN'."
            raise _RefusedRequest(401, sentence, {"WWW-Authenticate": "Bearer"})
        if seconds := rate_limit.add(client):
            sentence = f"At most {limits.per_minute} requests a minute are taken."
            raise _RefusedRequest(429, sentence, {"Retry-After": str(seconds)})

    async def get_health(_: Request) -> JSONResponse:
        return JSONResponse(Health(status="ok", version=__version__))

    async def get_runs(request: Request) -> JSONResponse:
        admit(request)
        usable = await run_in_threadpool(_usable_runs)
        return JSONResponse([UsableRun(id=run.id, model=run.config.model, data=run.config.data) for run in usable])

    async def post_predict(request: Request) -> JSONResponse:
        deadline = time.monotonic() + limits.seconds
        admit(request)
        left = threading.Event()
        late = f"Not looked at: the request had taken {limits.seconds:g} seconds already. Send fewer or smaller images, or later."
        patience = Patience(deadline, lambda: left.is_set() or request.app.state.is_closing, late)
        try:
            with work.request() as in_flight:
                files = await _read_files(request, limits, in_flight, deadline)
                async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                    await answering.acquire()
                try:
                    return JSONResponse(
                        await _while_client_waits(
                            request, left, lambda: _answer_files(run_of(request), files, limits, patience)
                        )
                    )
                finally:
                    answering.release()
        except (Full, TimeoutError) as error:
            sentence = "There is more work than this server takes at once. Try again later."
            raise _RefusedRequest(503, sentence, {"Retry-After": str(_RETRY_SECONDS)}) from error

    def run_of(request: Request) -> str:
        return request.query_params.get("run") or run_id

    foreign = {403: "Another host name or web page than this server's.", 500: "An unexpected error."}
    refusals = foreign | {429: f"More than {limits.per_minute} requests a minute, or too many wrong tokens."}
    refusals |= {401: "No token, or a wrong one."} if token else {}
    operations = [
        Operation(
            "POST", "/api/predict", post_predict, Answers,
            f"Classify up to {limits.files} images, {limits.megabytes} MB in all.",
            "One result an image, in the order sent; what could not be taken comes last. "
            f"{limits.seconds:g} seconds after the request has begun, the rest gets an `error` each.",
            {
                **refusals, 400: "No image, or a form that cannot be read.", 404: "No such run.",
                408: "The request came too slowly.", 413: "Too large, or too many images.", 415: "Not multipart/form-data.",
                500: "The run cannot answer.", 503: "Too much work in flight; `Retry-After` has seconds.",
            },
            _PREDICT_REQUEST,
        ),
        Operation("GET", "/api/runs", get_runs, list[UsableRun], "Runs that can answer, newest first.", refusals=refusals),
        Operation("GET", "/api/health", get_health, Health, "Health check.", refusals=foreign),
    ]  # fmt: skip

    description = JSONResponse(describe(operations, token=bool(token)))
    routes = [
        *(Route(operation.path, operation.handler, methods=[operation.method]) for operation in operations),
        Route("/api/openapi.json", description, methods=["GET"]),
    ]
    application = Starlette(
        routes=routes,
        middleware=[
            Middleware(RequestLog, paths={route.path for route in routes}),
            Middleware(BrowserSecurity, hosts=allowed_hosts(), policy=ENDPOINT_POLICY),
        ],
        exception_handlers={_RefusedRequest: _refusal, CxrError: _refusal, HTTPException: _no_such_path},
    )
    application.state.is_closing = False
    return application


def check_token(token: str) -> None:
    """Raise BadInput for a token that is guessed too easily, or cannot be sent in a header."""
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise BadInput(
            f"CXR_API_TOKEN is a secret of at least {MIN_TOKEN} letters, digits and signs without spaces. Received: {len(token)} "
            "characters. To make one: python -c 'import secrets; print(secrets.token_urlsafe())'"
        )


async def _no_such_path(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    known = {404: "There is nothing at this path. ", 405: "This path does not take this method. "}
    sentence = f"{known.get(error.status_code, '')}The interface is described at /api/openapi.json."
    return JSONResponse({"error": sentence}, status_code=error.status_code, headers=error.headers)


async def _while_client_waits(request: Request, left: threading.Event, work: Callable[[], T]) -> T:
    """Do `work` in a thread, of which those that others need have their own number; sets `left` when the client has gone."""

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left.set()

    watching = asyncio.create_task(watch())
    try:
        return await to_thread.run_sync(work, limiter=CapacityLimiter(1))
    finally:
        watching.cancel()


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
    """Runs that can answer here without being exported first, which takes TensorFlow."""
    return [run for run in runs.list_runs() if run.has_predictions and predict.is_exported(run)]


def _answer_files(run_id: str, files: list[tuple[str, bytes]], limits: RequestLimits, patience: Patience) -> Answers:
    items, problems = uploads.input_files(files)
    if len(items) > limits.files:
        raise _RefusedRequest(
            413, f"A request may have {limits.files} images, those in archives included. Received: {len(items):,}."
        )
    return answer(run_id, items, problems, patience)


def answer(run_id: str, items: list[InputFile], problems: list[tuple[str, str]], patience: Patience) -> Answers:
    """The JSON document for some files, by a run or by the newest that can answer.

    Args:
        problems: names and sentences of what could not be taken.
        patience: at whose end the files that are left get its sentence.

    Raises:
        UnknownName, BadInput, WorkFailed: there is no such run, or it cannot answer.
    """
    if not run_id:
        usable = _usable_runs()
        if not usable:
            raise BadInput(
                "No run can answer yet. Train one first, or export one of those that ship: python -m cxr_core export RUN"
            )
        run_id = usable[0].id
    model = predict.load(run_id, export=False)
    with closing(predict.stream(model, items, patience=patience)) as stream:
        results: list[ImageResult] = [image_result(result) for result in stream]
    results += [{"file": name, "error": sentence} for name, sentence in problems]
    refused, unread = (sum(bool(result.get(key)) for result in results) for key in ("refused", "error"))
    _log.info("Run %s: %d results, %d refused, %d with an error.", run_id, len(results), refused, unread)
    return {"run": run_id, "results": results, **model_notes(model)}


async def _read_files(
    request: Request, limits: RequestLimits, in_flight: RequestInFlight, deadline: float
) -> list[tuple[str, bytes]]:
    """Names and contents of the fields called file; raises _RefusedRequest and Full."""
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise _RefusedRequest(415, "Send multipart/form-data with the images in fields called 'file'.")
    capped = _capped(request, limits.megabytes, in_flight)
    try:
        async with (
            asyncio.timeout(max(0.0, deadline - time.monotonic())),
            capped.form(max_files=limits.files, max_fields=8) as form,
        ):
            fields = [field for field in form.getlist("file") if not isinstance(field, str)]
            files = [((field.filename or "image")[:200], await field.read()) for field in fields]
    except TimeoutError as error:
        sentence = f"The request did not come whole within {limits.seconds:g} seconds."
        raise _RefusedRequest(408, sentence, {"Connection": "close"}) from error
    except (HTTPException, MultiPartException, ClientDisconnect) as error:
        detail = getattr(error, "detail", "it is cut short")
        sentence = f"The form could not be read ({detail})."
        raise _RefusedRequest(400, sentence, reason="The form could not be read.") from error
    if not files:
        raise _RefusedRequest(400, "There was no image. Send one or more files in fields called 'file'.")
    return files


def _capped(request: Request, megabytes: int, in_flight: RequestInFlight) -> Request:
    """The request with a body that ends in a refusal when it grows too large, whatever its header says."""
    received, receive = 0, request.receive

    async def receive_counted() -> Any:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > megabytes * 2**20:
            raise _RefusedRequest(413, f"A request may have {megabytes} MB.")
        in_flight.received(len(message.get("body", b"")))
        return message

    return Request(request.scope, receive_counted)
