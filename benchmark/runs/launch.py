"""Runs side by side on this machine: one run, one process, forked from a server that has imported torch once.

Several grids may share a results folder: a run that another process has locked is watched until it ends, or its holder
dies.
"""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmark.errors import DiskFull, Interrupted, RunLocked, UserError
from benchmark.runs.folder import lock_of
from benchmark.runs.lock import LockMonitor, read_lock, release_dead
from benchmark.runs.request import Request
from benchmark.runs.run import RunOptions, in_words, run_or_load
from benchmark.runs.signals import StopSignals

logger = logging.getLogger(__name__)

POLL_INTERVAL = 1.0  # seconds between two looks at the runs of others
TRIES = 3  # of a run whose process dies: the next may be luckier
LIBRARIES = ("segmentation_models_pytorch", "timm")  # of networks, imported once where the plan has needed them
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LOCKED, FULL, DIED = "locked", "disk full", "died"
ENDINGS: dict[type[Exception], str] = {
    Interrupted: "interrupted", RunLocked: LOCKED, DiskFull: FULL, UserError: "refused",
}
FAILURES = ("failed", "diverged", FULL, "refused", "crashed", DIED)


@dataclass(frozen=True)
class Job:
    """A run to do. `expected_digest`: see `RunOptions`; `dead_holder`: of its lock, found dead."""

    request: Request
    run_id: str
    expected_digest: str = ""
    dead_holder: str = ""
    tries: int = 1


class Result(NamedTuple):
    """How a job ended: its record's status, or what kept it from having one; and why."""

    status: str
    reason: str = ""


class Queue:
    """Jobs that are still to be given out."""

    def __init__(self, jobs: Sequence[Job], results: Path) -> None:
        self.results = results
        self.waiting = deque(jobs)
        self.locked: list[Job] = []  # by other processes
        self.all_alive = False  # whether all of `locked` have been seen alive
        self.seen = "another process"  # one of those that hold a lock
        self._monitor = LockMonitor()
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.locked)

    def next(self) -> Job | None:
        """A job that nobody has locked, or whose holder is dead; None for now."""
        if time.monotonic() - self._looked > POLL_INTERVAL:
            self._looked, self.all_alive = time.monotonic(), True
            self.waiting.extendleft(reversed(self.locked))
            self.locked = []
        while self.waiting:
            job = self.waiting.popleft()
            if (free := self._if_free(job)) is not None:
                return free
            self.locked.append(job)
        return None

    def _if_free(self, job: Job) -> Job | None:
        lock = lock_of(self.results, job.run_id)
        try:
            status = read_lock(lock)
        except OSError:  # the file server is away: not for now
            self.all_alive = False
            return None
        except UserError:  # the run's process finds the same, and says so
            status = None
        if status is None:
            return replace(job, dead_holder="")
        self.seen = f"{status.holder} works on {job.run_id}"
        state = self._monitor.state(lock, status)
        self.all_alive &= state == "alive"
        return replace(job, dead_holder=status.holder.name) if state == "dead" else None

    def clear(self) -> None:
        """Give out nothing more."""
        self.waiting.clear()
        self.locked.clear()


class Slot:
    """A place for one process at a time, with environment variables of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.job: Job | None = None
        self._process: Any = None
        self.pipe: Any = None

    def start(self, job: Job, options: RunOptions) -> None:
        """Fork a process for the job."""
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe(duplex=False)
        environment = {**os.environ, **self.environment}
        self._process = context.Process(target=work, args=(theirs, job, options, environment), daemon=True)
        self.job = job
        context.set_forkserver_preload([__name__, *(name for name in LIBRARIES if name in sys.modules)])
        with _inherited(self.environment):
            self._process.start()
        theirs.close()

    def receive(self, asked_to_stop: bool) -> Result | None:
        """The job's result, once it has ended; None where its process had only a message."""
        with contextlib.suppress(EOFError, OSError):
            if isinstance(said := self.pipe.recv(), Result):
                self.end()
                return said
            logger.log(*said)
            return None
        code = self.end()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return Result("interrupted" if asked_to_stop else DIED, f"its process ended with {cause}")

    def stop(self) -> None:
        """Ask the process to save its run and end."""
        self._process.terminate()

    def end(self) -> int:
        """Wait for the process; its exit code."""
        self._process.join(30)
        if self._process.exitcode is None:
            self.kill()
        self.pipe.close()
        self.job = None
        return int(self._process.exitcode)

    def kill(self) -> None:
        """End the process at once; its run continues from its last checkpoint another time."""
        self._process.kill()
        self._process.join()


