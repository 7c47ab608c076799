"""The plots, one kind a file: `plots.confusion_matrix(…)`, `plots.roc(…)`; all take `dark`, the page's background."""

from cxr_core.evaluation.plots.bars import class_counts, class_probabilities, pixel_histogram
from cxr_core.evaluation.plots.calibration import reliability, score_distributions
from cxr_core.evaluation.plots.confusion import confusion_matrix
from cxr_core.evaluation.plots.curves import class_curves, precision_recall, roc
from cxr_core.evaluation.plots.forest import forest
from cxr_core.evaluation.plots.learning import learning_curves
from cxr_core.evaluation.plots.style import BACKGROUND, CLASS_COLOURS, CONFIG, class_colour, config

__all__ = [
    "BACKGROUND",
    "CLASS_COLOURS",
    "CONFIG",
    "class_colour",
    "class_counts",
    "class_curves",
    "class_probabilities",
    "config",
    "confusion_matrix",
    "forest",
    "learning_curves",
    "pixel_histogram",
    "precision_recall",
    "reliability",
    "roc",
    "score_distributions",
]
