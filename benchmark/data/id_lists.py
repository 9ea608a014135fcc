"""Files of image ids, one a line, and the folds that such files of one's own say."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark.data.fold_lists import ImageInfo, make_fold
from benchmark.data.folder_schema import Lists
from benchmark.errors import UserError, suggest

COMMENT = re.compile(r"(^|\s)#.*")
BARE = "has no mask; it can only be an unlabelled training image"


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


def folds_of(folder: Path, lists: Sequence[Lists], key: str, images: Sequence[ImageInfo]) -> list[dict[str, Any]]:
    """The folds that these files say; labelled and validation images that they do not name are drawn.

    UserError, with the file: an id that is no image or is listed twice, an image in two lists of a fold, a patient (or
    slide) both in training and test, a validation, test or labelled image without a mask."""
    known = {image.id: image for image in images}
    return [_fold(folder, fold, known, f"{key}/{number}") for number, fold in enumerate(lists)]


def _fold(folder: Path, lists: Lists, images: dict[str, ImageInfo], key: str) -> dict[str, Any]:
    """One fold's lists, in the data set's order."""
    ids, bare = list(images), {name: BARE for name, image in images.items() if not image.masked}
    files = {"train": lists.train, "test": lists.test} | ({"validation": lists.validation} if lists.validation else {})
    parts = {
        part: read_ids(folder / file, ids, "image of this data set", {} if part == "train" else bare)
        for part, file in files.items()
    }
    _check_apart(parts, images, {part: folder / file for part, file in files.items()})
    labelled = {
        ratio: read_ids(folder / file, parts["train"], f"training image of {lists.train}", bare)
        for ratio, file in lists.labelled.items()
    }
    train = [images[name] for name in parts["train"]]
    return make_fold(train, parts["test"], key, parts.get("validation"), labelled or None)


def _check_apart(parts: dict[str, list[str]], images: dict[str, ImageInfo], files: dict[str, Path]) -> None:
    """No image in two lists, no patient both in the test list and in another."""
    seen: dict[str, str] = {}
    for part, names in parts.items():
        for name in names:
            if name in seen:
                raise UserError(f"{files[part]}: '{name}' is also in {files[seen[name]].name}; it may be in one list")
            seen[name] = part
    tested = {images[name].patient: name for name in parts["test"]}
    for name, part in seen.items():
        patient = images[name].patient
        if part != "test" and patient in tested:
            raise UserError(f"{files[part]}: '{name}' is of '{patient}', as is '{tested[patient]}' of "
                            f"{files['test'].name}; a patient or slide must not be both in training and test")
