"""The person at the terminal: messages by `logging` to stderr, progress, and signals that ask to stop."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
from typing import Any, TextIO

logger = logging.getLogger(__name__)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """Writes to whatever `sys.stderr` is when the message comes."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stderr


def log_to_stderr() -> None:
    """Show the suite's messages from `info` upwards on stderr; a second call changes nothing."""
    suite = logging.getLogger("benchmark")
    if not any(isinstance(handler, _StderrHandler) for handler in suite.handlers):
        suite.addHandler(_StderrHandler())
        suite.setLevel(logging.INFO)


def drop(stream: TextIO) -> None:
    """Let what is still in the stream's buffer go nowhere; flushed at the end, it would change the exit code."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


class StopSignals:
    """Remembers that SIGTERM, SIGUSR1 or SIGHUP came, or SIGINT where `ctrl_c`; the loop then saves and stops.

    SIGHUP, of a terminal that was closed, is left alone where it is ignored (nohup).
    """

    def __init__(self, *, ctrl_c: bool = True) -> None:
        self.asked = False
        self._tells = ctrl_c
        self._terminals = [stream for stream in (1, 2) if os.isatty(stream)]
        for name in (*[signal.SIGINT] * ctrl_c, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(name, self._note)
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._note)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.asked = True
        if number == signal.SIGHUP:  # whoever writes to a terminal that is gone gets an error instead of an end
            for stream in self._terminals:
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream)
        elif self._tells:
            text = "stopping: a run in training is saved after its next step; Ctrl-C again stops at once\n"
            os.write(2, text.encode())


class ProgressDisplay:
    """A progress bar on a terminal; elsewhere a line now and then. Losses are shown when they are known."""

    def __init__(self) -> None:
        self.bar: Any = None
        self.shown = 0.0
        self.begun: tuple[float, int] | None = None

    def __call__(self, step: int, steps: int, means: dict[str, float], seconds: float) -> None:
        now = time.monotonic()
        if self.begun is None:
            self.begun = (now, step)
        losses = ", ".join(f"{name} {value:.4f}" for name, value in list(means.items())[:3])
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(total=steps, initial=step, unit="step", leave=False)
            self.bar.update(step - self.bar.n)
            self.bar.set_postfix_str(losses)
            if step >= steps:
                self.bar.close()
        elif now - self.shown > 20 or step >= steps:
            self.shown = now
            done = step - self.begun[1]
            left = (steps - step) * (now - self.begun[0]) / done if done else float("nan")
            rest = f", {left:.0f} s left" if done and step < steps else ""
            logger.info(f"step {step}/{steps}{rest}{f', mean losses: {losses}' if losses else ''}")
