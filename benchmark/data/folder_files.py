"""What lies in a folder of one's own: images, masks, and what a table or their names say of each image.

`{grade}/image/{name}` is a path with names in braces for what varies."""

from __future__ import annotations

import csv
import os
import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from benchmark.data.fold_lists import TRAIN, VALIDATION
from benchmark.data.images import EXTENSIONS, is_hidden, misnamed
from benchmark.errors import UserError, listed, suggest

FIELD = re.compile(r"\{(.*?)\}")
JUNK = ("Thumbs.db", "desktop.ini")
OURS = (".yaml", ".csv", ".txt")  # ends of files that describe the data, and may lie beside images
TAKEN = (".classes", ".ignore", ".shape")  # ends of names that mean something else in our own files
MEANT = ("patient", "slide", "set", "grade")
TEST = "test"
SETS = {"train": TRAIN, "training": TRAIN, "validation": VALIDATION, "test": TEST, "testing": TEST}


class Files(NamedTuple):
    """By id, in natural order of the ids: the images, the masks of those that have one, and what the braces stand for
    except `name`."""

    images: dict[str, Path]
    masks: dict[str, Path]
    groups: dict[str, dict[str, str]]


def fields_of(pattern: str) -> list[str]:
    """The names in braces, each once. ValueError for braces with no plain name in them."""
    names = list(dict.fromkeys(FIELD.findall(pattern)))
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"'{{{name}}}' is no plain name")
    return names


def files_of(folder: Path, image_files: str, mask_files: str, follow_links: bool = False) -> Files:
    """The images and their masks. An id is what the braces stand for, joined by underscores. A mask is no image, though
    the pattern of the images may fit it, too.

    UserError: no images or no masks, a mask without its image, two files of one id, a file that is no image, a link
    that leads out of the folder (unless followed)."""
    order = fields_of(image_files)
    sides: list[dict[str, Path]] = []
    groups: dict[str, dict[str, str]] = {}
    for what, pattern in (("masks", mask_files), ("images", image_files)):
        found: dict[str, Path] = {}
        taken = {path for side in sides for path in side.values()}
        for path, values in find(folder, pattern, follow_links):
            if path in taken:
                continue
            name = "_".join(values[key] for key in order)
            if not name.isprintable() or name != name.strip() or name.endswith(TAKEN):
                raise misnamed(path)
            if name in found:
                raise UserError(f"{path}: a second file called '{name}' beside {found[name]}; keep one")
            found[name] = path
            groups[name] = {_meant(key): value for key, value in values.items() if key != "name"}
        if not found:
            raise UserError(f"{folder}: no {what} ({', '.join(EXTENSIONS)}) at '{pattern}'")
        sides.append(found)
    masks, images = sides
    for name in masks.keys() - images.keys():
        raise UserError(f"{masks[name]}: a mask without its image; masks are called like their images, or mask_suffix "
                        "or mask_files says how ('data new': --images and --masks)")
    ids = sorted(images, key=_natural)
    return Files({name: images[name] for name in ids}, {name: masks[name] for name in ids if name in masks},
                 {name: groups[name] for name in ids})


def find(folder: Path, pattern: str, follow_links: bool = False) -> list[tuple[Path, dict[str, str]]]:
    """The image files that the pattern, without extension, fits, and what each name in braces stands for; what begins
    with a dot is passed over."""
    fixed = re.match(r"([^{]*/)?", pattern).group()  # type: ignore[union-attr]  # it may be empty
    start = Path(folder, fixed)
    home = folder if Path(os.path.normpath(start)).is_relative_to(os.path.normpath(folder)) else start
    if not start.is_dir():
        raise UserError(f"{start}: no such folder; a data set is images/, masks/ and dataset.yaml, or its image_files "
                        "and mask_files say where they lie")
    varied = pattern[len(fixed):]
    expression, found = _expression(varied), []
    shape = FIELD.sub("*", re.sub(r"[\[\]?*]", "[\\g<0>]", varied)).removesuffix("*") + "*"
    for path in sorted(start.glob(shape)):
        inner = path.relative_to(start)
        match = expression.fullmatch(unicodedata.normalize("NFC", str(inner.with_suffix(""))))
        if match is None or path.name in JUNK or is_hidden(inner):
            continue
        if path.parent == folder and (path.name == "splits" or path.suffix in OURS):
            continue
        if path.is_dir() or path.suffix.lower() not in EXTENSIONS:
            what = "a folder" if path.is_dir() else f"not an image by its name ({', '.join(EXTENSIONS)})"
            raise UserError(f"{path}: {what}; move it away, or say in dataset.yaml where images and masks lie, as in "
                            "image_files: '{grade}/image/{name}'")
        if not follow_links and not path.resolve().is_relative_to(home.resolve()):
            raise UserError(f"{path}: leads out of the folder, to {path.resolve()}; put the file itself there, or "
                            "write 'follow_links: true' into dataset.yaml ('data new': --follow-links)")
        found.append((path, match.groupdict()))
    return found


