"""JSON documents of the endpoint and the command line; the schemas of the endpoint are generated from these types."""

from typing import Annotated, Any, TypedDict, cast

from cxr_core.formatting import DISCLAIMER
from cxr_core.inference.predict import LoadedModel, Result

Probability = Annotated[float, {"minimum": 0, "maximum": 1}]


class Problem(TypedDict):
    error: str


class Health(TypedDict):
    status: str
    version: str


class UsableRun(TypedDict):
    id: str
    model: str
    data: str


class _File(TypedDict):
    file: str


class ImageResult(_File, total=False):
    """An answer, or `error`, the sentence that says why there is none."""

    error: str
    label: Annotated[str | None, "By the run's decision rule, given whether it is confident or not; null if refused."]
    most_probable: Annotated[
        str | None, "The most probable single class after the temperature; the decision rule may give another."
    ]
    probabilities: Annotated[dict[str, Probability], "Of the network itself, by class."]
    calibrated: Annotated[dict[str, Probability], "After the temperature of the run's decision rule."]
    confident: Annotated[
        bool, "Whether the calibrated probability of `label` reaches the `reject_threshold` of the decision rule."
    ]
    sure: Annotated[bool, "The same, by its name in version 0.1."]
    refused: Annotated[bool, "True if the image seems to be no frontal chest X-ray."]
    warnings: list[str]


class OperatingPoint(TypedDict):
    """The threshold of the decision rule, as in version 0.1: where the calibrated probabilities of `positive` sum to at least
    `threshold`, the label is one of them; null without a threshold."""

    positive: list[str]
    threshold: Probability
    rule: Annotated[str, "How the threshold was chosen."]


class ModelNotes(TypedDict):
    decision_rule: Annotated[
        dict[str, Any],
        "How the run answers: the probabilities after `temperature`; the most probable of the `positive` classes where their "
        "sum is at or above `threshold`, else of the others (both empty: the most probable class); confident at or above "
        "`reject_threshold`.",
    ]
    operating_point: OperatingPoint | None
    notice: Annotated[
        str, "What holds of all answers, such as that there is no input check, or that the saved decision rule is void."
    ]
    disclaimer: str


class Answers(ModelNotes):
    run: str
    results: list[ImageResult]


def image_result(result: Result) -> ImageResult:
    """A result as the command line and the endpoint write it."""
    prediction = result.prediction
    if prediction is None:
        return {"file": result.name, "error": result.problem}
    confident = prediction.confident and not prediction.refused
    return {
        "file": result.name,
        "label": None if prediction.refused else prediction.label,
        "most_probable": None if prediction.refused else prediction.most_probable,
        "probabilities": prediction.probabilities,
        "calibrated": prediction.calibrated,
        "confident": confident,
        "sure": confident,
        "refused": prediction.refused,
        "warnings": [finding.text for finding in prediction.findings],
    }


def model_notes(model: LoadedModel) -> ModelNotes:
    """The part of a document that holds of all results of a model."""
    return {
        "decision_rule": model.rule.document(),
        "operating_point": cast(OperatingPoint | None, model.rule.operating_point()),
        "notice": model.notice,
        "disclaimer": DISCLAIMER,
    }
