"""The few exceptions a user may meet. Each becomes one line on stderr and an exit code, never a traceback."""

from __future__ import annotations

import difflib
import traceback
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

OK, RUN_FAILED, USAGE, GRID_INCOMPLETE, CHECK_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 75


class UserError(Exception):
    """Something the user can put right: the message says what, where and what to do, in one line."""

    def __init__(self, message: str, code: int = USAGE) -> None:
        super().__init__(message)
        self.code = code


class DiskFull(UserError):
    """There is no space left for a file; what was written before is intact."""

    def __init__(self, message: str) -> None:
        super().__init__(message, RUN_FAILED)


class RunLocked(UserError):
    """Another process works on this run."""

    def __init__(self, message: str) -> None:
        super().__init__(message, RUN_FAILED)


class NotApplicable(Exception):
    """A method or network says that a setting is not for it; the run is recorded as skipped, with this reason."""


class Interrupted(Exception):
    """The run was asked to stop; everything up to its last step is saved and the same command continues it."""


def listed(words: Sequence[object], most: int = 1, separator: str = ", ") -> str:
    """The first of these, and how many more there are."""
    return separator.join(map(str, words[:most])) + f" and {len(words) - most} more" * (len(words) > most)


def suggest(name: str, options: Iterable[str], extension: str = "") -> str:
    """" Did you mean 'x'?" for a file of this name and `extension`, or the nearest of `options`; or an empty string."""
    if extension and Path(name + extension).is_file():
        return f" Did you mean '{name}{extension}'?"
    by_lower = {str(option).lower(): str(option) for option in options}
    last = str(name).lower().rpartition(".")[2]
    if same := [option for option in by_lower if option.rpartition(".")[2] == last]:
        return f" Did you mean '{by_lower[same[0]]}'?"
    near = difflib.get_close_matches(str(name).lower(), by_lower, n=1, cutoff=0.5)
    return f" Did you mean '{by_lower[near[0]]}'?" if near else ""


def last_frame(error: BaseException, files: Collection[str]) -> traceback.FrameSummary | None:
    """Where an exception passed one of these files last, if it did."""
    frames = traceback.extract_tb(error.__traceback__)
    return next((frame for frame in reversed(frames) if frame.filename in files), None)


def raised_at(error: BaseException, files: Collection[str] = ()) -> tuple[str, str]:
    """Where an exception was raised, or last passed one of these files: "file.py:12", and the function."""
    frame = last_frame(error, files) or traceback.extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}", frame.name
