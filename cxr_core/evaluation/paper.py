"""What the paper printed: "Deep learning for chest-X-ray analysis: an implementation paper", as shared/PAPER.md reads it.

Models are keyed as in the catalogue, classes in the order normal, viral, bacterial. Shares are in [0, 1], rounded as printed.
"""

import pandas as pd

from cxr_core.errors import UnknownName
from cxr_core.evaluation import intervals

CLASSES = ("normal", "viral", "bacterial")

# PAPER.md, "Data": the supports of the paper's reports.
SUPPORTS: dict[str, dict[str, int]] = {
    "train": {"normal": 1341, "viral": 1345, "bacterial": 2530},
    "test": {"normal": 234, "viral": 148, "bacterial": 242},
    "val": {"normal": 8, "viral": 0, "bacterial": 8},
}

# PAPER.md, "Results it prints": Table 4.1.
ACCURACY: dict[str, dict[str, float]] = {
    "custom_cnn": {"train": 0.7602, "test": 0.5817, "val": 0.875},
    "vgg16": {"train": 0.8932, "test": 0.6474, "val": 0.875},
    "resnet152": {"train": 0.7876, "test": 0.6763, "val": 0.875},
}

# PAPER.md, "Test reports" and "Train reports": (precision, recall, F1) of normal, viral, bacterial.
REPORTS: dict[str, dict[str, tuple[tuple[float, float, float], ...]]] = {
    "test": {
        "custom_cnn": ((0.99, 0.47, 0.64), (0.80, 0.08, 0.15), (0.48, 1.00, 0.65)),
        "vgg16": ((0.99, 0.38, 0.55), (0.52, 0.51, 0.51), (0.62, 0.99, 0.76)),
        "resnet152": ((0.88, 0.51, 0.64), (0.64, 0.44, 0.52), (0.61, 0.98, 0.76)),
    },
    "train": {
        "custom_cnn": ((0.94, 0.99, 0.97), (0.96, 0.10, 0.18), (0.68, 0.99, 0.81)),
        "vgg16": ((1.00, 1.00, 1.00), (0.97, 0.61, 0.75), (0.83, 0.99, 0.90)),
        "resnet152": ((0.83, 0.99, 0.90), (0.80, 0.36, 0.50), (0.76, 0.91, 0.83)),
    },
}

# PAPER.md, "Test reports", last column: macro F1 on the test split.
MACRO_F1: dict[str, float] = {"custom_cnn": 0.48, "vgg16": 0.61, "resnet152": 0.64}


def table_4_1() -> pd.DataFrame:
    """Table 4.1: accuracies (float64 in [0, 1]); one row per model, columns train, test, val."""
    table = pd.DataFrame.from_dict(ACCURACY, orient="index")
    table.index.name = "model"
    return table


def accuracy_interval(model: str, split: str) -> intervals.Interval:
    """The 95 % Wilson interval that Table 4.1's accuracy has by the number of images in the split; the paper gives none.

    Raises:
        UnknownName: the paper has no such model or split.
    """
    if model not in ACCURACY:
        raise UnknownName("model in the paper", model, ACCURACY)
    if split not in SUPPORTS:
        raise UnknownName("split in the paper", split, SUPPORTS)
    n = sum(SUPPORTS[split].values())
    return intervals.wilson(round(ACCURACY[model][split] * n), n)


def report(model: str, split: str) -> pd.DataFrame:
    """The paper's report of one model, laid out as `metrics.report`: figures as printed, two decimals.

    Rows normal, viral, bacterial and accuracy (Table 4.1, under f1-score); for the test split also macro avg, of which
    PAPER.md keeps the F1 only. Columns precision, recall, f1-score, support; NaN where PAPER.md gives no figure.

    Raises:
        UnknownName: no such model, or no report for this split (val has none).
    """
    if split not in REPORTS:
        raise UnknownName("split with a report of the paper", split, REPORTS)
    if model not in REPORTS[split]:
        raise UnknownName("model in the paper", model, REPORTS[split])
    columns = ["precision", "recall", "f1-score"]
    table = pd.DataFrame(list(REPORTS[split][model]), index=pd.Index(CLASSES, dtype="str"), columns=columns)
    table["support"] = [SUPPORTS[split][name] for name in CLASSES]
    n = sum(SUPPORTS[split].values())
    foot = {"accuracy": ACCURACY[model][split]} | ({"macro avg": MACRO_F1[model]} if split == "test" else {})
    rows = pd.DataFrame(
        [
            {"precision": float("nan"), "recall": float("nan"), "f1-score": value, "support": n}
            for value in foot.values()
        ],
        index=pd.Index(list(foot), dtype="str"),
    )
    return pd.concat([table, rows])
