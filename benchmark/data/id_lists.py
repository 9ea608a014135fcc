"""Files of image ids, one a line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.errors import UserError, suggest

COMMENT = re.compile(r"(^|\s)#.*")


def read_ids(path: Path, known: Sequence[str], what: str, refused: Mapping[str, str] | None = None) -> list[str]:
    """The ids of a list in the order of `known`, which are all it may hold; what follows a '#' after a blank is a
    comment.

    what: what the known ids are, for messages; refused: id -> why it may not be listed.
    UserError, with file and line: no text file, an unknown or refused id, one that is listed twice, an empty list."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; expected image ids, one a line") from None
    except OSError as error:
        raise UserError(f"{path}: the list cannot be read ({error.strerror})") from None
    place, found = {name: number for number, name in enumerate(known)}, dict[str, int]()
    for number, line in enumerate(text.splitlines(), 1):
        if not (name := unicodedata.normalize("NFC", COMMENT.sub("", line).strip())):
            continue
        where = f"{path}, line {number}: '{name[:60]}'"
        if reason := (refused or {}).get(name):
            raise UserError(f"{where} {reason}")
        if name not in place:
            raise UserError(f"{where} is no {what}.{suggest(name, known)}")
        if name in found:
            raise UserError(f"{where} is listed twice (first in line {found[name]})")
        found[name] = number
    if not found:
        raise UserError(f"{path}: the list is empty; expected image ids, one a line")
    return sorted(found, key=place.__getitem__)
