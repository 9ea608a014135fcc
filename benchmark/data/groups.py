"""What is known of each image: set, patient, slide, grade and so on; of one's own from a table or from its name."""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmark.data.folder_schema import Description
from benchmark.errors import UserError, suggest

TRAIN, VALIDATION, TEST = "train", "validation", "test"
SETS = {"train": TRAIN, "training": TRAIN, "validation": VALIDATION, "test": TEST, "testing": TEST}
HALVES = ("val", "valid", "dev")  # may mean either: an image that chooses the epoch, or one that tests
BLANK = ("", "-", "?", "na", "n/a", "nan", "none", "null")  # of a patient or slide: not known


def read_groups(
    folder: Path, description: Description, known: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, str]]:
    """id -> its groups, `known` ones and "set" among them; where nothing names sets, all images are for training.

    UserError: no such table, not a table, an image without a row or a row without its image, a name that the pattern
    does not fit, a set whose meaning is not clear."""
    groups, ids = {name: dict(values) for name, values in known.items()}, list(known)
    if description.groups:
        for name, row in read_table(folder / description.groups, ids).items():
            groups[name] |= row
    if description.pattern:
        for name in ids:
            found = re.search(description.pattern, name)
            if found is None:
                raise UserError(f"{folder}: the pattern of dataset.yaml does not fit the image '{name}'")
            both = sorted(found.groupdict().keys() & groups[name].keys())
            if both:
                raise UserError(f"{folder}: '{both[0]}' is a column of {description.groups} and a group of "
                                "the pattern; keep one")
            groups[name] |= {key: value or "" for key, value in found.groupdict().items()}
    for name, row in groups.items():
        row["set"] = _set(row.get("set", TRAIN), f"{folder}: the image '{name}'")
    return groups


def _set(given: str, where: str) -> str:
    """One of TRAIN, VALIDATION and TEST, however it is written, or a test set's own name, such as testA."""
    word = given.strip()
    if found := SETS.get(word.lower()):
        return found
    if word.lower().startswith(TEST):
        return word
    hint = " (it may be either)" if word.lower() in HALVES else ""
    raise UserError(f"{where} is in set '{given}'{hint}; write {TRAIN}, {VALIDATION} (it chooses the epoch) or {TEST} "
                    f"(or a test set's own name that begins so, as in testA)")


def patients(ids: Sequence[str], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Of each image who must not be both in training and test: its patient; without one, its slide's only patient or
    the slide; without either, the image itself. Blanks, NA and the like are no names."""
    rows = zip(groups.get("patient") or [""] * len(ids), groups.get("slide") or [""] * len(ids), strict=True)
    known = [tuple("" if name.strip().lower() in BLANK else name.strip() for name in row) for row in rows]
    of_slide: dict[str, set[str]] = {}
    for patient, slide in known:
        if patient and slide:
            of_slide.setdefault(slide, set()).add(patient)
    found = []
    for name, (patient, slide) in zip(ids, known, strict=True):
        others = of_slide.get(slide, set())
        found.append(patient or (next(iter(others)) if len(others) == 1 else slide and f"slide {slide}") or name)
    return found


def read_table(path: Path, ids: Sequence[str]) -> dict[str, dict[str, str]]:
    """id -> the other columns of its row. An id may be written with the file's extension."""
    rows = _rows(path)
    header = rows[0][1] if rows else []
    if "id" not in header or len(set(header)) < len(header) or not all(name.isidentifier() for name in header):
        raise UserError(f"{path}, line 1: expected different plain names of columns, id among them, as in "
                        "id,set,patient,grade")
    known, found = set(ids), dict[str, dict[str, str]]()
    for number, cells in rows[1:]:
        if len(cells) != len(header):
            raise UserError(f"{path}, line {number}: {len(cells)} cells under {len(header)} columns")
        row = dict(zip(header, cells, strict=True))
        name = unicodedata.normalize("NFC", row.pop("id"))
        name = name if name in known or Path(name).stem not in known else Path(name).stem
        if name not in known:
            raise UserError(f"{path}, line {number}: there is no image '{name}'.{suggest(name, ids)}")
        if name in found:
            raise UserError(f"{path}, line {number}: a second row for the image '{name}'")
        found[name] = row
    lost = [name for name in ids if name not in found]
    if lost:
        more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
        raise UserError(f"{path}: no row for the image '{lost[0]}'{more}")
    return found


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows that have something in them, with their line numbers; commas or semicolons divide the cells."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            text = file.read()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; dataset.yaml names it under groups") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text table in UTF-8; save it as CSV (UTF-8)") from None
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=";" if first.count(";") > first.count(",") else ",")
    try:
        return [(reader.line_num, cells) for row in reader if any(cells := [cell.strip() for cell in row])]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: not a table ({error})") from None
