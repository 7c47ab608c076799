"""Measure the cost of ten people who watch one training: `python benchmarks/watching.py [--sockets] [--seconds 120] …`.

A server and a training of `custom_cnn` are started in a workspace of their own. The training is left alone for half of the
seconds, watched on the Train page by ten sessions for all of them, and left alone for another half. `server` is the share of
one core that the server's process takes while they watch, `slower` by how much the median epoch takes longer then.

Sessions are headless Chromiums of this same machine, which draw the page and take processor time of their own (`watchers`, in
cores). With --sockets they are bare connections that ask for what a browser asks for and draw nothing, as if the ten sat
elsewhere. Both tell how often each session was shown something new. Prints JSON.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PROJECT))

import psutil  # noqa: E402

from cxr_core import process  # noqa: E402
from cxr_core.runs import run_store as runs  # noqa: E402
from tests.browser.conftest import CHROMIUM, free_port  # noqa: E402

SHARE_LIMIT, SLOWER_LIMIT = 0.6, 0.1
WARM = 2  # epochs before anything is measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--sockets", action="store_true", help="bare connections instead of browsers")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["CXR_HOME"] = home
        _command("data", "add", "synthetic", "--name", "drawn", "--images", chosen.images)
        with _server() as (server, port):
            run_id = json.loads(
                _command(
                    "train",
                    "--data",
                    "drawn",
                    "--model",
                    "custom_cnn",
                    "--epochs",
                    1000,
                    "--split",
                    "patient",
                    "--json",
                )
            )["run"]
            try:
                print(json.dumps(_measured(chosen, run_id, server, port)))
            finally:
                owner = runs.get(run_id).status.owner
                if owner is not None:
                    process.kill(owner)


def _measured(chosen: argparse.Namespace, run_id: str, server: psutil.Process, port: int) -> dict[str, Any]:
    pace = Pace(run_id)
    pace.until(lambda: len(pace.ends) > WARM)
    before = _window(pace, server, chosen.seconds / 2)
    watchers = (_sockets if chosen.sockets else _browsers)(chosen.sessions, port)
    with watchers as seen:
        seen.clear()
        watched = _window(pace, server, chosen.seconds)
        shown = list(seen.values())
    time.sleep(5)  # the server lets go of them
    after = _window(pace, server, chosen.seconds / 2)
    alone = [*before.epochs, *after.epochs]
    images = runs.get(run_id).status.images
    slower = statistics.median(watched.epochs) / statistics.median(alone) - 1
    return {
        "server": round(watched.server, 3),
        "server_unwatched": round(before.server, 3),
        "watchers": round(watched.others, 2),
        "slower": round(slower, 3),
        "images_s": {
            "unwatched": round(images / statistics.median(alone), 1),
            "before": round(images / statistics.median(before.epochs), 1),
            "watched": round(images / statistics.median(watched.epochs), 1),
            "after": round(images / statistics.median(after.epochs), 1),
        },
        "epochs": {"unwatched": len(alone), "watched": len(watched.epochs)},
        "shown_per_session": [min(shown, default=0), max(shown, default=0)],
        "limits": {"server": SHARE_LIMIT, "slower": SLOWER_LIMIT},
        "within": {"server": watched.server <= SHARE_LIMIT, "slower": slower <= SLOWER_LIMIT},
        "sessions": chosen.sessions,
        "seconds": chosen.seconds,
        "by": "sockets" if chosen.sockets else "browsers",
        "images": chosen.images,
        "cores": process.cpu_count(),
        "load": {"before": before.load, "watched": watched.load, "after": after.load},
    }


def _command(*arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "cxr_core", *map(str, arguments)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return done.stdout


@contextmanager
def _server() -> Iterator[tuple[psutil.Process, int]]:
    port = free_port()
    arguments = ["run", "streamlit_app.py", "--server.headless", "true", "--server.port", str(port)]
    server = subprocess.Popen(
        [sys.executable, "-m", "streamlit", *arguments, "--server.fileWatcherType", "none"],
        cwd=PROJECT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2):
                break
            time.sleep(0.2)
        yield psutil.Process(server.pid), port
    finally:
        server.terminate()
        server.wait(30)


class Pace:
    """Times at which the epochs of a run ended, by the monotonic clock, polled while it trains."""

    def __init__(self, run_id: str) -> None:
        self._run, self.ends = run_id, [time.monotonic()]
        self._epoch = 0

    def until(self, done: Callable[[], bool], seconds: float = 900.0) -> None:
        deadline = time.monotonic() + seconds
        while not done() and time.monotonic() < deadline:
            status = runs.get(self._run).status
            if status.state not in ("queued", "running"):
                raise SystemExit(f"The training ended: {status.state}. {status.reason}")
            if status.epoch > self._epoch:
                self._epoch = status.epoch
                self.ends.append(time.monotonic())
            time.sleep(0.05)


@dataclass
class Window:
    """Usage over some seconds: shares of one core, and seconds of the epochs that lie within."""

    server: float = 0.0
    others: float = 0.0
    epochs: list[float] = field(default_factory=list)
    load: float = 0.0


def _window(pace: Pace, server: psutil.Process, seconds: float) -> Window:
    start, own, others = time.monotonic(), _cpu([server]), _cpu(_others(server))
    pace.until(lambda: time.monotonic() - start >= seconds)
    spent = time.monotonic() - start
    inside = [one for one in pace.ends if one >= start]
    return Window(
        (_cpu([server]) - own) / spent,
        (_cpu(_others(server)) - others) / spent,
        [end - begin for begin, end in itertools.pairwise(inside)],
        round(os.getloadavg()[0], 2),
    )


def _others(server: psutil.Process) -> list[psutil.Process]:
    """This process and what it has started, the browsers, but for the server."""
    me = psutil.Process()
    return [me, *(one for one in me.children(recursive=True) if one.pid != server.pid)]


def _cpu(processes: list[psutil.Process]) -> float:
    """Seconds of processor time that they have used so far."""
    total = 0.0
    for one in processes:
        with suppress(psutil.Error):
            times = one.cpu_times()
            total += times.user + times.system
    return total


@contextmanager
def _browsers(count: int, port: int) -> Iterator[dict[int, int]]:
    """Chromiums on the Train page in a thread; counts, for each, how often its progress was another one."""
    seen: dict[int, int] = {}
    ready, done, failed = threading.Event(), threading.Event(), []

    def browse() -> None:
        from playwright.sync_api import Error, sync_playwright

        try:
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
                pages = [browser.new_context(viewport={"width": 1440, "height": 1400}).new_page() for _ in range(count)]
                for page in pages:
                    page.goto(f"http://127.0.0.1:{port}/train")
                for page in pages:
                    page.get_by_test_id("stProgress").filter(has_text="images/s").first.wait_for(timeout=180_000)
                ready.set()
                before: dict[int, str] = {}
                while not done.wait(2.0):
                    for number, page in enumerate(pages):
                        with suppress(Error):  # while it is drawn anew there may be none
                            now = page.get_by_test_id("stProgress").first.inner_text(timeout=2000)
                            seen[number] = seen.get(number, 0) + (now != before.get(number, now))
                            before[number] = now
                browser.close()
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)
            ready.set()

    yield from _threaded(browse, ready, done, failed, seen)


@contextmanager
def _sockets(count: int, port: int) -> Iterator[dict[int, int]]:
    """Bare connections in a thread; counts, for each, how many drawings began."""
    seen: dict[int, int] = {}
    ready, done, failed = threading.Event(), threading.Event(), []

    async def all_of_them() -> None:
        await _session(0, port, {}, page="")  # a fresh server knows its pages only after the first visit of Home
        one_each = [asyncio.create_task(_session(number, port, seen)) for number in range(count)]
        while not done.is_set():
            await asyncio.sleep(0.1)
            if len(seen) == count and min(seen.values()) > 2:
                ready.set()
            for task in one_each:
                if task.done():
                    task.result()
        for task in one_each:
            task.cancel()

    def connect() -> None:
        try:
            asyncio.run(all_of_them())
        except Exception as error:  # noqa: BLE001 - told by the main thread
            failed.append(error)
            ready.set()

    yield from _threaded(connect, ready, done, failed, seen)


def _threaded(
    work: Callable[[], None],
    ready: threading.Event,
    done: threading.Event,
    failed: list[Exception],
    seen: dict[int, int],
) -> Iterator[dict[int, int]]:
    thread = threading.Thread(target=work)
    thread.start()
    try:
        if not ready.wait(300):
            raise SystemExit("The watchers did not get to see the training within five minutes.")
        if failed:
            raise failed[0]
        yield seen
        if failed:
            raise failed[0]
    finally:
        done.set()
        thread.join(60)


async def _session(number: int, port: int, seen: dict[int, int], *, page: str = "train") -> None:
    """One connection: asks for the page, then for the part that redraws itself, as often as it is told to."""
    from streamlit.proto.BackMsg_pb2 import BackMsg
    from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
    from websockets.asyncio.client import connect

    timers: dict[str, asyncio.Task[None]] = {}
    where = {"page": ""}

    async def ask(fragment: str = "", every: float = 0.0) -> None:
        while True:
            if every:
                await asyncio.sleep(every)
            message = BackMsg()
            state = message.rerun_script
            state.page_name, state.page_script_hash = ("", where["page"]) if where["page"] else (page, "")
            state.fragment_id, state.is_auto_rerun = fragment, bool(fragment)
            state.context_info.url = f"http://127.0.0.1:{port}/{page}"
            await socket.send(message.SerializeToString())
            if not every:
                return

    async with connect(f"ws://127.0.0.1:{port}/_stcore/stream", subprotocols=["streamlit"], max_size=None) as socket:  # type: ignore[list-item]
        await asyncio.sleep(0.3 * number)  # not all of them at once, as people do not
        await ask()
        try:
            async for content in socket:
                message = ForwardMsg()
                message.ParseFromString(content)
                kind = message.WhichOneof("type")
                if kind == "new_session":
                    where["page"] = message.new_session.page_script_hash
                    seen[number] = seen.get(number, 0) + 1
                elif kind == "auto_rerun" and message.auto_rerun.fragment_id not in timers:
                    while timers:  # a page that was drawn as a whole has told its parts anew
                        timers.popitem()[1].cancel()
                    name = message.auto_rerun.fragment_id
                    timers[name] = asyncio.create_task(ask(name, message.auto_rerun.interval))
                elif kind == "script_finished" and not page:
                    return
        finally:
            for timer in timers.values():
                timer.cancel()


if __name__ == "__main__":
    main()
