"""`predict`, `export`, `serve`: classify images by runs, in a terminal or over HTTP."""

import argparse
import json
import os
import socket
from dataclasses import replace
from glob import glob
from ipaddress import ip_network
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from cxr_core import dicom, images, logs, machine, workspace
from cxr_core.cli.terminal import command, json_flag, path, print_note, print_result, whole
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.formatting import DISCLAIMER, printable
from cxr_core.runs import run_store as runs

_ANSWER_SECONDS = 30  # for what comes after the time of a request: classifying what is decoded, and sending the answer


def add_commands(commands: Any) -> None:
    predict = command(commands, "predict", f"classify image files. {DISCLAIMER}", _predict)
    predict.add_argument("run", metavar="RUN")
    predict.add_argument(
        "files", nargs="+", metavar="FILE", help="image, folder, .zip, or a pattern such as 'new/*.png'"
    )
    predict.add_argument(
        "--heatmaps",
        type=path,
        metavar="DIR",
        help="write each image with its heatmap, the attribution map of its class",
    )
    predict.add_argument(
        "--frame", type=whole(0), help="which image of a DICOM file with several, from 0; by default the first"
    )
    predict.add_argument(
        "--jsonl", action="store_true", help="one line of JSON per image, printed as soon as it is classified"
    )
    json_flag(predict)
    export = command(
        commands,
        "export",
        "export a run to LiteRT, so that it predicts without Keras; a training does this at its end",
        _export,
    )
    export.add_argument("run", metavar="RUN")
    json_flag(export)
    serve = command(commands, "serve", f"answer over HTTP: POST /api/predict, /api/openapi.json. {DISCLAIMER}", _serve)
    serve.add_argument(
        "--run", default="", metavar="RUN", help="run to use where a request names none; by default the newest"
    )
    serve.add_argument("--host", default="127.0.0.1", help="address to listen on; by default this machine only")
    serve.add_argument("--port", type=whole(0, 65535), default=8600)
    serve.add_argument("--most-mb", type=whole(1), default=50, help="maximum size of a request in MB")
    serve.add_argument("--most-files", type=whole(1), default=64, help="maximum number of images in a request")
    serve.add_argument(
        "--per-minute", type=whole(1), default=120, help="maximum number of requests of one client per minute"
    )
    serve.add_argument(
        "--trusted-proxy",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="address or network of a proxy whose X-Forwarded-For tells who the client is; may be given several times",
    )
    serve.add_argument(
        "--most-seconds",
        type=float,
        default=60,
        help="maximum time of a request in seconds; images left then get an error",
    )


def _predict(chosen: argparse.Namespace) -> None:
    if chosen.json and chosen.jsonl:
        raise BadInput("--json is one document and --jsonl one a line. Choose one of them.")
    run = runs.get(chosen.run)  # a wrong name is reported before the network is loaded
    from cxr_core.inference import predict, uploads
    from cxr_core.server import documents

    paths, problems = _paths(chosen.files)
    items, others = uploads.input_files([(str(path), path) for path in paths])
    problems += others
    results: list[dict[str, Any]] = []
    done, failed = 0, 0
    model = predict.load(chosen.run) if items else None
    if model and model.notice:
        print_note(model.notice)
    if chosen.frame is not None:
        items = [replace(item, frame=chosen.frame) for item in items]
    answers = zip(predict.stream(model, items), items, strict=True) if model else iter(())
    for result, item in chain(answers, ((predict.Result(name, problem=sentence), None) for name, sentence in problems)):
        document: dict[str, Any] = {**documents.image_result(result)}
        done, failed = done + 1, failed + (result.prediction is None)
        if model and item and result.prediction and not result.prediction.refused and chosen.heatmaps:
            document["heatmap"] = _heatmap(model, item, result.prediction.label, chosen.heatmaps, done)
        if chosen.jsonl:
            print(json.dumps(document, allow_nan=False), flush=True)
        elif chosen.json:
            results.append(document)
        else:
            print(_line(document), flush=True)
    if chosen.json:
        notes = documents.model_notes(model) if model else {"notice": "", "disclaimer": DISCLAIMER}
        print_result(chosen, {"results": results, "run": run.id, **notes}, "")
    else:
        (print_note if chosen.jsonl else print)(DISCLAIMER)
    if failed == done:
        raise BadInput("None of the files could be read.")


def _paths(arguments: list[str]) -> tuple[list[Path], list[tuple[str, str]]]:
    """Files as they are, folders as the images in them, patterns as the files that they match.

    Returns:
        The paths, and (argument, sentence) of each argument that stands for no file; a name that is not there stays a path,
        of which the decoder tells.
    """
    paths: list[Path] = []
    problems: list[tuple[str, str]] = []
    for argument in arguments:
        try:
            paths += _expand(argument)
        except BadInput as error:
            problems.append((argument, str(error)))
        except (OSError, RuntimeError) as error:  # too long for a name, a folder that may not be read, no such user
            problems.append((argument, f"This name cannot be looked up ({getattr(error, 'strerror', None) or error})."))
    return paths, problems


