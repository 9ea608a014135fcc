"""Losses, watched values and scores as TensorBoard's event files, for those who watch while a run trains."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.errors import UserError
from benchmark.runs.run_files import RunFolder
from benchmark.spec import Spec

logger = logging.getLogger(__name__)


class WatchedRunFolder(RunFolder):
    """A run's folder that also gets `tensorboard/`: means of some steps at a time, and the Dice of every evaluation.

    A run that continues appends a file, which hides what was written beyond its checkpoint. UserError where the package
    is missing; what cannot be written later ends the writing, not the run.
    """

    def __init__(self, results: Path, spec: Spec) -> None:
        super().__init__(results, spec)
        self.writer: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UserError("--tensorboard needs the package tensorboard, which is not installed: "
                            "pip install tensorboard") from None
        self.open_writer = SummaryWriter

    @contextlib.contextmanager
    def locked(self, **how: Any) -> Iterator[None]:
        """Lock the run, and close the event file at the end."""
        with super().locked(**how):
            try:
                yield
            finally:
                if self.writer is not None:
                    self._or_stop(self.writer.close)

    def start_log(self, step: int) -> None:
        """Begin an event file in which nothing beyond `step` stands yet."""
        super().start_log(step)
        self.writer = self._or_stop(self.open_writer, str(self.path / "tensorboard"), purge_step=step + 1, flush_secs=5)

    def log(self, lines: list[dict[str, Any]]) -> None:
        """Append the lines, and their means to the events: a value of every step would slow fast steps down."""
        super().log(lines)
        for name in lines[-1].keys() - {"step"}:
            if values := [line[name] for line in lines if line[name] is not None]:
                self._add(f"training/{name}", float(np.mean(values)), lines[-1]["step"])

    def log_scores(self, step: int, scores: Mapping[str, float]) -> None:
        """Add the scores of an evaluation."""
        for name, value in scores.items():
            self._add(name, value, step)

    def _add(self, name: str, value: float, step: int) -> None:
        if self.writer is not None:
            self._or_stop(self.writer.add_scalar, name, value, step)

    def _or_stop(self, write: Callable[..., Any], *values: Any, **more: Any) -> Any:
        try:
            return write(*values, **more)
        except OSError as error:
            self.writer = None
            logger.warning(f"{self.path / 'tensorboard'}: {error.strerror or error}; no more events are written")
