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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing import connection
from typing import Any, NamedTuple

import torch

from benchmark.console import StopSignals, log_to_stderr
from benchmark.data.load import load_prepared
from benchmark.errors import DiskFull, Interrupted, RunLocked, UserError
from benchmark.files import check_writable
from benchmark.machine import cores
from benchmark.runs.lock import LockMonitor
from benchmark.runs.plan import Planned
from benchmark.runs.request import Request
from benchmark.runs.run import RunOptions, in_words, run_or_load
from benchmark.runs.run_files import folder_of

logger = logging.getLogger(__name__)

POLL_INTERVAL = 1.0  # seconds between two looks at the runs of others
TRIES = 3  # of a run whose process dies: the next may be luckier
LIBRARIES = ("segmentation_models_pytorch", "timm")  # of networks, imported once where the plan has needed them
DETERMINISM = "torch._inductor.config"  # `torch.use_deterministic_algorithms` imports it, for a second
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
LOCKED, FULL, DIED = "locked", "disk full", "died"
ENDINGS: dict[type[Exception], str] = {
    Interrupted: "interrupted", RunLocked: LOCKED, DiskFull: FULL, UserError: "refused",
}
FAILURES = ("failed", "diverged", FULL, "refused", "crashed", DIED)


class Result(NamedTuple):
    """How a run ended: its record's status, or what kept it from having one; and why."""

    status: str
    reason: str = ""


class Queue:
    """Runs that are still to be given out."""

    def __init__(self, runs: Sequence[Planned], options: RunOptions) -> None:
        self.results = options.results
        self.waiting = deque(runs)
        self.locked: list[Planned] = []  # by other processes
        self.all_alive = False  # whether all of `locked` have been seen alive
        self.seen = "another process"  # one of those that hold a lock
        self._died: Counter[str] = Counter()
        self._monitor = LockMonitor()
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.locked)

    def next(self) -> Planned | None:
        """A run that nobody has locked; None for now."""
        if time.monotonic() - self._looked > POLL_INTERVAL:
            self._looked, self.all_alive = time.monotonic(), True
            self.waiting.extendleft(reversed(self.locked))
            self.locked = []
        while self.waiting:
            run = self.waiting.popleft()
            if self.is_free(run):
                return run
            self.locked.append(run)
        return None

    def is_free(self, run: Planned) -> bool:
        """Whether nobody has locked the run; the lock of a dead process is released."""
        lock = folder_of(self.results, run.spec.run_id) / "lock"
        try:
            state, holder = self._monitor.look(lock)
        except OSError:  # the file server is away: not for now
            self.all_alive = False
            return False
        except UserError:  # the run's process finds the same, and says so
            return True
        if holder is None:
            return True
        self.seen = f"{holder} works on {run.spec.run_id}"
        self.all_alive &= state == "alive"
        return False

    def take_back(self, run: Planned, result: Result) -> Result:
        """Draw the consequences of how a run ended; the result, with what becomes of the run."""
        if result.status == LOCKED:  # another process was faster
            self.locked.append(run)
        elif result.status == FULL:  # the next run would fare no better
            self.clear()
        elif result.status == DIED:
            self.is_free(run)  # releases its lock
            self._died[run.spec.run_id] += 1
            if self._died[run.spec.run_id] < TRIES:
                self.waiting.appendleft(run)
                return result._replace(reason=f"{result.reason}; it is tried again")
        return result

    def clear(self) -> None:
        """Give out nothing more."""
        self.waiting.clear()
        self.locked.clear()


