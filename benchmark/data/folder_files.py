"""The files of a folder of one's own: which image has which mask, by name; and what may not be there."""

from __future__ import annotations

import re
import unicodedata
from pathlib import Path
from typing import NamedTuple

from benchmark.data.images import EXTENSIONS
from benchmark.errors import UserError

IMAGES, MASKS = "images", "masks"
READ = (*EXTENSIONS, ".jpg", ".jpeg")
JUNK = ("Thumbs.db", "desktop.ini")
TAKEN = (".classes", ".ignore", ".shape")  # ends of names that mean something else in our own files


class Files(NamedTuple):
    """The images in order of their names, numbers in them as numbers, and the masks of those that have one, by id."""

    images: dict[str, Path]
    masks: dict[str, Path]


def files_of(folder: Path, mask_suffix: str = "") -> Files:
    """What lies in `images/` and `masks/`; an id is a file's name without its extension.

    UserError: no images or no masks, a mask without its image, two files of one name, a file that is no image, a link
    that leads out of the folder."""
    images, masks = listed(folder, IMAGES), listed(folder, MASKS)
    if not images:
        raise UserError(f"{folder / IMAGES}: no images in it ({', '.join(READ)})")
    by_id = {}
    for name, path in masks.items():
        image = name.removesuffix(mask_suffix) if name.endswith(mask_suffix) else ""
        if image not in images:
            hint = f" (mask_suffix is '{mask_suffix}')" if mask_suffix else ""
            raise UserError(f"{path}: a mask without its image{hint}; masks are called like their images")
        by_id[image] = path
    if not by_id:
        raise UserError(f"{folder / MASKS}: no masks in it; some of the images need one")
    return Files(images, {name: by_id[name] for name in images if name in by_id})


def listed(folder: Path, part: str) -> dict[str, Path]:
    """Name without extension -> file, of `folder/part`, in natural order."""
    place = inside(folder, folder / part)
    if not place.is_dir():
        raise UserError(f"{folder}: no folder '{part}' in it; a data set is images/, masks/ and dataset.yaml")
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name in JUNK:
            continue
        if path.is_dir():
            raise UserError(f"{path}: a folder; images lie in {place} itself, not in folders of it")
        if path.suffix.lower() not in READ:
            raise UserError(f"{path}: not an image by its name ({', '.join(READ)}); move it away or convert it")
        inside(folder, path)
        name = unicodedata.normalize("NFC", path.stem)  # a Mac writes accents in two characters
        if not name.isprintable() or name != name.strip() or name.endswith(TAKEN):
            raise UserError(f"{path.parent / repr(path.name)}: an image cannot be called so; give it a plainer name")
        if name in found:
            raise UserError(f"{path}: a second file called '{name}' beside {found[name].name}; keep one")
        found[name] = path
    return {name: found[name] for name in sorted(found, key=natural)}


def inside(folder: Path, path: Path) -> Path:
    """`path` itself; UserError where it leads out of `folder`, as a link may."""
    target, home = path.resolve(), folder.resolve()
    if not target.is_relative_to(home):
        raise UserError(f"{path}: leads out of the folder, to {target}; put the file itself there, or link the whole "
                        "data set")
    return path


def natural(name: str) -> tuple[tuple[str, int], ...]:
    """A key that sorts a2 before a10."""
    parts = re.split(r"(\d+)", name)
    return tuple(zip(parts[::2], [*map(int, parts[1::2]), -1], strict=True))
