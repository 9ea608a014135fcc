"""Slots: long-lived worker processes that take one run after the other, so that imports are paid for once.

A worker gets one job at a time through its pipe and answers it. One that dies costs the run it was at, and is replaced.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """A place for a worker: what is in its environment, its process and pipe while it lives, the job that it is at."""

    environment: dict[str, str]
    process: Any = None
    pipe: Any = None
    job: Request | None = None

    def give(self, job: Request, orders: Orders) -> None:
        """Hand over a job; a worker is started where there is none, or the last one has gone."""
        for _ in range(2):
            if self.process is None:
                self._start(orders)
            try:
                self.pipe.send(job)
            except ConnectionError:
                self.end()
            else:
                break
        self.job = job

    def answer(self) -> Answer:
        """What came of the job, once the pipe is ready."""
        self.job = None
        try:
            found: Answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            code = self.end()
            cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            found = ("crashed", f"its process ended with {cause}; the same command continues it")
        return found

    def end(self) -> int:
        """Close the pipe, which ends the worker, and wait for it; its exit code."""
        if self.process is None:
            return 0
        self.pipe.close()
        self.process.join()
        code, self.process, self.pipe = self.process.exitcode, None, None
        return int(code)

    def _start(self, orders: Orders) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        try:
            self.process = context.Process(target=work, args=(theirs, orders))
            self.process.start()
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()


def run_all(
    jobs: Sequence[Request], slots: Sequence[Slot], orders: Orders, tell: Callable[[Request, Answer], None],
    asked_to_stop: Callable[[], bool],
) -> None:
    """Do all jobs; `tell` hears of each as it ends. Asked to stop, every worker saves its run and ends."""
    queue, told_to_stop = deque(jobs), False
    while True:
        if asked_to_stop():
            queue.clear()
        for slot in slots:
            if slot.job is None and queue:
                slot.give(queue.popleft(), orders)
        busy = [slot for slot in slots if slot.job]
        if not busy:
            break
        if asked_to_stop() and not told_to_stop:
            told_to_stop = True
            for slot in busy:
                slot.process.terminate()
        for pipe in wait([slot.pipe for slot in busy], timeout=0.5):
            slot = next(slot for slot in busy if slot.pipe is pipe)
            job = slot.job
            assert job is not None
            tell(job, slot.answer())
    for slot in slots:
        slot.end()


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
