"""Runs on a Ray cluster: handed over, taken back, revived. With Ray installed, also on two real nodes on loopback."""

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from cxr_core import process, workspace
from cxr_core.errors import BadInput, WorkFailed
from cxr_core.jobs import cluster, queue
from cxr_core.runs import config as settings
from cxr_core.runs import run_store as runs
from cxr_core.runs import status as states
from cxr_core.runs.config import RunConfig


class Jobs:
    """A cluster without room: what is submitted waits. `before` is called first with the name of what is asked."""

    def __init__(self) -> None:
        self.submitted: list[dict[str, Any]] = []
        self.stopped: list[str] = []
        self.failed: set[str] = set()
        self.before: Callable[[str], None] = lambda name: None

    def submit_job(self, **job: Any) -> str:
        self.before("submit")
        self.submitted.append(job)
        return str(job["submission_id"])

    def get_job_status(self, job: str) -> str:
        self.before("status")
        return "FAILED" if job in self.failed else "PENDING"

    def stop_job(self, job: str) -> None:
        self.before("stop")
        self.stopped.append(job)

    @property
    def names(self) -> list[str]:
        return [job["submission_id"] for job in self.submitted]


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> Jobs:
    found = Jobs()
    monkeypatch.setenv("CXR_EXECUTOR", "ray")
    monkeypatch.setattr(cluster, "_client", lambda where: found)
    monkeypatch.setattr(cluster, "_has_gpus", lambda where: True)
    monkeypatch.setattr(cluster, "_silent", {})
    monkeypatch.setattr(process, "kill", lambda who: None)
    return found


def config(data: str) -> RunConfig:
    return settings.make(model="custom_cnn", recipe="paper", data=data, manifest="0" * 12, classes=("a", "b"))


def test_every_queued_run_is_handed_over_once_with_a_card(jobs: Jobs):
    ids = [queue.submit(config(name)) for name in "abc"]
    queue.dispatch()
    assert len(jobs.submitted) == 3
    for run_id, job in zip(ids, jobs.submitted, strict=True):
        assert f"work {run_id} >>" in job["entrypoint"]
        assert (job["entrypoint_num_cpus"], job["entrypoint_num_gpus"]) == (1, 1)
        assert job["runtime_env"]["env_vars"]["CXR_HOME"] == str(workspace.home())
        assert (
            job["runtime_env"]["env_vars"].items() >= process.speed_variables().items()
        )  # trains as fast as on one machine
        assert runs.get(run_id).status.stage == "waiting for the cluster"


def test_a_run_that_waits_is_taken_back(jobs: Jobs):
    run_id = queue.submit(config("a"))
    queue.stop(run_id)
    assert jobs.stopped == jobs.names
    assert runs.get(run_id).status.state == "stopped"


@pytest.mark.parametrize("how", ["never began", "died"])
def test_a_run_whose_machine_is_lost_goes_on_elsewhere_but_not_for_ever(jobs: Jobs, how: str):
    run_id = queue.submit(config("a"))
    for number in range(1, cluster.REVIVALS + 3):
        job = runs.get(run_id).status.job
        if how == "died":
            place, dead = workspace.run(run_id), {**process.process_id(), "born": 1.0, "started": ""}
            states.write(place, replace(states.read_as_written(place), state="running", owner=dead))
        jobs.failed.add(job)
        queue.dispatch()
        assert runs.get(run_id).status.revived == min(number, cluster.REVIVALS)
    assert len(jobs.submitted) == 1 + cluster.REVIVALS


def test_an_executor_that_is_not_known_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXR_EXECUTOR", "slurm")
    with pytest.raises(BadInput, match="local or ray"):
        cluster.address()


def unreachable(name: str) -> None:
    raise ConnectionError("Failed to connect to Ray")


def test_a_cluster_that_is_down_is_told_with_what_waits_and_stops_nobody_from_looking(jobs: Jobs):
    jobs.before = unreachable
    run_id = queue.submit(config("a"))
    other = queue.submit(config("b"))
    assert {run.id for run in queue.dispatch()} == {run_id, other}
    status = queue.waiting_runs(runs.list_runs())[0].status
    assert status.waits_for.startswith("The Ray cluster at http://127.0.0.1:8265 cannot be reached")
    assert "ray start --head" in status.waits_for
    assert (status.state, status.job) == ("queued", "")
    jobs.before = lambda name: None
    queue.dispatch()
    assert len(jobs.submitted) == 2
    assert {run.status.waits_for for run in runs.list_runs()} == {""}


