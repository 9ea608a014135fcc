"""Files of image ids, one a line."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from benchmark.errors import UserError

COMMENT = re.compile(r"(^|\s)#.*")


def lines_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line number and id of each line that has one; what follows a '#' after a blank is passed over.

    UserError where the file cannot be read as text."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text file; expected image ids, one a line") from None
    except OSError as error:
        raise UserError(f"{path}: the list cannot be read ({error.strerror})") from None
    for number, line in enumerate(text.splitlines(), 1):
        if name := unicodedata.normalize("NFC", COMMENT.sub("", line).strip()):
            yield number, name
