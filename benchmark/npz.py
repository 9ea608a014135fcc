"""Arrays by name in an .npz file whose bytes depend on the arrays alone (NumPy's own carries the time).

Any text is a name: of NumPy's functions `file` is a keyword, and `x.npy` is taken for `x`.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

DAMAGED = (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error)


class ArrayWriter:
    """Writes arrays one by one into a stream; a context manager."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._archive = zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED)

    def __enter__(self) -> ArrayWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._archive.close()

    def add(self, name: str, array: np.ndarray) -> None:
        """One more array."""
        entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
        self._archive.writestr(entry, buffer.getvalue())


def write_arrays(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """All arrays, in order of their names."""
    with ArrayWriter(stream) as writer:
        for name in sorted(arrays):
            writer.add(name, arrays[name])


class ArrayFile(Mapping[str, np.ndarray]):
    """The arrays of an .npz file, read when they are asked for; the file stays open, and so the same.

    Raises one of `DAMAGED` where it, or an array in it, cannot be read."""

    def __init__(self, path: Path) -> None:
        self._archive = zipfile.ZipFile(path)
        self._names = dict.fromkeys(name.removesuffix(".npy") for name in self._archive.namelist())

    def __getitem__(self, name: str) -> np.ndarray:
        with self._archive.open(f"{name}.npy") as file:
            array: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
            return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._names