class Slot:
    """A place for one process at a time, with environment variables of its own."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.run: Planned | None = None
        self._process: Any = None
        self.pipe: Any = None

    def start(self, run: Planned, options: RunOptions) -> None:
        """Fork a process for the run."""
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe(duplex=False)
        options = replace(options, expected_digest=run.digest)
        arguments = theirs, run.cell.request, options, {**os.environ, **self.environment}
        self._process = context.Process(target=work, args=arguments, daemon=True)
        libraries = [name for name in LIBRARIES if name in sys.modules]
        context.set_forkserver_preload([__name__, DETERMINISM, *libraries])
        with _inherited(self.environment):
            self._process.start()
        self.run = run
        theirs.close()

    def receive(self, asked_to_stop: bool) -> Result:
        """How the run has ended."""
        try:
            result: Result = self.pipe.recv()
            self.end()
            return result
        except (EOFError, OSError):
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
        self.run = None
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


def run_all(
    runs: Sequence[Planned], environments: Sequence[Mapping[str, str]], options: RunOptions, *,
    asked_to_stop: Callable[[], bool], wait_for_others: bool = True,
) -> bool:
    """Do all runs, one process for each of `environments` at a time, and say how each ends; whether one failed.

    `wait_for_others`: until a run that another process has locked is done; where that process dies, it is done here.
    Asked to stop, every process saves its run and ends.
    """
    for folder in ("runs", "records"):
        check_writable(options.results / folder)
    data = {(each.prepared_name, run.spec.values["data.size"]): each
            for run in runs for each, _ in run.datasets.values()}
    for (_, size), dataset in sorted(data.items(), key=lambda item: item[0]):  # once, before many processes ask for it
        load_prepared(dataset, size, raw=options.data)
    queue, slots = Queue(runs, options), [Slot(each) for each in environments[: len(runs)]]
    waiting, failed = False, {}
    try:
        while True:
            if asked_to_stop():
                queue.clear()
            for slot in slots:
                if slot.run is None and (run := queue.next()) is not None:
                    slot.start(run, options)
            busy = {slot.pipe: slot for slot in slots if slot.run}
            if not busy and (not len(queue) or (queue.all_alive and not wait_for_others)):
                break
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
                run = slot.run
                assert run is not None
                result = queue.take_back(run, slot.receive(stopping))
                if result.status == LOCKED:
                    continue
                failed[run.spec.run_id] = result.status in FAILURES
                trial = f", trial {run.cell.trial}" if run.cell.trial else ""
                place = f"{run.cell.row}{trial}, {run.spec.dataset} {run.spec.ratio} % draw {run.spec.fold}"
                left = len(queue) + sum(slot.run is not None for slot in slots)
                logger.info(f"{place}: {': '.join(filter(None, result))}" + f" ({left} left)" * (not asked_to_stop()))
    except BaseException:  # a second Ctrl-C, for one
        for slot in slots:
            if slot.run:
                slot.kill()
        raise
    if queue.locked:
        logger.info(f"{len(queue.locked)} runs are left to the processes that work on them")
    return any(failed.values())


def work(pipe: Any, request: Request, options: RunOptions, environment: Mapping[str, str]) -> None:
    """The life of a run's process."""
    os.environ.clear()
    os.environ.update(environment)  # the server's is that of the first start
    os.dup2(2, 1)  # standard output is the parent's, for its one answer
    log_to_stderr()
    logging.getLogger("benchmark.runs.run").setLevel(logging.WARNING)  # the lines of several runs would be mixed
    stop = StopSignals(ctrl_c=False)
    result = perform(request, options, lambda: stop.asked)
    with contextlib.suppress(OSError):  # the parent is gone
        pipe.send(result)


def perform(request: Request, options: RunOptions, asked_to_stop: Callable[[], bool]) -> Result:
    """Do one run, and say how it ended, whatever happens."""
    try:
        record, was_there = run_or_load(request, options, asked_to_stop=asked_to_stop)
        status, reason = record["status"], record.get("reason") or ""
        return Result("by another grid", f"{status}: {reason}".rstrip(": ")) if was_there else Result(status, reason)
    except tuple(ENDINGS) as error:
        return Result(next(status for kind, status in ENDINGS.items() if isinstance(error, kind)), str(error))
    except Exception as error:  # before or after training, so that there is no failed run to record it
        traceback.print_exc()
        return Result("crashed", in_words(error))


def environments(device: torch.device, slots: int | None, gpus: str | None) -> list[dict[str, str]]:
    """The environment variables of every slot: one thread on a CPU, or the one GPU that it sees.

    device: with an index where it was asked for. slots: how many (None: one a GPU, or one a CPU core). gpus: "0,1".
    """
    if device.type == "cpu":
        if gpus:
            raise UserError("--gpus: this grid runs on the CPU; leave it out, or use --device cuda")
        return [ONE_THREAD] * (slots or cores())
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    there = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    chosen = gpus.split(",") if gpus else there if device.index is None else there[device.index :][:1]
    if there and (unknown := [gpu for gpu in chosen if gpu not in there]):
        raise UserError(f"--gpus {gpus}: there is no {', '.join(unknown)}; there is {', '.join(there)}")
    chosen = chosen or ["0"]  # a plan for another machine, as this one has no GPU
    return [{"CUDA_VISIBLE_DEVICES": chosen[slot % len(chosen)]} for slot in range(slots or len(chosen))]
