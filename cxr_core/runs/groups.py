"""Runs that were started as one group: several models, recipes, seeds or folds, shown and stopped together."""

from collections.abc import Sequence
from dataclasses import dataclass

from cxr_core.runs.run_store import Run
from cxr_core.runs.status import ENDED


@dataclass(frozen=True)
class Group:
    """`runs` in the order in which they were started."""

    id: str
    runs: tuple[Run, ...]

    @property
    def title(self) -> str:
        models = len({run.config.model for run in self.runs})
        return f"{len(self.runs)} runs of {models} model{'' if models == 1 else 's'} on {self.runs[0].config.data}"

    @property
    def done(self) -> int:
        """Number of runs that have ended."""
        return sum(run.status.state in ENDED for run in self.runs)


def list_groups(runs: Sequence[Run]) -> list[Group]:
    """The groups among `runs`, those of the latest start first."""
    by_group: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.status.created):
        if run.config.group:
            by_group.setdefault(run.config.group, []).append(run)
    groups = [Group(name, tuple(members)) for name, members in by_group.items()]
    return sorted(groups, key=lambda group: -group.runs[0].status.created)


def members(name: str, runs: Sequence[Run]) -> list[Run]:
    """Those of `runs` in the group called `name`, in the order of their start; empty if there is no such group."""
    return sorted((run for run in runs if run.config.group == name != ""), key=lambda run: run.status.created)


def active(runs: Sequence[Run]) -> list[Run]:
    """Those of `runs` that are queued or running."""
    return [run for run in runs if run.status.state not in ENDED]
