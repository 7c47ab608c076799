"""`evaluate`, `compare`, `ensemble`, `report`, `doctor`: what runs are worth, and what is here."""

import argparse
import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cxr_core import machine, workspace
from cxr_core.cli.terminal import command, json_flag, print_result
from cxr_core.data import datasets, features
from cxr_core.errors import BadInput
from cxr_core.runs import run_store as runs

if TYPE_CHECKING:
    from cxr_core.evaluation.metrics import Estimate


def add_commands(commands: Any) -> None:
    evaluate = command(commands, "evaluate", "figures of a run on one split", _evaluate)
    evaluate.add_argument("run", metavar="RUN")
    evaluate.add_argument("--split", default="test", help="train, val, shifted or test")
    json_flag(evaluate)
    compare = command(commands, "compare", "two runs on the images that both have answered", _compare)
    compare.add_argument("runs", nargs=2, metavar="RUN")
    compare.add_argument("--split", default="test", help="train, val or test")
    json_flag(compare)
    ensemble = command(commands, "ensemble", "make one run of several", _ensemble)
    ensemble.add_argument("runs", nargs="+", metavar="RUN")
    ensemble.add_argument("--way", default="mean", help="mean, weighted (weights from validation) or vote")
    json_flag(ensemble)
    calibrate = command(commands, "calibrate", "keep a run's temperature and operating point", _calibrate)
    calibrate.add_argument("run", metavar="RUN")
    calibrate.add_argument(
        "--sensitivity",
        type=float,
        default=0.0,
        metavar="S",
        help="share of the positives to find on validation, as 0.95",
    )
    calibrate.add_argument(
        "--positive", nargs="+", default=[], metavar="CLASS", help="by default the classes that are not normal"
    )
    json_flag(calibrate)
    report = command(commands, "report", "one HTML file on a run, or on several compared", _report)
    report.add_argument("runs", nargs="+", metavar="RUN")
    report.add_argument("--out", required=True, metavar="FILE.html")
    report.add_argument("--split", default="test", help="train, val or test")
    json_flag(report)
    json_flag(command(commands, "doctor", "what this machine has: devices, data, versions", _doctor))


def _evaluate(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import confusion, fitted, image_metadata, metrics, prediction_set

    found = prediction_set.read(chosen.run, chosen.split)
    patients = image_metadata.patients(found, runs.get(chosen.run).config.data)
    card = metrics.estimate(found, patients)
    words = [confusion.classification_report(found.classes, found.confusion).to_string(float_format="%.2f", na_rep="")]
    words += [f"\nn = {len(found):,}, with 95 % intervals:", *_lines(card)]
    after = by_point = None
    if heat := fitted.temperature(chosen.run):
        calm = metrics.estimate(fitted.tempered(found, heat.value), patients, parts=("terms",))
        after = {"temperature": heat.value, "figures": metrics.to_dict(calm)}
        words += [f"\nAfter its temperature, {heat.value:.3f}:", *_lines(calm)]
    if point := fitted.point(chosen.run):
        called = fitted.decided(found, point)
        counts = metrics.estimate(called, patients, parts=("counts",))
        terms = metrics.estimate(fitted.tempered(called, point.temperature), patients, parts=("terms",))
        every = counts | {"ece": terms["ece"]}
        by_point = {"point": asdict(point), **metrics.document(called, counts), "figures": metrics.to_dict(every)}
        report = confusion.classification_report(called.classes, called.confusion).to_string(
            float_format="%.2f", na_rep=""
        )
        words += [f"\nAt its operating point, {point.told()}:", report, "", *_lines(every)]
    figures = {
        **metrics.document(found, card),
        "figures": metrics.to_dict(card),
        "after_temperature": after,
        "operating_point": by_point,
    }
    print_result(chosen, figures, "\n".join(words))


def _lines(card: Mapping[str, "Estimate"]) -> list[str]:
    """Figures with their intervals, one a line."""
    return [
        f"{name:<28} {one.value:.4f} ({one.low:.4f} to {one.high:.4f}), {one.method}"
        for name, one in card.items()
        if one.value is not None and one.low is not None and one.high is not None
    ]


def _calibrate(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import fitted

    if not 0 <= chosen.sensitivity <= 1:
        raise BadInput(f"A sensitivity lies between 0 and 1. Received: {chosen.sensitivity}.")
    if chosen.positive and not chosen.sensitivity:
        raise BadInput("--positive needs --sensitivity: the share of these classes that is to be found, as 0.95.")
    point = fitted.keep_calibrated(chosen.run, chosen.sensitivity, positive=chosen.positive)
    if chosen.sensitivity and point is None:
        raise BadInput("No class of this run is called normal. Name the positive ones with --positive.")
    heat = fitted.temperature(chosen.run)
    words = [f"temperature {heat.value:.3f}" if heat else ""]
    point = fitted.point(chosen.run)  # one from before stays in force
    words += [f"operating point: {point.told()}" if point else "no operating point"]
    document = {"temperature": heat and asdict(heat), "operating_point": point and asdict(point)}
    print_result(chosen, document, "\n".join(words))


def _compare(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import comparison, image_metadata, metrics, prediction_set

    shared = prediction_set.shared_images([prediction_set.read(one, chosen.split) for one in chosen.runs])
    first, second = shared.members
    apart = comparison.differences(first, second, image_metadata.patients(first, runs.get(chosen.runs[0]).config.data))
    test, (alike, kappa) = comparison.mcnemar(first, second), comparison.agreement(first, second)
    document = {
        "n": len(shared),
        "second_less_first": metrics.to_dict(apart),
        "mcnemar": asdict(test),
        "agreement": alike,
        "kappa": None if math.isnan(kappa) else kappa,
    }
    lines = [
        f"{name}: {one.value:+.4f} ({one.low:+.4f} to {one.high:+.4f})"
        for name, one in apart.items()
        if one.value is not None and one.low is not None and one.high is not None
    ]
    told = (
        f"on {len(shared):,} images that both have answered; McNemar's exact p = {test.p:.3g}, same answer {alike:.1%}"
    )
    print_result(chosen, document, "\n".join([f"{chosen.runs[1]} less {chosen.runs[0]}, {told}", *lines]))


def _ensemble(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import ensembles

    made = ensembles.create(chosen.runs, chosen.way)
    found = ensembles.of_run(made)
    print_result(chosen, {"run": made, **(asdict(found) if found else {})}, made)


def _report(chosen: argparse.Namespace) -> None:
    from cxr_core.evaluation import report

    content = report.html(chosen.runs, split=chosen.split).encode()
    path = Path(chosen.out).expanduser().resolve()
    workspace.write_bytes(path, content)
    print_result(chosen, {"file": str(path), "bytes": len(content)}, f"{path} ({len(content) / 2**20:.1f} MB)")


def _doctor(chosen: argparse.Namespace) -> None:
    from cxr_core.models import weights
    from cxr_core.training import environment

    document = {
        **environment.describe(),
        "cards": [asdict(one) for one in machine.list_gpus()],
        "weights": weights.available(),
        "features_mb": round(sum(one.bytes for one in features.list_stores()) / 2**20, 1),
        "home": str(workspace.home()),
        "datasets": datasets.list_names(),
        "runs": len(runs.list_ids()),
    }
    print_result(chosen, document, "\n".join(f"{name}: {value}" for name, value in document.items()))
