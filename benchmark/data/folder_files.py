"""Where the images and masks of a folder lie: `{grade}/image/{name}` is a path with names in braces for what varies."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from benchmark.data.images import EXTENSIONS
from benchmark.errors import UserError

FIELD = re.compile(r"\{(.*?)\}")
JUNK = ("Thumbs.db", "desktop.ini")
TAKEN = (".classes", ".ignore", ".shape")  # ends of names that mean something else in our own files


class Files(NamedTuple):
    """By id, in natural order of the ids: the images, the masks of those that have one, and what the braces stand for
    except `name`."""

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


def files_of(folder: Path, image_files: str, mask_files: str, follow_links: bool = False) -> Files:
    """The images and their masks. An id is what the braces stand for, joined by underscores.

    UserError: no images or no masks, a mask without its image, two files of one id, a file that is no image, a link
    that leads out of the folder (unless followed)."""
    order = fields_of(image_files)
    images, masks = (_by_id(find(folder, each, follow_links), order) for each in (image_files, mask_files))
    for what, found, pattern in (("images", images, image_files), ("masks", masks, mask_files)):
        if not found:
            raise UserError(f"{folder}: no {what} ({', '.join(EXTENSIONS)}) at '{pattern}'")
    for name in masks.keys() - images.keys():
        raise UserError(f"{masks[name].path}: a mask without its image; masks are called like their images, or "
                        "mask_suffix or mask_files says how")
    ids = sorted(images, key=natural)
    return Files(
        {name: images[name].path for name in ids}, {name: masks[name].path for name in ids if name in masks},
        {name: {key: value for key, value in images[name].values.items() if key != "name"} for name in ids},
    )


def find(folder: Path, pattern: str, follow_links: bool = False) -> list[Found]:
    """The image files that the pattern, without extension, fits; what begins with a dot is passed over."""
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
        match = expression.fullmatch(unicodedata.normalize("NFC", str(path.relative_to(start).with_suffix(""))))
        if match is None or path.name in JUNK or any(part[0] == "." for part in path.relative_to(start).parts):
            continue
        if path.is_dir() or path.suffix.lower() not in EXTENSIONS:
            what = "a folder" if path.is_dir() else f"not an image by its name ({', '.join(EXTENSIONS)})"
            raise UserError(f"{path}: {what}; move it away, or say in dataset.yaml where images and masks lie, as in "
                            "image_files: '{grade}/image/{name}'")
        if not follow_links and not path.resolve().is_relative_to(home.resolve()):
            raise UserError(f"{path}: leads out of the folder, to {path.resolve()}; put the file itself there, or "
                            "write 'follow_links: true' into dataset.yaml")
        found.append(Found(path, match.groupdict()))
    return found


def _expression(pattern: str) -> re.Pattern[str]:
    """A name in braces stands for as little as fits of one part of a path, and for the same where it comes again."""
    text, seen = "", set()
    for place, piece in enumerate(FIELD.split(pattern)):
        if place % 2 == 0:
            text += re.escape(unicodedata.normalize("NFC", piece))
        else:
            text += f"(?P={piece})" if piece in seen else f"(?P<{piece}>[^/]+?)"
            seen.add(piece)
    return re.compile(text)


def _by_id(files: list[Found], order: list[str]) -> dict[str, Found]:
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


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return tuple(zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True))
