"""Slots: long-lived worker processes that take one run after the other, so that imports are paid for once.

A worker gets one job at a time through its pipe and answers it. One that dies costs the run it was at, and is replaced.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmark.errors import Interrupted, UserError
from benchmark.runs.request import Request

Answer = tuple[str, str]  # status (a record's, or `held`, `crashed`, `interrupted`) and a line for the user


@dataclass(frozen=True)
class Orders:
    """What every run of a grid shares."""

    results: Path
    raw: str | None
    device: str
    keep: str


@dataclass
class Slot:
    """A worker process, and the job that it is at."""

    process: Any
    pipe: Connection
    job: Request | None = None


@dataclass
class Pool:
    """`slots` workers over one queue of jobs. `environments` (one a slot, or none) are set before a worker starts."""

    orders: Orders
    slots: int
    environments: Sequence[dict[str, str]] = ()
    running: list[Slot] = field(default_factory=list)

    def run(
        self, jobs: Sequence[Request], tell: Callable[[Request, Answer], None], asked_to_stop: Callable[[], bool]
    ) -> None:
        """Do all jobs; `tell` hears of each as it ends. Asked to stop, every worker saves its run and ends."""
        queue = deque(jobs)
        self.running = [self._start(number) for number in range(min(self.slots, len(queue)))]
        told_to_stop = False
        while any(slot.job for slot in self.running) or (queue and not asked_to_stop()):
            for slot in self.running:
                if slot.job is None and queue and not asked_to_stop():
                    slot.job = queue.popleft()
                    slot.pipe.send(slot.job)
            if asked_to_stop() and not told_to_stop:
                told_to_stop = True
                for slot in self.running:
                    slot.process.terminate()
            busy = [slot for slot in self.running if slot.job]
            for pipe in wait([slot.pipe for slot in busy], timeout=0.5):
                self._hear(next(slot for slot in busy if slot.pipe is pipe), tell)
        for slot in self.running:
            slot.pipe.close()
        for slot in self.running:
            slot.process.join()

    def _hear(self, slot: Slot, tell: Callable[[Request, Answer], None]) -> None:
        job, slot.job = slot.job, None
        assert job is not None
        try:
            answer = slot.pipe.recv()
        except (EOFError, ConnectionError):
            slot.process.join()
            code = slot.process.exitcode
            cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            answer = ("crashed", f"its process ended with {cause}; the same command continues it")
            number = self.running.index(slot)
            self.running[number] = self._start(number)
        tell(job, answer)

    def _start(self, number: int) -> Slot:
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        environment = self.environments[number] if self.environments else {}
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        try:
            process: Any = multiprocessing.get_context("spawn").Process(target=work, args=(theirs, self.orders))
            process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        return Slot(process, ours)


def work(pipe: Connection, orders: Orders) -> None:
    """A worker's life: job by job, until the pipe is closed or it is asked to stop."""
    stop = []
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's Ctrl-C is the parent's to answer
    signal.signal(signal.SIGTERM, lambda number, frame: stop.append(number))
    from benchmark.runs.execute import execute

    while not stop:
        try:
            while not pipe.poll(0.2):
                if stop:
                    return
            job = pipe.recv()
        except (EOFError, ConnectionError):
            return
        try:
            record, _ = execute(
                job, results=orders.results, raw=orders.raw, device_name=orders.device, keep=orders.keep,
                asked_to_stop=lambda: bool(stop),
            )
            answer = (record["status"], record.get("reason") or "")
        except Interrupted as reason:
            answer = ("interrupted", str(reason))
        except UserError as error:
            answer = ("held" if "is being run by" in str(error) else "failed", str(error))
        pipe.send(answer)
