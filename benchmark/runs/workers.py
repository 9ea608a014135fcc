"""Slots: long-lived worker processes that take one run after the other, so that imports are paid for once.

A worker gets one job at a time through its pipe and answers it. One that dies is replaced.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.console import log_to_stderr
from benchmark.errors import DiskFull, Held, Interrupted, UserError
from benchmark.run_lock import Watch
from benchmark.runs.request import Request
from benchmark.runs.signals import StopSignals

Answer = tuple[str, str]  # a record's status where the run is ours, or one of the following, and a line for the user
FAILED, DIVERGED = "failed", "diverged"
HELD, FULL, REFUSED, RAISED, DIED, STOPPED = "held", "disk full", "refused", "crashed", "died", "interrupted"
BY_ANOTHER = "by another grid"
TROUBLE = (FAILED, DIVERGED, FULL, REFUSED, RAISED, DIED)
LAST = (FAILED, RAISED)  # that a worker is trusted with: who knows what is left behind in the device's memory


@dataclass(frozen=True)
class Job:
    """A run to do. `again`: the digest of the record that it replaces, empty where there is none yet."""

    request: Request
    run_id: str
    again: str = ""
    over: str = ""  # the holder of its claim that was found dead
    tries: int = 1


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
            found = (DIED, f"its process ended with {cause}")
            if told_to_stop:
                found = (STOPPED, "stopped; the same command continues it")
        if found[0] in LAST:
            self.end()
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


def work(pipe: Connection, orders: Orders) -> None:
    """A worker's life: job by job, until the pipe is closed, it is asked to stop, or something unforeseen is raised."""
    os.dup2(2, 1)  # standard output is the parent's, for its one answer
    log_to_stderr()
    stop = StopSignals(ctrl_c=False)
    status = ""
    with contextlib.suppress(EOFError, ConnectionError):  # the parent has closed its end, or is gone
        while not stop.asked and status not in LAST:
            if pipe.poll(0.2):
                status, line = perform(pipe.recv(), orders, lambda: stop.asked)
                pipe.send((status, line))


def perform(job: Job, orders: Orders, asked_to_stop: Callable[[], bool]) -> Answer:
    """Do one job, and tell what came of it, whatever it was."""
    from benchmark.runs.execute import execute

    try:
        record, was_there = execute(
            job.request, results=orders.results, raw=orders.raw, device_name=orders.device, keep=orders.keep,
            again=job.again, record_errors=True, watch=Watch({job.over}), asked_to_stop=asked_to_stop,
        )
        told = record["status"], record.get("reason") or ""
        return (BY_ANOTHER, ": ".join(filter(None, told))) if was_there else told
    except Interrupted as reason:
        return STOPPED, str(reason)
    except Held as error:
        return HELD, str(error)
    except DiskFull as error:
        return FULL, str(error)
    except UserError as error:
        return REFUSED, str(error)
    except Exception as error:
        traceback.print_exc()  # not a failed run: it had not begun, or had ended
        return RAISED, " ".join(f"{type(error).__name__}: {error}".split())[:300]
