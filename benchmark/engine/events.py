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
_listeners: list[Listener] = []
_installed: list[bool] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _listeners or event not in EVENTS:
        return
    what = arguments[1] if event in ("socket.connect", "subprocess.Popen") else arguments[0]
    text = os.fsdecode(what) if isinstance(what, bytes | str | os.PathLike) else str(what)
    if event == "open" and (isinstance(what, int) or text.startswith(SYSTEM) or text.endswith((".py", ".pyc"))):
        return
    listeners = _listeners.copy()
    _listeners.clear()  # what they do themselves is nobody's concern
    try:
        for listener in listeners:
            listener(EVENTS[event], text, sys._getframe(1))
    finally:
        _listeners.extend(listeners)


@contextmanager
def watched(listener: Listener) -> Iterator[None]:
    """`listener` hears, inside, of every file that is opened, folder listed, process started and connection made.

    It gets the verb, the thing, and the frame that did it; what the import of a module needs is left out.
    """
    if not _installed:
        sys.addaudithook(_hook)  # for good: it cannot be taken back, and is deaf without a listener
        _installed.append(True)
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def by_an_import(frame: FrameType | None, until: frozenset[str]) -> bool:
    """Whether an import asked for this, nearer to `frame` than any code of the files `until`."""
    while frame is not None and frame.f_code.co_filename not in until:
        if frame.f_code.co_filename.startswith(IMPORTS):
            return True
        frame = frame.f_back
    return False