@pytest.fixture
def silent(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """A cluster that takes every question and never answers; the value has the questions."""
    questions: list[str] = []
    release = threading.Event()

    def wait(name: str) -> None:
        questions.append(name)
        release.wait(60)
        raise ConnectionError("the test has ended")

    jobs.before = wait
    monkeypatch.setattr(cluster, "SECONDS", 1.0)
    yield questions
    release.set()


def test_a_cluster_that_does_not_answer_is_given_up_and_left_alone_for_a_while(silent: list[str]):
    begun = time.monotonic()
    run_id = queue.submit(config("a"))
    for _ in range(3):
        queue.dispatch()
    assert time.monotonic() - begun < 10
    assert silent == ["submit"]
    assert "does not answer" in runs.get(run_id).status.waits_for
    assert runs.get(run_id).status.job == ""


def test_while_a_cluster_is_silent_runs_are_stopped_and_pages_drawn(silent: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "SECONDS", 20.0)
    first, second = (runs.create(config(name)) for name in "ab")
    begun = time.monotonic()
    assert {run.id for run in queue.look()} == {first, second}
    while not silent:
        assert time.monotonic() - begun < 10
        time.sleep(0.01)
    queue.look()
    queue.move(second, "last")
    queue.stop(second)
    assert time.monotonic() - begun < 10
    assert runs.get(second).status.state == "stopped"
    assert silent == ["submit"]  # by one thread, however many look


def test_a_run_is_stopped_though_the_cluster_cannot_be_told(jobs: Jobs):
    run_id = queue.submit(config("a"))
    jobs.before = unreachable
    queue.stop(run_id)
    assert runs.get(run_id).status.state == "stopped"
    with pytest.raises(BadInput, match="is stopped; only one that waits is trained"):
        queue.claim(run_id)  # as its process will, when the cluster starts it


def test_a_run_that_begins_before_the_cluster_has_answered_keeps_the_name_of_its_job(jobs: Jobs):
    jobs.before = lambda name: queue.claim(runs.list_runs()[0].id) and None
    run_id = queue.submit(config("a"))
    status = runs.get(run_id).status
    assert (status.state, status.job) == ("running", jobs.names[0])


@pytest.mark.parametrize(("answer", "lost"), [("404: No such job", True), ("500: broken", False), ("401: who?", False)])
def test_only_a_job_that_the_cluster_does_not_know_is_lost(jobs: Jobs, answer: str, lost: bool):
    run_id = queue.submit(config("a"))

    def refuse(name: str) -> None:
        if name == "status":
            raise RuntimeError(f"Request failed with status code {answer}.")

    jobs.before = refuse
    queue.dispatch()
    assert runs.get(run_id).status.revived == int(lost)
    assert len(jobs.submitted) == 1 + int(lost)


def test_the_command_of_a_job_is_right_for_any_path(jobs: Jobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """It goes through a shell: spaces, quotes and dollars are part of names there."""
    odd = tmp_path / """it's "my" $HOME; touch harm"""
    odd.mkdir()
    python = odd / "python 3"
    python.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setenv("CXR_HOME", str(odd / "home"))
    run_id = queue.submit(config("a"))
    subprocess.run(["/bin/sh", "-c", jobs.submitted[0]["entrypoint"]], check=True, cwd=tmp_path)
    assert (workspace.run(run_id) / "log.txt").read_text().splitlines() == ["-m", "cxr_core", "work", run_id]
    assert not list(tmp_path.rglob("harm"))


def test_where_the_cluster_does_not_tell_of_its_cards_nothing_is_guessed():
    with pytest.raises(WorkFailed, match=r"does not tell whether it has graphics cards .* Set CXR_RAY_GPUS"):
        cluster._has_gpus(f"http://127.0.0.1:{free_port()}")


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], list[int]]]:
    """Two real nodes on loopback; the value kills the second one and returns which processes died with it."""
    ray = Path(sys.executable).with_name("ray")
    if not ray.is_file():
        pytest.skip("Ray is not installed: pip install -r requirements-ray.txt")
    head, board = free_port(), free_port()
    common = ["--num-cpus", "2", "--disable-usage-stats", "--object-store-memory", "100000000"]
    for own in (
        ["--head", "--port", str(head), "--dashboard-host", "127.0.0.1", "--dashboard-port", str(board)],
        ["--address", f"127.0.0.1:{head}", "--node-ip-address", "127.0.0.2"],
    ):
        address = [] if "--node-ip-address" in own else ["--node-ip-address", "127.0.0.1"]
        subprocess.run([ray, "start", *own, *address, *common], check=True, capture_output=True, timeout=120)
    monkeypatch.setenv("CXR_EXECUTOR", "ray")
    monkeypatch.setenv("RAY_ADDRESS", f"http://127.0.0.1:{board}")
    cluster._client.cache_clear()

    def lose() -> list[int]:
        died = []
        for one in psutil.process_iter(["name", "cmdline"]):
            if one.info["name"] == "raylet" and any("127.0.0.2" in word for word in one.info["cmdline"] or ()):
                for part in [*one.children(recursive=True), one]:
                    died.append(part.pid)
                    with suppress(psutil.NoSuchProcess):  # it has died of its parent's death
                        part.kill()
        return died

    yield lose
    subprocess.run([ray, "stop", "--force"], capture_output=True, timeout=120, check=False)
    cluster._client.cache_clear()


@pytest.mark.skipif("CXR_RAY_TEST" not in os.environ, reason="Takes minutes; asked for with CXR_RAY_TEST=1.")
def test_on_two_real_nodes_four_runs_finish_though_one_node_is_lost(
    trained_home: Path, nodes: Callable[[], list[int]]
) -> None:
    (like,) = runs.list_runs()
    ids = [
        queue.submit(settings.with_settings(like.config, {"epochs": 30, "batch_size": 8, "seed": 1})) for _ in range(4)
    ]

    def waited(ready: Callable[[list[runs.Run]], bool]) -> list[runs.Run]:
        deadline = time.monotonic() + 400
        while not ready(found := [runs.get(one) for one in ids]) and time.monotonic() < deadline:
            queue.dispatch()
            time.sleep(0.5)
        return found

    found = waited(lambda now: all(run.status.epoch for run in now))
    owners = {run.id: run.status.owner["pid"] for run in found if run.status.owner}
    died = nodes()
    lost = {one for one, pid in owners.items() if pid in died}
    assert 0 < len(lost) < 4, "the runs were not spread over both nodes"
    found = waited(lambda now: all(run.status.state == "finished" for run in now))
    assert [run.status.state for run in found] == ["finished"] * 4, [run.status for run in found]
    assert {run.id for run in found if run.status.revived} == lost
    tables = [pd.read_parquet(runs.predictions_path(one, "test")) for one in ids]
    for table in tables[1:]:  # the same seed: also those that were broken off
        pd.testing.assert_frame_equal(table, tables[0], check_exact=True)
    shutil.rmtree(trained_home, ignore_errors=True)
