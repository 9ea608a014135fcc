"""Read a zip or tar archive that may be hostile: only plain files inside the target, never more than is sensible.

Refused before anything is written: absolute paths and `..`, links, devices, encrypted members, a name twice, and
declared sizes that no image archive has. Extraction writes our own bytes with our own permissions.
"""

from __future__ import annotations

import gzip
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any

from benchmark.errors import UserError

GIB = 1 << 30
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, gzip.BadGzipFile, EOFError,
          NotImplementedError, UnicodeDecodeError, ValueError)


@dataclass(frozen=True)
class Limits:
    """What an archive may declare. A ratio is suspicious only in something large: a mask packs a thousandfold."""

    members: int = 200_000
    member_bytes: int = 4 * GIB
    total_bytes: int = 64 * GIB
    ratio: float = 200.0
    ratio_from_bytes: int = GIB // 4


@dataclass(frozen=True)
class _Member:
    path: PurePosixPath
    size: int
    entry: Any


def extract(archive: Path, folder: Path, limits: Limits = Limits()) -> None:
    """Extract every file of `archive` into the new folder `folder`. UserError (one line) for a bad archive."""
    try:
        with _opened(archive) as reader:
            members = _inspect(archive, reader, limits)
            folder.mkdir(parents=True)
            for member in members:
                target = folder.joinpath(*member.path.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with reader.read(member.entry) as source, open(target, "xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except BROKEN as error:
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{archive}: damaged or not an archive ({cause}); download it again") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise UserError(f"{archive}: two members want the same place ({Path(error.filename).name})") from None
    except OSError as error:
        raise UserError(f"{archive}: could not be extracted to {folder} ({error.strerror or error})") from None


def _inspect(archive: Path, reader: _Zip | _Tar, limits: Limits) -> list[_Member]:
    """Every file to extract; reads no content. Sizes are summed as they are met, so a bomb stops the reading too."""
    packed = max(1, archive.stat().st_size)
    found: dict[PurePosixPath, _Member] = {}
    total = count = 0
    for name, size, refusal, entry, folder in reader.entries():
        count += 1
        total += size
        path = _safe(archive, name)
        if refusal:
            raise UserError(f"{archive}: member '{_short(name)}' is {refusal}; refused")
        if count > limits.members:
            raise UserError(f"{archive}: more than {limits.members:,} members; refused")
        if size > limits.member_bytes or total > limits.total_bytes:
            raise UserError(f"{archive}: member '{_short(name)}' brings the declared size to {total / GIB:,.1f} GiB; "
                            "refused")
        if total > limits.ratio_from_bytes and total / packed > limits.ratio:
            raise UserError(f"{archive}: {packed:,} bytes declare {total / GIB:,.1f} GiB, more than "
                            f"{limits.ratio:.0f} to 1; refused")
        if folder or not path.parts or any(part in JUNK or part.startswith("._") for part in path.parts):
            continue
        if path in found:
            raise UserError(f"{archive}: member '{_short(name)}' occurs twice; refused")
        found[path] = _Member(path, size, entry)
    return list(found.values())


def _safe(archive: Path, name: str) -> PurePosixPath:
    path = PurePosixPath(name.replace("\\", "/"))
    drive = bool(path.parts) and ":" in path.parts[0]
    if path.is_absolute() or drive or ".." in path.parts or not name.isprintable():
        raise UserError(f"{archive}: member '{_short(name)}' would be written outside the target folder; refused")
    return path


def _short(name: str) -> str:
    text = name.encode("unicode_escape").decode()
    return text if len(text) <= 80 else text[:77] + "..."


class _Zip:
    def __init__(self, file: zipfile.ZipFile) -> None:
        self.file = file

    def entries(self) -> Iterator[tuple[str, int, str, zipfile.ZipInfo, bool]]:
        for info in self.file.infolist():
            kind = stat.S_IFMT(info.external_attr >> 16)
            refusal = {stat.S_IFLNK: "a link", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
                       stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}.get(kind, "")
            if info.flag_bits & 1:
                refusal = "encrypted"
            yield info.orig_filename, info.file_size, refusal, info, info.is_dir()

    def read(self, entry: zipfile.ZipInfo) -> IO[bytes]:
        return self.file.open(entry)  # yields at most the declared size, and checks the CRC


class _Tar:
    def __init__(self, file: tarfile.TarFile) -> None:
        self.file = file

    def entries(self) -> Iterator[tuple[str, int, str, tarfile.TarInfo, bool]]:
        for info in self.file:
            refusal = ""
            if info.issym() or info.islnk():
                refusal = "a link"
            elif info.issparse() or not (info.isreg() or info.isdir()):
                refusal = "neither a file nor a folder"
            yield info.name, info.size, refusal, info, info.isdir()

    def read(self, entry: tarfile.TarInfo) -> IO[bytes]:
        source = self.file.extractfile(entry)
        assert source is not None, "only regular files are read"
        return source


class _Bounded:
    """A stream that refuses one enormous read: tarfile reads a long name's or header's declared size at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.seek, self.tell, self.close = stream.seek, stream.tell, stream.close

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= 64 << 20:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.stream.read(size)


@contextmanager
def _opened(archive: Path) -> Iterator[_Zip | _Tar]:
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive")
    if archive.name.lower().endswith(".zip"):
        with zipfile.ZipFile(archive) as zipped:
            yield _Zip(zipped)
        return
    with (
        open(archive, "rb") as raw, _unpacked(raw) as stream,
        tarfile.open(fileobj=_Bounded(stream), mode="r:") as tarred,  # type: ignore[call-overload]
    ):
        yield _Tar(tarred)


def _unpacked(raw: IO[bytes]) -> Any:
    head = raw.read(6)
    raw.seek(0)
    if head.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    return lzma.LZMAFile(raw) if head.startswith(b"\xfd7zXZ\x00") else raw
