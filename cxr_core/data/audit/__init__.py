"""Audit of a dataset: what may be wrong with it, and traits that give classes away.

audit.py        runs the audit, keeps it on disk, and answers what of it is undecided
checks.py       the checks: title, severity, meaning, and how each is computed
duplicates.py   groups of equal and of nearly equal images
shortcuts.py    traits of files that tell the classes apart without the lungs
"""

from cxr_core.data.audit.audit import Audit, AuditFinding, Undecided, finding_rows, latest, run, undecided
from cxr_core.data.audit.checks import CHECKS

__all__ = ["CHECKS", "Audit", "AuditFinding", "Undecided", "finding_rows", "latest", "run", "undecided"]
