"""A first `dataset.yaml` for a folder of images and masks: what is seen is written down, what is guessed is said."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.data import images
from benchmark.data.dataset import Tile
from benchmark.data.folder_files import Files, fields_of, files_of, find
from benchmark.data.folder_schema import FILE, default_name, describe
from benchmark.data.mask_guess import guess_masks
from benchmark.errors import UserError
from benchmark.files import write_text

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "groundtruth", "ground_truth")
SETS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
DEPTH = 4  # of folders, counted with those of images
LARGE = 1024  # pixels of a side, above which a working size of 256 shows little of an image
TAIL = 0.001  # share of the pixels of 16 bits that become black, and white
DEFAULT = "images/{name}", "masks/{name}"


def new(folder: Path, image_files: str = "", mask_files: str = "", tile: Tile | None = None) -> list[str]:
    """Look at the images, write `folder/dataset.yaml`, and return what was seen and guessed, in lines.

    image_files, mask_files: where they lie, as in dataset.yaml; or `image_files` alone, a folder with all of them.
    UserError: there is a dataset.yaml already, no images or masks, files that cannot be read, masks that are neither
    classes nor instances."""
    path = folder / FILE
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: is there already; edit it, or move it away")
    if not folder.is_dir() and not image_files:
        raise UserError(f"{folder}: no such folder; a data set is a folder with images/ and masks/ in it")
    layout = _layout(folder, image_files, mask_files)
    files = files_of(folder, *layout)
    bare = len(files.images) - len(files.masks)
    told = [f"{len(files.images)} images, {len(files.masks)} with a mask"
            + f"; the {bare} without one can only be unlabelled training images" * (bare > 0)]
    lines = [f"name: {default_name(folder)}"]
    suffix = layout[1].removeprefix(DEFAULT[1])
    if layout[0] == DEFAULT[0] and "/" not in suffix:
        lines += [f"mask_suffix: {json.dumps(suffix)}"] * bool(suffix)
        told += [f"the mask of a.png is called a{suffix}.png"] * bool(suffix)
    else:
        lines += [f"image_files: {json.dumps(layout[0])}", f"mask_files: {json.dumps(layout[1])}"]
        groups = ", ".join(name for name in fields_of(layout[0]) if name != "name") or "no groups"
        told.append(f"images at {layout[0]}, masks at {layout[1]}; from the folders' names: {groups} (rename them "
                    "there where they are patient, slide, grade or set)")
    for seen in (guess_masks(files), _pixels(files), _groups(folder)):
        lines += seen[0]
        told += seen[1]
    if tile is not None:
        lines.append(_shown(tile))
    folder.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")
    describe(folder)  # what is written must be what can be read
    return [*told, f"wrote {path}: read it, and correct what was guessed wrongly; then data check"]


def set_tile(folder: Path, tile: Tile) -> str:
    """Write the tiling into a dataset.yaml that has none, and say so. UserError where another stands there."""
    path, there = folder / FILE, describe(folder).tile
    if there not in (None, tile):
        raise UserError(f"{path} has {_shown(there)}; change it there, as it makes other data of it")
    if there is None:
        before = path.read_text(encoding="utf-8")
        write_text(path, before + "\n" * (not before.endswith("\n")) + _shown(tile) + "\n")
    return f"{path}: {'says so already' if there else 'added'} {_shown(tile)}"


def _shown(tile: Tile) -> str:
    return f"tile: {{size: {tile.size}, overlap: {tile.overlap}}}"


def _layout(folder: Path, image_files: str, mask_files: str) -> tuple[str, str]:
    """Patterns of the images and the masks: as given, or as the folders' names and the ends of the files' have it."""
    root, masks_at = _from(folder, image_files), _from(folder, mask_files)
    if bool(mask_files) != ("{" in image_files):
        raise UserError("--images and --masks: give both as patterns, as in '{grade}/image/{name}', or --images alone "
                        "as the folder that holds all")
    layout = (root, masks_at) if mask_files else _folders(folder, root)
    if mask_files:
        return layout
    found = [find(folder, pattern) for pattern in layout]
    ids, masks = ({tuple(each.values.values()) for each in side} for side in found)
    if ids & masks:
        return layout
    return layout[0] + _common_end(found[0]), layout[1] + _common_end(found[1])


def _from(folder: Path, pattern: str) -> str:
    """The pattern as it is written into `folder`; given, it may begin where the command is."""
    fixed = pattern.partition("{")[0]
    if not fixed or Path(folder, fixed).exists() or os.path.isabs(fixed):
        return pattern
    return os.path.join(os.path.relpath(fixed, folder), pattern[len(fixed):])


def _folders(folder: Path, root: str) -> tuple[str, str]:
    """Folders called like images and masks, beside each other, in `folder` or in folders of it."""
    level, above = [folder / root], ""
    for depth in range(DEPTH):
        inner = [[path for path in sorted(place.iterdir()) if path.is_dir() and path.name[0] != "."] for place in level]
        for inside in inner:
            names = {path.name.lower(): path.name for path in inside}
            image, mask = (next((names[name] for name in known if name in names), None)
                           for known in (IMAGE_FOLDERS, MASK_FOLDERS))
            if image and mask:
                return os.path.join(root, above, image, "{name}"), os.path.join(root, above, mask, "{name}")
        level = [path for inside in inner for path in inside]
        sets = {path.name.lower() for path in level} <= SETS
        above += "{set}/" if sets else "{grade}/" if "{grade}" not in above else f"{{folder_{depth}}}/"
    raise UserError(f"{folder / root}: no folder 'images' beside one 'masks' in it; a data set is images/, masks/ and "
                    f"{FILE}, or say where they lie: --images '{{grade}}/image/{{name}}' --masks ...")


def _common_end(files: Sequence) -> str:
    """Letters, with what divides them from the rest, that all names end with, as in `_mask`."""
    names = [found.path.stem for found in files]
    ends = [match.group() for name in names if (match := re.search(r"[_\-. ]*[A-Za-z]*$", name))]
    shortest = min(ends, key=len, default="")
    return shortest if all(name.endswith(shortest) for name in names) else ""


def _pixels(files: Files) -> tuple[list[str], list[str]]:
    """Colour or grey, 8 bits or 16; and whether images are large."""
    counts, deep, grey, largest = np.zeros(1 << 16, np.int64), 0, True, 0
    for path in files.images.values():
        pixels = images.read_levels(path)
        if pixels is not None:
            deep += 1
            counts += np.bincount(pixels.ravel(), minlength=1 << 16)
        else:
            pixels = images.read_image(path)
            grey = grey and not (pixels != pixels[..., :1]).any()
        largest = max(largest, *pixels.shape[:2])
    lines, told = ["pixels: grey"] * grey, ["images: grey"] * grey
    if deep:
        share = counts.cumsum() / counts.sum()
        low, high = int((share > TAIL).argmax()), int((share >= 1 - TAIL).argmax())
        high = max(high, low + 1)
        lines.append(f"range: [{low}, {high}]  # {TAIL:.1%} of the pixels are below, as many above")
        told.append(f"images: {deep} of 16 bits; {low} becomes black, {high} white: {1 - 2 * TAIL:.1%} of the pixels "
                    "are between")
    if largest > LARGE:
        told.append(f"the largest image is {largest} pixels wide or high; if a preset's working size (256 in `fair`) "
                    "shows too little of it, 'tile: {size: 1024, overlap: 128}' cuts it")
    return lines, told


def _groups(folder: Path) -> tuple[list[str], list[str]]:
    """A table with a column `id`, where there is one alone."""
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        header = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0]
        columns = [cell.strip() for cell in re.split("[,;]", header)]
        if "id" in columns:
            tables[path.name] = f"groups: the columns {', '.join(columns)} of {path.name}"
    if len(tables) == 1:
        return [f"groups: {json.dumps(name)}" for name in tables], list(tables.values())
    return [
        "# groups: groups.csv  # columns id, set, patient, slide, grade ...: whatever of it is known",
        "# pattern: '(?P<patient>[^_]+)_.*'  # or from the names of the files",
    ], ["groups: no table seen; if several images are of one patient or slide, dataset.yaml can say so"]
