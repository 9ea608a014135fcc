"""What a process does to the world around it: files opened, processes started, connections made, and who did it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

EVENTS = {
    "open": "opens", "os.listdir": "lists", "os.scandir": "lists", "glob.glob": "lists",
    "socket.connect": "connects to", "subprocess.Popen": "starts", "os.system": "starts",
}
SYSTEM = ("/proc/", "/sys/", "/dev/")  # looked at by libraries
IMPORTS = ("<frozen importlib", "<frozen zipimport")
Listener = Callable[[str, str, FrameType], None]


class _Ear:
    """The audit hook: once there it cannot be taken back, and is deaf without a listener."""

    def __init__(self) -> None:
        self.listener: Listener | None = None
        self.is_there = False

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.listener is None or event not in EVENTS:
            return
        what = arguments[1] if event in ("socket.connect", "subprocess.Popen") else arguments[0]
        text = os.fsdecode(what) if isinstance(what, bytes | str | os.PathLike) else str(what)
        if event == "open" and (isinstance(what, int) or text.startswith(SYSTEM) or text.endswith((".py", ".pyc"))):
            return
        listener, self.listener = self.listener, None  # what it does itself is nobody's concern
        try:
            listener(EVENTS[event], text, sys._getframe(1))
        finally:
            self.listener = listener


_ear = _Ear()


@contextmanager
def watched(listener: Listener) -> Iterator[None]:
    """`listener` hears, inside, of every file that is opened, folder listed, process started and connection made.

    It gets the verb, the thing, and the frame that did it; sources, and what libraries ask the system, are left out.
    """
    if not _ear.is_there:
        sys.addaudithook(_ear)
        _ear.is_there = True
    before, _ear.listener = _ear.listener, listener
    try:
        yield
    finally:
        _ear.listener = before


def by_an_import(frame: FrameType | None, until: frozenset[str]) -> bool:
    """Whether an import asked for this, nearer to `frame` than any code of the files `until`."""
    while frame is not None and frame.f_code.co_filename not in until:
        if frame.f_code.co_filename.startswith(IMPORTS):
            return True
        frame = frame.f_back
    return False