def _expression(pattern: str) -> re.Pattern[str]:
    """A name in braces stands for as little as fits of one part of a path, and for the same where it comes again."""
    text = ""
    for place, piece in enumerate(FIELD.split(unicodedata.normalize("NFC", pattern))):
        group = f"(?P={piece})" if f"(?P<{piece}>" in text else f"(?P<{piece}>[^/]+?)"
        text += group if place % 2 else re.escape(piece)
    return re.compile(text)


def _natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return tuple(zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True))


def read_groups(
    folder: Path, table: str, pattern: str, known: Mapping[str, Mapping[str, str]],
) -> dict[str, dict[str, str]]:
    """id -> its groups, `known` ones and "set" among them; where nothing names sets, all images are for training.

    table: the name of a CSV file, pattern: an expression for ids; each may be empty.
    UserError: no such table, not a table, an image without a row or a row without its image, a name that the pattern
    does not fit, a set whose meaning is not clear."""
    groups = {name: dict(values) for name, values in known.items()}
    for name, row in (_read_table(folder / table, known) if table else {}).items():
        for key in row.keys() & groups[name].keys():
            if row[key] != groups[name][key]:
                raise UserError(f"{folder / table}: {key} of '{name}' is '{row[key]}', but by its folder "
                                f"'{groups[name][key]}'; keep one")
        groups[name] |= row
    for name, row in groups.items():
        if pattern:
            found = re.search(pattern, name)
            if found is None:
                raise UserError(f"{folder}: the pattern of dataset.yaml does not fit the image '{name}'")
            more = {_meant(key): value or "" for key, value in found.groupdict().items()}
            for key in more.keys() & row.keys():
                raise UserError(f"{folder}: '{key}' is a column of {table} and a group of the pattern; keep one")
            row |= more
        row["set"] = _set(row.get("set", TRAIN), f"{folder}: the image '{name}'")
    return groups


def _meant(key: str, names: tuple[str, ...] = MEANT) -> str:
    """The name of a column or group; one with a meaning may be in capitals."""
    return key.lower() if key.lower() in names else key


def _set(given: str, where: str) -> str:
    """One of TRAIN, VALIDATION and TEST, however it is written, or a test set's own name, such as testA."""
    word = given.strip()
    if word.lower() in SETS or word.lower().startswith(TEST):
        return SETS.get(word.lower(), word)
    raise UserError(f"{where} is in set '{given}'; write {TRAIN}, {VALIDATION} (it chooses the epoch) or {TEST} "
                    "(or a test set's own name that begins so, as in testA), or rename its folder so")


def read_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a table, divided by commas or semicolons: number, and cells without the blanks around them."""
    try:
        text = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; dataset.yaml names it under groups") from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: not a text table in UTF-8; save it as CSV (UTF-8)") from None
    first = text[0] if text else ""
    reader = csv.reader(text, delimiter=";" if first.count(";") > first.count(",") else ",")
    try:
        for cells in reader:
            yield reader.line_num, [cell.strip() for cell in cells]
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}; does a quotation mark not end?") from None


def _read_table(path: Path, ids: Collection[str]) -> dict[str, dict[str, str]]:
    """id -> the other columns of its row. An id may be written with the file's extension."""
    lines = read_lines(path)
    header = [_meant(name, ("id", *MEANT)) for name in next(lines, (1, []))[1]]
    if "id" not in header or len(set(header)) < len(header) or not all(name.isidentifier() for name in header):
        raise UserError(f"{path}, line 1: expected different plain names of columns, id among them, as in "
                        "id,set,patient,grade")
    found: dict[str, dict[str, str]] = {}
    for line, cells in lines:
        if not any(cells):
            continue
        if len(cells) != len(header):
            raise UserError(f"{path}, line {line}: {len(cells)} cells under {len(header)} columns")
        row = dict(zip(header, cells, strict=True))
        name = unicodedata.normalize("NFC", row.pop("id"))
        if name not in ids and Path(name).stem in ids:
            name = Path(name).stem
        if name not in ids or name in found:
            what = "a second row for the" if name in found else "there is no"
            raise UserError(f"{path}, line {line}: {what} image '{name}'."
                            + suggest(name, ids) * (name not in ids))
        found[name] = row
    if lost := [f"'{name}'" for name in ids if name not in found]:
        raise UserError(f"{path}: no row for the image {listed(lost)}")
    return found