def _expand(argument: str) -> list[Path]:
    if not argument.strip():
        raise BadInput("The name of this file is empty. Expected: an image, a folder, a .zip or a pattern.")
    path = Path(argument).expanduser()
    if path.is_dir():
        inside = sorted(file for file in path.rglob("*") if _is_image(file))
        if not inside:
            raise BadInput(
                f"The folder {argument} holds no images. Expected: files ending in {', '.join(images.SUFFIXES)}."
            )
        return inside
    if path.exists() or not (matches := sorted(glob(argument, recursive=True))):  # noqa: PTH207 - Path.glob takes no absolute pattern
        return [path]
    files = [Path(match) for match in matches if Path(match).is_file()]
    if not files:
        raise BadInput(
            f"The pattern {argument} matches folders only. Expected: one that matches files, as {argument}/*."
        )
    return files


def _is_image(file: Path) -> bool:
    named = file.suffix.lower() in images.SUFFIXES
    return file.is_file() and (named or (dicom.is_nameless(file.name) and dicom.is_dicom(file)))


def _line(document: dict[str, Any]) -> str:
    if "error" in document:
        return printable(f"{document['file']}: {document['error']}")
    if document["refused"]:
        return "\n  ".join([f"{document['file']}: no answer", *document["warnings"]])
    shares = ", ".join(f"{name} {share:.3f}" for name, share in document["calibrated"].items())
    doubt = "" if document["confident"] else ", not confident"
    tuned = "" if document["label"] == document["most_probable"] else ", by the tuned threshold"
    return "\n  ".join([f"{document['file']}: {document['label']}{tuned}{doubt} ({shares})", *document["warnings"]])


def _heatmap(model: Any, item: Any, label: str, folder: str, number: int) -> str:
    from cxr_core.inference import heatmap, predict

    image = predict.decode(item, [model], longest=None)
    target = workspace.ensure_dir(Path(folder).expanduser()) / f"{number:04d}-{Path(item.name).stem[:80]}-{label}.png"
    Image.fromarray(heatmap.overlay(image.grey, model.attribution(image, label))).save(target)
    return str(target)


def _export(chosen: argparse.Namespace) -> None:
    runs.get(chosen.run)
    machine.check_backend()
    from cxr_core.inference import predict
    from cxr_core.training import run_training

    difference = run_training.prepare_for_prediction(chosen.run)
    notice = predict.load(chosen.run).notice
    document = {"run": chosen.run, "difference": difference, "notice": notice}
    print_result(chosen, document, f"{chosen.run}: answers differ by at most {difference:.1e}")
    if notice:
        print_note(notice)


def _check_port(host: str, port: int) -> None:
    """Raise WorkFailed for an address that cannot be listened on."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        raise WorkFailed(
            f"Could not listen on {host}, port {port}: {error.strerror}. Choose another --port."
        ) from error


def _serve(chosen: argparse.Namespace) -> None:
    from cxr_core import decoding
    from cxr_core.inference import predict
    from cxr_core.server import connections, endpoint

    if chosen.run:
        predict.load(chosen.run)  # a wrong name is refused now, and the first request need not wait
    if not 0 < chosen.most_seconds < float("inf"):
        raise BadInput(f"--most-seconds is a number of seconds above 0. Received: {chosen.most_seconds}.")
    for address in chosen.trusted_proxy:
        _check_address(address)
    limits = endpoint.RequestLimits(chosen.most_mb, chosen.most_files, chosen.per_minute, chosen.most_seconds)
    token = os.environ.get("CXR_API_TOKEN")
    if token is not None:
        endpoint.check_token(token)
    elif chosen.host not in ("127.0.0.1", "localhost", "::1"):
        raise BadInput("To listen beyond this machine, set CXR_API_TOKEN to a secret that requests have to carry.")
    _check_port(chosen.host, chosen.port)
    logs.configure()
    decoding.warm()
    print_note(f"http://{chosen.host}:{chosen.port}/api/predict, described at /api/openapi.json. {DISCLAIMER}")
    connections.server(
        endpoint.app(chosen.run, token=token or "", limits=limits),
        chosen.host,
        chosen.port,
        request_seconds=chosen.most_seconds + _ANSWER_SECONDS,
        trusted_proxies=chosen.trusted_proxy,
    ).run()


def _check_address(address: str) -> None:
    try:
        ip_network(address)
    except ValueError as error:
        raise BadInput(
            f"--trusted-proxy is an IP address, or a network as 10.0.0.0/8. Received: '{address}'."
        ) from error
