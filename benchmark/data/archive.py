"""Extract a zip or tar archive: only inside the target folder, and no more than a limit on the total size."""

from __future__ import annotations

import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

from benchmark.errors import UserError

GIB = 1 << 30
LIMIT = 64 * GIB
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError)
JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db")


def extract(archive: Path, folder: Path, limit: int = LIMIT) -> None:
    """Extract `archive` into the new folder `folder`; `limit`: bytes that its files may declare together.

    UserError: no such file, damaged, encrypted, too large, a member that leads out of the folder or is a device."""
    if not archive.is_file():
        raise UserError(f"{archive}: no such archive")
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                _check_size(archive, (member.file_size for member in zipped.infolist()), limit)
                zipped.extractall(folder, [name for name in zipped.namelist() if _wanted(name)])
        else:
            with tarfile.open(archive) as tarred:
                _check_size(archive, (member.size for member in tarred), limit)
                tarred.extractall(folder, [each for each in tarred if _wanted(each.name)], filter="data")
    except tarfile.FilterError as error:
        raise UserError(f"{archive}: refused ({error})") from None
    except BROKEN as error:
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{archive}: damaged, encrypted or not an archive ({cause}); download it again") from None
    except OSError as error:
        raise UserError(f"{archive}: could not be extracted to {folder} ({error.strerror or error})") from None


def _check_size(archive: Path, sizes: Iterable[int], limit: int) -> None:
    """Adds up sizes as they are met: a bomb stops the reading, too."""
    total = 0
    for size in sizes:
        total += size
        if total > limit:
            raise UserError(f"{archive}: its files declare more than {limit / GIB:,.0f} GiB; refused")


def _wanted(name: str) -> bool:
    return not any(part in JUNK or part.startswith("._") for part in name.split("/"))
