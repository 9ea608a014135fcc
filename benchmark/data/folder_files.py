"""Where the images and masks of a folder lie: `{grade}/image/{name}` is a path with names in braces for what varies."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmark.data.images import EXTENSIONS
from benchmark.errors import UserError

FIELD = re.compile(r"\{(.*?)\}")
JUNK = ("Thumbs.db", "desktop.ini")
TAKEN = (".classes", ".ignore", ".shape")  # ends of names that mean something else in our own files


class Files(NamedTuple):
    """By id, in order of the ids, numbers in them as numbers: the images, the masks of those that have one, and what
    else than `name` the braces stand for."""

    images: dict[str, Path]
    masks: dict[str, Path]
    groups: dict[str, dict[str, str]]


class Found(NamedTuple):
    """A file, and what each name in braces stands for."""

    path: Path
    values: dict[str, str]


def fields_of(pattern: str) -> list[str]:
    """The names in braces, each once. ValueError for braces with no plain name in them."""
    names = list(dict.fromkeys(FIELD.findall(pattern)))
    for name in names:
        if not name.isidentifier():
            raise ValueError(f"'{{{name}}}' is no plain name")
    return names


def files_of(folder: Path, image_files: str, mask_files: str, mask_suffix: str = "", follow: bool = False) -> Files:
    """The images and their masks. An id is what the braces stand for, joined by underscores.

    follow: links may lead out of the folder.
    UserError: no images or no masks, a mask without its image, two files of one id, a file that is no image, a link
    that leads out of the folder."""
    order = fields_of(image_files)
    images = _by_id(find(folder, image_files, follow), order)
    if not images:
        raise UserError(f"{folder}: no images ({', '.join(EXTENSIONS)}) at '{image_files}'")
    masks: dict[str, Path] = {}
    for name, found in _by_id(find(folder, mask_files + mask_suffix, follow), order).items():
        if name not in images:
            hint = f" (mask_suffix is '{mask_suffix}')" if mask_suffix else ""
            raise UserError(f"{found.path}: a mask without its image{hint}; masks are called like their images")
        masks[name] = found.path
    if not masks:
        raise UserError(f"{folder}: no masks at '{mask_files}{mask_suffix}'; some of the images need one")
    ids = sorted(images, key=natural)
    return Files(
        {name: images[name].path for name in ids}, {name: masks[name] for name in ids if name in masks},
        {name: {key: value for key, value in images[name].values.items() if key != "name"} for name in ids},
    )


def find(folder: Path, pattern: str, follow: bool = False) -> list[Found]:
    """The image files that the pattern, without extension, fits; what begins with a dot is passed over."""
    parts = pattern.split("/")
    fixed = next(number for number, part in enumerate(parts) if "{" in part)
    start = Path(folder, "/".join(parts[:fixed]))
    home = folder if Path(os.path.normpath(start)).is_relative_to(os.path.normpath(folder)) else start
    if not start.is_dir():
        raise UserError(f"{start}: no such folder; a data set is images/, masks/ and dataset.yaml, or its image_files "
                        "and mask_files say where they lie")
    found = list(_walk(start, [_expression(part) for part in parts[fixed:]], {}))
    for path, _ in found:
        if path.is_dir():
            raise UserError(f"{path}: a folder where '{pattern}' has images; if they lie in it, change image_files and "
                            "mask_files, as in '{grade}/image/{name}'")
        if path.suffix.lower() not in EXTENSIONS:
            raise UserError(f"{path}: not an image by its name ({', '.join(EXTENSIONS)}); move it away or convert it")
        if not follow:
            inside(home, path)
    return found


def _expression(part: str) -> re.Pattern[str]:
    """A part of a path: a name in braces stands for as little as fits, and for the same where it comes again."""
    text, seen = "", set()
    for place, piece in enumerate(FIELD.split(part)):
        if place % 2 == 0:
            text += re.escape(piece)
        else:
            text += f"(?P={piece})" if piece in seen else f"(?P<{piece}>.+?)"
            seen.add(piece)
    return re.compile(text, re.S)


def _walk(place: Path, parts: Sequence[re.Pattern[str]], known: dict[str, str]) -> Iterator[Found]:
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name in JUNK:
            continue
        last = len(parts) == 1
        match = parts[0].fullmatch(path.stem if last else path.name)
        values = {key: unicodedata.normalize("NFC", value) for key, value in match.groupdict().items()} if match else {}
        if match is None or any(known.get(key, value) != value for key, value in values.items()):
            continue
        if last:
            yield Found(path, known | values)
        elif path.is_dir():
            yield from _walk(path, parts[1:], known | values)


def _by_id(files: Sequence[Found], order: Sequence[str]) -> dict[str, Found]:
    made: dict[str, Found] = {}
    for found in files:
        name = "_".join(found.values[key] for key in order)
        if not name.isprintable() or name != name.strip() or name.endswith(TAKEN):
            raise UserError(f"{found.path.parent / repr(found.path.name)}: an image cannot be called so; give it a "
                            "plainer name")
        if name in made:
            raise UserError(f"{found.path}: a second file called '{name}' beside {made[name].path}; keep one")
        made[name] = found
    return made


def inside(folder: Path, path: Path) -> Path:
    """`path` itself; UserError where it leads out of `folder`, as a link may."""
    target, home = path.resolve(), folder.resolve()
    if not target.is_relative_to(home):
        raise UserError(f"{path}: leads out of the folder, to {target}; put the file itself there, or write "
                        "'follow_links: true' into dataset.yaml")
    return path


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return tuple(zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True))
