"""Messages for the person at the terminal: `logging` to stderr, a line a message."""

from __future__ import annotations

import logging
import sys
from typing import TextIO


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
