"""Files: written so that a reader sees the old one or the whole new one, never a part, and a full disk loses nothing;
arrays by name in an .npz file whose bytes depend on the arrays alone (NumPy's own carries the time)."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from benchmark.errors import RUN_FAILED, DiskFull, UserError

if TYPE_CHECKING:
    import numpy as np  # elsewhere where it is used: `list` and `--help` answer without it

os.umask(UMASK := os.umask(0))
DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)  # of an `ArrayFile`
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


def set_aside(*paths: Path) -> Path:
    """Rename the files that are there to NAME.old1, or .old2, ...: the first that is free for all. What the last is
    called then."""
    number = 1
    while any(path.with_name(f"{path.name}.old{number}").exists() for path in paths):
        number += 1
    for path in paths:
        aside = path.with_name(f"{path.name}.old{number}")
        if path.exists():
            os.replace(path, aside)
    return aside


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
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return DiskFull(f"{path}: no space left to write it; what was written before is intact, free some space and "
                        "give the same command again")
    if isinstance(error, FileExistsError | NotADirectoryError):
        file = next((part for part in (*reversed(path.parents), path) if part.exists() and not part.is_dir()), path)
        return UserError(f"{file}: a file stands where a folder is needed; move it, or name another folder")
    return UserError(f"{path}: {error.strerror or error}", RUN_FAILED)


def sha256(path: Path) -> str:
    """Hexadecimal digest of a file."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class ArrayWriter:
    """Writes arrays one by one into a stream; a context manager. Any text is a name, unlike with NumPy's functions."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(stream, "w")

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def add(self, name: str, array: np.ndarray) -> None:
        """One more array."""
        import numpy as np

        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(array), allow_pickle=False)
        entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
        self._archive.writestr(entry, buffer.getvalue(), zipfile.ZIP_DEFLATED)


def write_arrays(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """All arrays, in order of their names."""
    with ArrayWriter(stream) as writer:
        for name in sorted(arrays):
            writer.add(name, arrays[name])


class ArrayFile(Mapping[str, "np.ndarray"]):
    """The arrays of an .npz file, read when they are asked for; the file stays open, and so the same.

    Raises one of `DAMAGED` where it, or an array in it, cannot be read."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._names = dict.fromkeys(name.removesuffix(".npy") for name in self._archive.namelist())

    def __getitem__(self, name: str) -> np.ndarray:
        import numpy as np

        with self._archive.open(f"{name}.npy") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
