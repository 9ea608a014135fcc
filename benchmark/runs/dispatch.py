"""Which job is next, and for whom: the parent's side of a grid.

Several grids may work in one folder. A run that somebody else is at is watched until it ends, or its holder does.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from benchmark.errors import UserError
from benchmark.run_lock import Watch, look
from benchmark.runs.folder import claim_of
from benchmark.runs.workers import DIED, FULL, HELD, Answer, Job, Orders, Slot

logger = logging.getLogger(__name__)

LOOK = 1.0  # seconds between two looks at the runs of others
TRIES = 3  # of a run whose process dies: it may have been the process's bad luck


class Queue:
    """Jobs that are still to be given out."""

    def __init__(self, jobs: Sequence[Job], results: Path) -> None:
        self.results = results
        self.waiting = deque(jobs)
        self.others: list[Job] = []  # somebody else is at these
        self.living = False  # whether all of `others` have been seen alive
        self.seen = "somebody"  # one of those who are at them
        self._watch = Watch()
        self._looked = 0.0

    def __len__(self) -> int:
        return len(self.waiting) + len(self.others)

    def next(self) -> Job | None:
        """A job that nobody is at, or that somebody was at who is dead; None for now."""
        if time.monotonic() - self._looked > LOOK:
            self._looked, self.living = time.monotonic(), True
            for place, job in enumerate(self.others):
                if (free := self._if_free(job)) is not None:
                    del self.others[place]
                    self.living = False  # the rest was not looked at
                    return free
        while self.waiting:
            job = self.waiting.popleft()
            if (free := self._if_free(job)) is not None:
                return free
            self.others.append(job)
        return None

    def _if_free(self, job: Job) -> Job | None:
        claim = claim_of(self.results, job.run_id)
        try:
            sight = look(claim)
        except OSError:  # the file server is away: not for now
            self.living = False
            return None
        except UserError:  # the worker finds the same, and answers with it
            sight = None
        if sight is None:
            return replace(job, over="")
        self.seen = f"{sight.holder} at {job.run_id}"
        life = self._watch.judge(claim, sight)
        self.living &= life == "alive"
        return replace(job, over=sight.holder.name) if life == "dead" else None

    def clear(self) -> None:
        """Give nothing out any more."""
        self.waiting.clear()
        self.others.clear()


def run_all(
    jobs: Sequence[Job], slots: Sequence[Slot], orders: Orders, tell: Callable[[Job, Answer, int], None],
    asked_to_stop: Callable[[], bool], patient: bool = True,
) -> list[Job]:
    """Do all jobs; `tell` hears of each as it ends, and how many are left. Returns those left to others.

    `patient`: wait for these, and do them when their holder dies. Asked to stop, every worker saves its run and ends.
    Whatever is raised here, a second Ctrl-C for one, leaves no worker behind.
    """
    queue, told_to_stop, waiting = Queue(jobs, orders.results), False, False
    try:
        while True:
            if asked_to_stop():
                queue.clear()
            for slot in slots:
                if slot.job is None and (job := queue.next()) is not None:
                    slot.give(job, orders)
            busy = {slot.pipe: slot for slot in slots if slot.job}
            if not busy and (not len(queue) or (queue.living and not patient)):
                break
            if not busy and not waiting:
                runs = f"{len(queue)} run{'s' * (len(queue) > 1)} of other processes"
                logger.info(f"waiting for {runs}: {queue.seen}; Ctrl-C stops waiting")
            waiting = not busy
            if not busy:
                for slot in slots:
                    slot.end()  # the others' runs may take hours; a device's memory is not held that long for nothing
                time.sleep(LOOK / 4)
                continue
            if asked_to_stop() and not told_to_stop:
                told_to_stop = True
                for slot in busy.values():
                    slot.process.terminate()
            for pipe in wait(list(busy), timeout=0.5):
                answered(busy[pipe], queue, told_to_stop, lambda job, answer: tell(job, answer, left(queue, slots)))
    except BaseException:
        for slot in slots:
            slot.kill()
        raise
    for slot in slots:
        slot.end()
    return queue.others


def answered(slot: Slot, queue: Queue, told_to_stop: bool, tell: Callable[[Job, Answer], None]) -> None:
    """What follows from a worker's answer."""
    job = slot.job
    assert job is not None
    status, line = slot.answer(told_to_stop)
    if status == HELD:  # another was faster
        queue.others.append(job)
        return
    if status == FULL:  # nobody's next run would fare better
        queue.clear()
    if status == DIED and job.tries < TRIES:
        queue.waiting.appendleft(replace(job, tries=job.tries + 1))
        line += "; it is tried again"
    tell(job, (status, line))


def left(queue: Queue, slots: Sequence[Slot]) -> int:
    """How many jobs are still to end."""
    return len(queue) + sum(slot.job is not None for slot in slots)
