"""Writing so that a reader sees the old file or the whole new one, never a part, and a full disk loses nothing."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from benchmark.errors import RUN_FAILED, DiskFull, UserError

os.umask(UMASK := os.umask(0))
TEMPORARY = re.compile(r"\.(.+)\.[a-z0-9_]{8}")  # as `tempfile` calls what is to be renamed when it is whole


def write_atomically(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Give `write` a temporary file beside `path`, flush it to the disk, then rename it into place."""
    make_folder(path.parent)
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as error:
        raise explain(error, path) from None
    try:
        os.fchmod(handle, 0o666 & ~UMASK)  # a temporary file is private; results are as shared as their folder
        with os.fdopen(handle, "wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, OSError):
            raise explain(error, path) from None
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, as `write_atomically` does."""
    write_atomically(path, lambda stream: stream.write(content))


def write_text(path: Path, text: str) -> None:
    """Write a text file, as `write_atomically` does."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Any) -> None:
    """Write one JSON value, as `write_atomically` does; equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n")


def remove_unfinished(folder: Path, name: str = "") -> None:
    """Remove what a killed process was writing of `name` (or of anything); for the process that holds the lock."""
    with contextlib.suppress(OSError):  # it is only tidier without them
        for left in folder.iterdir():
            found = TEMPORARY.fullmatch(left.name)
            if found is None or not found[1].startswith(name):
                continue
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Create a folder, or say what stands in its way."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise explain(NotADirectoryError(), folder) from None
    except OSError as error:
        raise explain(error, folder) from None


def check_writable(folder: Path) -> None:
    """Create a folder and a file in it, or say why that cannot be done."""
    make_folder(folder)
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise explain(error, folder) from None


def explain(error: OSError, path: Path) -> UserError:
    """An operating system's error as one line with advice."""
    full = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
    if error.errno in full:
        return DiskFull(
            f"{path}: no space left to write it; what was written before is intact, free some space and give the same "
            "command again"
        )
    if isinstance(error, NotADirectoryError):
        file = next((part for part in (*reversed(path.parents), path) if part.exists() and not part.is_dir()), path)
        return UserError(f"{file}: a file stands where a folder is needed; move it, or name another folder")
    return UserError(f"{path}: {error.strerror or error}", RUN_FAILED)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
