"""The report: runs as one HTML file that needs nothing else, on a screen without internet or on paper."""

from cxr_core.evaluation.report.document import LIMITS, html

__all__ = ["LIMITS", "html"]
