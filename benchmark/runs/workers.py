"""Slots: long-lived worker processes that take one run after the other, so that imports are paid for once.

A worker gets one job at a time through its pipe and answers it. One that dies costs the run it was at, and is replaced.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from benchmark.errors import Held, Interrupted, UserError
from benchmark.runs.request import Request

Answer = tuple[str, str]  # status (a record's, or `held`, `crashed`, `refused`, `interrupted`) and a line for the user


@dataclass(frozen=True)
class Job:
    """A run to do; `again`: its old record is set aside, and it starts anew."""

    request: Request
    again: bool = False


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
    job: Job | None = None

    def give(self, job: Job, orders: Orders) -> None:
        """Hand over a job; a worker is started where there is none, or the last one has gone."""
        if self.process is not None and not self.process.is_alive():
            self.end()
        if self.process is None:
            self._start(orders)
        self.job = job
        with contextlib.suppress(ConnectionError):  # one that died just now is found out by its answer
            self.pipe.send(job)

    def answer(self, told_to_stop: bool) -> Answer:
        """What came of the job, once the pipe is ready."""
        self.job = None
        try:
            found: Answer = self.pipe.recv()
        except (EOFError, ConnectionError):
            code = self.end()
            cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            found = ("crashed", f"its process ended with {cause}; the same command continues it")
            if told_to_stop:
                found = ("interrupted", "stopped; the same command continues it")
        return found

    def end(self) -> int:
        """Close the pipe, which ends the worker, and wait for it; its exit code."""
        if self.process is None:
            return 0
        self.pipe.close()
        self.process.join()
        code, self.process, self.pipe = self.process.exitcode, None, None
        return int(code)

    def kill(self) -> None:
        """End the worker at once; its run goes on from its last checkpoint another time."""
        if self.process is not None:
            self.process.kill()
            self.end()

    def _start(self, orders: Orders) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, orders), daemon=True)
        before = {name: os.environ.get(name) for name in self.environment}
        os.environ.update(self.environment)
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's to answer
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, handler)
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
        theirs.close()
        self.process, self.pipe = process, ours


def run_all(
    jobs: Sequence[Job], slots: Sequence[Slot], orders: Orders, tell: Callable[[Job, Answer], None],
    asked_to_stop: Callable[[], bool],
) -> None:
    """Do all jobs; `tell` hears of each as it ends. Asked to stop, every worker saves its run and ends.

    Whatever is raised here, a second Ctrl-C for one, leaves no worker behind.
    """
    queue, told_to_stop = deque(jobs), False
    try:
        while True:
            if asked_to_stop():
                queue.clear()
            for slot in slots:
                if slot.job is None and queue:
                    slot.give(queue.popleft(), orders)
            busy = {slot.pipe: slot for slot in slots if slot.job}
            if not busy:
                break
            if asked_to_stop() and not told_to_stop:
                told_to_stop = True
                for slot in busy.values():
                    slot.process.terminate()
            for pipe in wait(list(busy), timeout=0.5):
                job = busy[pipe].job
                assert job is not None
                tell(job, busy[pipe].answer(told_to_stop))
    except BaseException:
        for slot in slots:
            slot.kill()
        raise
    for slot in slots:
        slot.end()


def work(pipe: Connection, orders: Orders) -> None:
    """A worker's life: job by job, until the pipe is closed or it is asked to stop."""
    stop = []
    for name in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(name, lambda number, frame: stop.append(number))
    from benchmark.runs.execute import execute

    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed its end, or is gone
        while not stop:
            if not pipe.poll(0.2):
                continue
            job = pipe.recv()
            try:
                record, _ = execute(
                    job.request, results=orders.results, raw=orders.raw, device_name=orders.device, keep=orders.keep,
                    again=job.again, asked_to_stop=lambda: bool(stop),
                )
                answer = (record["status"], record.get("reason") or "")
            except Interrupted as reason:
                answer = ("interrupted", str(reason))
            except Held as error:
                answer = ("held", str(error))
            except UserError as error:
                answer = ("refused", str(error))
            pipe.send(answer)
