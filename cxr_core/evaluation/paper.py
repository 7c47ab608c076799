"""Results printed in the paper (CITATION): models as in the catalogue, classes as in CLASSES, shares in [0, 1] rounded as there."""

import pandas as pd

from cxr_core.evaluation import intervals

CITATION = (
    "V. Dhanush, A. V. R. Ambati, S. K. Singh, M. Amaan, T. V. Prakash: Deep learning for chest-X-ray analysis: an implementation "
    "paper. Undated, 2022 or later"
)
CLASSES = ("normal", "viral", "bacterial")

# Images per class: the supports of its reports.
SUPPORTS: dict[str, dict[str, int]] = {
    "train": {"normal": 1341, "viral": 1345, "bacterial": 2530},
    "test": {"normal": 234, "viral": 148, "bacterial": 242},
    "val": {"normal": 8, "viral": 0, "bacterial": 8},
}
# Table 4.1.
ACCURACY: dict[str, dict[str, float]] = {
    "custom_cnn": {"train": 0.7602, "test": 0.5817, "val": 0.875},
    "vgg16": {"train": 0.8932, "test": 0.6474, "val": 0.875},
    "resnet152": {"train": 0.7876, "test": 0.6763, "val": 0.875},
}
# Figures 4.1 to 4.17: (precision, recall, F1) of each class.
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
MACRO_F1: dict[str, float] = {"custom_cnn": 0.48, "vgg16": 0.61, "resnet152": 0.64}  # of the test reports


def accuracy_interval(model: str, split: str) -> intervals.Interval:
    """The 95 % Wilson interval of a printed accuracy, by the number of images in the split; the paper gives none."""
    n = sum(SUPPORTS[split].values())
    return intervals.wilson(round(ACCURACY[model][split] * n), n)


def report(model: str, split: str) -> pd.DataFrame:
    """The printed report of one model on "test" or "train", laid out as `confusion.classification_report`.

    Rows normal, viral, bacterial and accuracy (Table 4.1, under f1-score), for "test" also macro avg, of which the F1 alone is
    kept; columns precision, recall, f1-score, support. NaN where there is none.
    """
    columns = ["precision", "recall", "f1-score"]
    table = pd.DataFrame(list(REPORTS[split][model]), index=pd.Index(CLASSES, dtype="str"), columns=columns)
    table.loc["accuracy", "f1-score"] = ACCURACY[model][split]
    if split == "test":
        table.loc["macro avg", "f1-score"] = MACRO_F1[model]
    supports = SUPPORTS[split]
    return table.assign(support=[supports.get(name, sum(supports.values())) for name in table.index])