@contextlib.contextmanager
def _inherited(environment: Mapping[str, str]) -> Iterator[None]:
    """What the server inherits, where it is started now: variables that torch reads when it is imported, and signals
    that it ignores, since a wish to stop is the parent's to pass on."""
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)
    handlers = {number: signal.signal(number, signal.SIG_IGN) for number in signals}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def run_jobs(
    jobs: Sequence[Job], environments: Sequence[Mapping[str, str]], options: RunOptions, *,
    on_result: Callable[[Job, Result, int], None], asked_to_stop: Callable[[], bool], wait_for_others: bool = True,
) -> list[Job]:
    """Do all jobs, one process for each of `environments` at a time; returns the jobs that are left to others.

    `on_result` hears how a job ended, and how many are left. `wait_for_others`: until a run that another process has
    locked is done; where that process dies, it is done here. Asked to stop, every process saves its run and ends.
    """
    queue, slots, waiting = Queue(jobs, options.results), [Slot(environment) for environment in environments], False
    try:
        while True:
            if asked_to_stop():
                queue.clear()
            for slot in slots:
                if slot.job is None and (job := queue.next()) is not None:
                    slot.start(job, options)
            busy = {slot.pipe: slot for slot in slots if slot.job}
            if not busy and (not len(queue) or (queue.all_alive and not wait_for_others)):
                return queue.locked
            if not busy and not waiting:
                count = f"{len(queue)} run{'s' * (len(queue) > 1)}"
                logger.info(f"waiting for {count} of other processes: {queue.seen}; Ctrl-C stops waiting")
            waiting = not busy
            if waiting:
                time.sleep(POLL_INTERVAL / 4)
                continue
            if stopping := asked_to_stop():
                for slot in busy.values():
                    slot.stop()  # again and again: a process that has just been forked does not listen yet
            for pipe in connection.wait(list(busy), timeout=0.5):
                slot = busy[pipe]  # type: ignore[index]
                job = slot.job
                if job is None or (result := slot.receive(stopping)) is None:
                    continue
                if result.status == LOCKED:  # another process was faster
                    queue.locked.append(job)
                    continue
                if result.status == FULL:  # the next run would fare no better
                    queue.clear()
                if result.status == DIED:
                    release_dead(lock_of(options.results, job.run_id))
                if result.status == DIED and job.tries < TRIES:
                    queue.waiting.appendleft(replace(job, tries=job.tries + 1))
                    result = result._replace(reason=f"{result.reason}; it is tried again")
                on_result(job, result, len(queue) + sum(slot.job is not None for slot in slots))
    except BaseException:  # a second Ctrl-C, for one
        for slot in slots:
            if slot.job:
                slot.kill()
        raise


class _ToParent(logging.Handler):
    """Sends messages through the pipe: the parent shows each of them once."""

    def __init__(self, pipe: Any) -> None:
        super().__init__()
        self.pipe = pipe

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            self.pipe.send((record.levelno, record.getMessage()))


def work(pipe: Any, job: Job, options: RunOptions, environment: Mapping[str, str]) -> None:
    """The life of a job's process."""
    os.environ.clear()
    os.environ.update(environment)  # the server's is that of the first start
    os.dup2(2, 1)  # standard output is the parent's, for its one answer
    suite = logging.getLogger("benchmark")
    suite.handlers, suite.level = [_ToParent(pipe)], logging.INFO
    stop = StopSignals(ctrl_c=False)
    options = replace(options, expected_digest=job.expected_digest, dead_holder=job.dead_holder)
    result = perform(job.request, options, lambda: stop.asked)
    with contextlib.suppress(OSError):  # the parent is gone
        pipe.send(result)


def perform(request: Request, options: RunOptions, asked_to_stop: Callable[[], bool]) -> Result:
    """Do one job, and say how it ended, whatever happens."""
    try:
        record, was_there = run_or_load(request, options, asked_to_stop=asked_to_stop)
        status, reason = record["status"], record.get("reason") or ""
        return Result("by another grid", f"{status}: {reason}".rstrip(": ")) if was_there else Result(status, reason)
    except tuple(ENDINGS) as error:
        return Result(next(status for kind, status in ENDINGS.items() if isinstance(error, kind)), str(error))
    except Exception as error:  # before or after training, so that there is no failed run to record it
        traceback.print_exc()
        return Result("crashed", in_words(error))


def slot_count(device: str, kind: str, slots: int | None, gpus: str | None) -> int:
    """How many runs there will be side by side; for the arguments see `environments`."""
    if slots:
        return slots
    if kind == "cpu":
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return len(gpus.split(",")) if gpus else 1 if ":" in device else max(1, torch.cuda.device_count())


def environments(device: str, kind: str, slots: int | None, gpus: str | None) -> list[dict[str, str]]:
    """The environment variables of every slot: one thread on a CPU, or the one GPU that it sees.

    device, kind: as asked for, as resolved. slots: how many (None: one a GPU, or one a CPU core). gpus: "0,1".
    """
    count = slot_count(device, kind, slots, gpus)
    if kind == "cpu":
        if gpus:
            raise UserError("--gpus: this grid runs on the CPU; leave it out, or use --device cuda")
        return [ONE_THREAD] * count
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    if not there:
        raise UserError(f"--device {device}: torch sees no CUDA device here; use --device cpu")
    one = device.partition(":")[2]
    chosen = gpus.split(",") if gpus else [there[int(one)]] if one else there
    if unknown := [gpu for gpu in chosen if gpu not in there]:
        raise UserError(f"--gpus {gpus}: there is no {', '.join(unknown)}; there is {', '.join(there)}")
    return [{"CUDA_VISIBLE_DEVICES": chosen[slot % len(chosen)]} for slot in range(count)]
