"""A first `dataset.yaml` for a folder of images and masks: what is seen is written down, what is guessed is said."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmark.data import images
from benchmark.data.folder_files import IMAGES, MASKS, Files, files_of, listed
from benchmark.data.folder_schema import FILE, Tile, checked_tile, default_name, describe
from benchmark.errors import UserError
from benchmark.files import write_text

MOST_CLASSES = 32  # with more values than that, masks are not taken for classes
LARGE = 1024  # pixels of a side, above which a working size of 256 shows little of an image
TAIL = 0.001  # share of the pixels of 16 bits that become black, and white


@dataclass
class _Text:
    """Lines of the file, and lines for the user."""

    lines: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def add(self, line: str, told: str = "") -> None:
        self.lines.append(line)
        if told:
            self.told.append(told)


def new(folder: Path, tile: Tile | None = None) -> list[str]:
    """Look at `folder`, write `folder/dataset.yaml`, and return what was seen and guessed, in lines.

    UserError: there is one already, no images or masks, files that cannot be read, masks that are neither classes nor
    instances."""
    path = folder / FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a data set is a folder with images/ and masks/ in it")
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: is there already; edit it, or move it away")
    tile = tile and checked_tile(tile, "--tile")
    suffix = _suffix(folder)
    files = files_of(folder, suffix)
    text = _Text()
    text.add(f"name: {default_name(folder)}")
    bare = len(files.images) - len(files.masks)
    text.told.append(f"{len(files.images)} images, {len(files.masks)} with a mask"
                     + f"; the {bare} without one can only be unlabelled training images" * (bare > 0))
    _add_masks(text, files)
    if suffix:
        text.add(f"mask_suffix: {json.dumps(suffix)}", f"the mask of a.png is called a{suffix}.png")
    largest = _add_pixels(text, files)
    _add_groups(text, folder)
    if tile is not None:
        text.add(f"tile: {{size: {tile.size}, overlap: {tile.overlap}}}", f"cut into tiles of {tile.size} pixels")
    elif largest > LARGE:
        text.told.append(f"the largest image is {largest} pixels wide or high; if a preset's working size (256 in "
                         "`fair`) shows too little of it, 'tile: {size: 1024, overlap: 128}' cuts it")
    write_text(path, "\n".join(text.lines) + "\n")
    describe(folder)  # what is written must be what can be read
    return [*text.told, f"wrote {path}: read it, and put right what was guessed wrongly; then data check"]


def set_tile(folder: Path, tile: Tile) -> str:
    """Write the tiling into a dataset.yaml that has none, and say so. UserError where another stands there."""
    path, there = folder / FILE, describe(folder).tile
    checked_tile(tile, "--tile")
    if there == tile:
        return f"{path} says so already: {_shown(there)}"
    if there is not None:
        raise UserError(f"{path} has {_shown(there)}; change it there, as it makes other data of it")
    before = path.read_text(encoding="utf-8")
    text = before + ("" if before.endswith("\n") else "\n") + f"{_shown(tile)}\n"
    write_text(path, text)
    return f"{path}: added {_shown(tile)}"


def _shown(tile: Tile) -> str:
    return f"tile: {{size: {tile.size}, overlap: {tile.overlap}}}"


def _suffix(folder: Path) -> str:
    """What the names of all masks have behind those of their images."""
    named, masks = listed(folder, IMAGES), listed(folder, MASKS)
    if not masks or any(name in named for name in masks):
        return ""
    ends = [{name[len(image):] for image in named if name.startswith(image)} for name in masks]
    common = set.intersection(*ends)
    return min(common, key=len) if common else ""


def _add_masks(text: _Text, files: Files) -> None:
    """What the masks hold: colours, instances or classes."""
    colours: dict[int, int] = {}
    values: dict[int, int] = {}
    looks: list[_Look] = []
    for path in files.masks.values():
        try:
            mask = images.read_mask(path)
        except UserError:
            _count(colours, images.colour_numbers(path))
            continue
        _count(values, mask)
        looks.append(_look(mask))
    if colours:
        _add_colours(text, files, colours)
        return
    numbered = all(look.numbered for look in looks) and len({look.values for look in looks if look.values}) > 1
    if all(look.single for look in looks) and (len(values) > MOST_CLASSES or (len(values) > 3 and numbered)):
        most = max(look.values for look in looks)
        text.add("masks: instances", f"masks: up to {most} values an image, each one region: taken for instances; if "
                                     "they are classes, write 'masks: classes' and name them")
        text.add("classes: [background, object]")
        return
    if len(values) > MOST_CLASSES:
        raise UserError(f"{_place(files)}: {len(values)} values in the masks, which are neither instances (a value is "
                        "more than one region) nor classes; were they saved with loss?")
    _add_values(text, sorted(values))


def _add_values(text: _Text, values: list[int]) -> None:
    ignore = 255 if len(values) > 2 and values[-1] == 255 else None
    classes = [value for value in values if value != ignore]
    if 0 not in classes:
        text.told.append(f"no mask has the value 0; the first class, {classes[0]}, is taken for the background")
    if len(classes) < 2:
        classes.append(classes[0] + 1)
        text.told.append("masks: one value alone; is there nothing in them?")
    text.add("classes:", f"masks: the values {', '.join(map(str, classes))}, taken for classes: give them names")
    for value, name in zip(classes, _names(len(classes)), strict=True):
        text.add(f"  {name}: {value}")
    if ignore is not None:
        text.add("ignore: 255", "masks: 255 beside other classes is taken for 'unknown, to be ignored'")


def _add_colours(text: _Text, files: Files, colours: Mapping[int, int]) -> None:
    if len(colours) > MOST_CLASSES:
        raise UserError(f"{_place(files)}: {len(colours)} colours in the masks, too many for classes; were they saved "
                        "with loss, as JPEG is?")
    order = sorted(colours, key=lambda number: (number != 0, -colours[number], number))
    text.add("classes:", f"masks: {len(order)} colours, taken for classes, "
                         f"{'black' if order[0] == 0 else 'the most frequent'} for the background: give them names")
    for number, name in zip(order, _names(len(order)), strict=True):
        text.add(f"  {name}: [{number >> 16}, {number >> 8 & 255}, {number & 255}]")


def _names(count: int) -> list[str]:
    return ["background", "foreground"] if count == 2 else ["background", *(f"class_{n}" for n in range(1, count))]


def _count(counted: dict[int, int], numbers: np.ndarray) -> None:
    for value, count in zip(*np.unique(numbers, return_counts=True), strict=True):
        counted[int(value)] = counted.get(int(value), 0) + int(count)


def _place(files: Files) -> Path:
    return next(iter(files.masks.values())).parent


class _Look(NamedTuple):
    """Of a mask: how many values above 0, whether each is one connected region, whether they are 1, 2, 3 ..."""

    values: int
    single: bool
    numbered: bool


def _look(mask: np.ndarray) -> _Look:
    from scipy import ndimage

    ids = [int(value) for value in np.unique(mask) if value]
    single = all(ndimage.label(mask == value, structure=np.ones((3, 3)))[1] == 1 for value in ids[: MOST_CLASSES + 1])
    return _Look(len(ids), single, ids == list(range(1, len(ids) + 1)))


def _add_pixels(text: _Text, files: Files) -> int:
    """Colour or grey, 8 bits or 16; returns the largest side of an image."""
    counts, deep, grey, largest = np.zeros(1 << 16, np.int64), 0, True, 0
    for levels, shape, coloured in _looked_at(files):
        largest = max(largest, *shape)
        grey &= not coloured
        if levels is not None:
            deep += 1
            counts += np.bincount(levels.ravel(), minlength=1 << 16)
    if grey:
        text.add("pixels: grey", f"images: grey{f', {deep} of them of 16 bits' if deep else ''}")
    if deep:
        share = counts.cumsum() / counts.sum()
        low, high = int((share > TAIL).argmax()), int((share >= 1 - TAIL).argmax())
        high = max(high, low + 1)
        text.add(f"range: [{low}, {high}]  # {TAIL:.1%} of the pixels are below, as many above",
                 f"images: of 16 bits; {low} becomes black, {high} white: {1 - 2 * TAIL:.1%} of the pixels are between")
    return largest


def _looked_at(files: Files) -> Iterator[tuple[np.ndarray | None, tuple[int, int], bool]]:
    """Of each image its numbers of 16 bits, where it has them, its size, and whether it has colours."""
    for path in files.images.values():
        levels = images.read_levels(path)
        if levels is not None:
            yield levels, (levels.shape[0], levels.shape[1]), False
            continue
        pixels = images.read_image(path)
        yield None, (pixels.shape[0], pixels.shape[1]), bool((pixels != pixels[..., :1]).any())


def _add_groups(text: _Text, folder: Path) -> None:
    """The only table with a column `id`, where there is one."""
    tables = [path for path in sorted(folder.glob("*.csv")) if "id" in _header(path)]
    if len(tables) == 1:
        (table,) = tables
        columns = ", ".join(_header(table))
        text.add(f"groups: {json.dumps(table.name)}", f"groups: the columns {columns} of {table.name}")
        return
    text.add("# groups: groups.csv  # columns id, set, patient, slide, grade ...: whatever of it is known")
    text.add("# pattern: '(?P<patient>[^_]+)_.*'  # or from the names of the files")
    text.told.append("groups: none seen; if several images are of one patient or slide, the file can say so")


def _header(path: Path) -> list[str]:
    line = path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0]
    return [cell.strip() for cell in line.replace(";", ",").split(",")]
