"""A first `dataset.yaml` for a folder of images and masks: what is seen is written down, what is guessed is said."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmark.data import images
from benchmark.data.folder_files import Files, fields_of, files_of, find
from benchmark.data.folder_schema import FILE, Description, default_name, describe
from benchmark.data.tiles import Tile
from benchmark.errors import UserError
from benchmark.files import write_text

IMAGE_FOLDERS = ("images", "image", "img", "imgs")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "groundtruth", "ground_truth")
SETS = ("train", "training", "val", "valid", "validation", "dev", "test", "testing")
DEPTH = 4  # folders above those of images
MOST_CLASSES = 32  # with more values than that, masks are not taken for classes
SMOOTH = 0.95  # share of the pixels at both ends of the grey values, above which a threshold divides them
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


def new(folder: Path, image_files: str = "", mask_files: str = "", tile: Tile | None = None) -> list[str]:
    """Look at the images, write `folder/dataset.yaml`, and return what was seen and guessed, in lines.

    image_files, mask_files: where they lie, as in dataset.yaml, if not in `folder`; or a folder with all of them.
    UserError: there is a dataset.yaml already, no images or masks, files that cannot be read, masks that are neither
    classes nor instances."""
    path = folder / FILE
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: is there already; edit it, or move it away")
    if image_files:
        folder.mkdir(parents=True, exist_ok=True)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; a data set is a folder with images/ and masks/ in it")
    text = _Text([f"name: {default_name(folder)}"])
    image_files, mask_files = _layout(folder, image_files, mask_files)
    files = files_of(folder, image_files, mask_files)
    bare = len(files.images) - len(files.masks)
    text.told.append(f"{len(files.images)} images, {len(files.masks)} with a mask"
                     + f"; the {bare} without one can only be unlabelled training images" * (bare > 0))
    suffix = mask_files.removeprefix("masks/{name}")
    if image_files == "images/{name}" and suffix and "/" not in suffix:
        text.add(f"mask_suffix: {json.dumps(suffix)}", f"the mask of a.png is called a{suffix}.png")
    elif (image_files, mask_files) != ("images/{name}", "masks/{name}"):
        text.add(f"image_files: {json.dumps(image_files)}", f"images: {image_files}, masks: {mask_files}")
        text.add(f"mask_files: {json.dumps(mask_files)}")
        if more := [name for name in fields_of(image_files) if name != "name"]:
            text.told.append(f"groups by folder: {', '.join(more)}; rename them where they are patient, slide or set")
    _add_masks(text, files)
    largest = _add_pixels(text, files)
    _add_groups(text, folder)
    if tile is not None:
        text.add(_shown(tile), f"cut into tiles of {tile.size} pixels")
    elif largest > LARGE:
        text.told.append(f"the largest image is {largest} pixels wide or high; if a preset's working size (256 in "
                         "`fair`) shows too little of it, 'tile: {size: 1024, overlap: 128}' cuts it")
    write_text(path, "\n".join(text.lines) + "\n")
    describe(folder)  # what is written must be what can be read
    return [*text.told, f"wrote {path}: read it, and correct what was guessed wrongly; then data check"]


def set_tile(folder: Path, tile: Tile) -> str:
    """Write the tiling into a dataset.yaml that has none, and say so. UserError where another stands there."""
    path, there = folder / FILE, describe(folder).tile
    if there is not None:
        shown = _shown(Tile(there.size, there.overlap))
        if shown != _shown(tile):
            raise UserError(f"{path} has {shown}; change it there, as it makes other data of it")
        return f"{path} says so already: {shown}"
    before = path.read_text(encoding="utf-8")
    write_text(path, before + "\n" * (not before.endswith("\n")) + _shown(tile) + "\n")
    return f"{path}: added {_shown(tile)}"


def _shown(tile: Tile) -> str:
    return f"tile: {{size: {tile.size}, overlap: {tile.overlap}}}"


def _layout(folder: Path, image_files: str, mask_files: str) -> tuple[str, str]:
    """Patterns of the images and the masks: as given, or as the folders' names and the ends of the files' have it."""
    root = image_files if "{" not in image_files else ""
    if root and not os.path.isabs(root):
        root = os.path.relpath(root, folder)
    if not mask_files and "{" not in image_files:
        image_files, mask_files = _guessed(folder, root)
    elif not mask_files or not image_files:
        raise UserError("--images and --masks: give both as patterns like '{grade}/image/{name}', or --images alone as "
                        "the folder of all")
    named = Description(classes={"background": 0, "object": 1}, image_files=image_files, mask_files=mask_files)
    image_files, mask_files = named.image_files, named.mask_files
    ends = [_common_end([found.path.stem for found in find(folder, each)]) for each in (image_files, mask_files)]
    if not image_files.endswith("{name}") or not mask_files.endswith("{name}"):
        return image_files, mask_files
    ids = [{tuple(found.values.values()) for found in find(folder, each)} for each in (image_files, mask_files)]
    return (image_files, mask_files) if ids[0] & ids[1] else (image_files + ends[0], mask_files + ends[1])


def _guessed(folder: Path, root: str) -> tuple[str, str]:
    """Folders called like images and masks, beside each other, in `folder` or in folders of it."""
    start = folder / root
    level, above = [start], ""
    for depth in range(DEPTH):
        for place in level:
            names = {path.name.lower(): path.name for path in sorted(place.iterdir()) if path.is_dir()}
            pair = [next((names[name] for name in known if name in names), None)
                    for known in (IMAGE_FOLDERS, MASK_FOLDERS)]
            if all(pair):
                image_files, mask_files = (os.path.join(root, above, str(name), "{name}") for name in pair)
                return image_files, mask_files
        level = [path for place in level for path in sorted(place.iterdir())
                 if path.is_dir() and not path.name.startswith(".")]
        words = {path.name.lower() for path in level}
        above += "{set}/" if words <= {*SETS} else "{grade}/" if "{grade}" not in above else f"{{folder_{depth}}}/"
    raise UserError(f"{start}: no folder 'images' beside one 'masks' in it; a data set is images/, masks/ and {FILE}, "
                    "or say where they lie: --images '{grade}/image/{name}' --masks '{grade}/label/{name}'")


def _common_end(names: Sequence[str]) -> str:
    """Letters, with what divides them from the rest, that all names end with, as in `_mask`."""
    ends = {re.search(r"[_\-. ]*[A-Za-z]*$", name) for name in names}
    shortest = min((match.group() for match in ends if match), key=len, default="")
    return shortest if all(name.endswith(shortest) for name in names) else ""


def _add_masks(text: _Text, files: Files) -> None:
    """What the masks hold: colours, instances, grey values on two sides of a threshold, or classes."""
    colours: Counter[int] = Counter()
    values: Counter[int] = Counter()  # pixels
    held: list[set[int]] = []  # of each mask, the values above 0
    lossy = False
    for path in files.masks.values():
        try:
            mask = images.read_mask(path)
        except UserError:
            try:
                mask = images.read_mask(path, lossy=True)
                lossy = True
            except UserError:
                colours += _counted(images.colour_numbers(path))
                continue
        counted = _counted(mask)
        values += counted
        held.append({*counted} - {0})
    if colours:
        _add_colours(text, files, colours)
    elif not lossy and _are_instances(files, held):
        text.add("masks: instances", f"masks: up to {max(map(len, held))} values an image, each one region: taken for "
                                     "instances; if they are classes, write 'masks: classes' and name them")
        text.add("classes: [background, object]")
    elif lossy or len(values) > MOST_CLASSES:
        _add_threshold(text, files, values)
    else:
        _add_values(text, values, held)


def _counted(numbers: np.ndarray) -> Counter[int]:
    return Counter(dict(zip(*(part.tolist() for part in np.unique(numbers, return_counts=True)), strict=True)))


def _are_instances(files: Files, held: Sequence[set[int]]) -> bool:
    """Whether each value of a mask is one region, and there are too many for classes, or 1, 2, 3 ... to each mask."""
    from scipy import ndimage

    everything = set().union(*held)
    numbered = all(len(each) == max(each, default=0) for each in held) and len({*map(len, held)} - {0}) > 1
    if len(everything) < 3 or not (numbered or len(everything) >= MOST_CLASSES):
        return False
    return all(
        ndimage.label(mask == value, structure=np.ones((3, 3)))[1] == 1
        for mask in map(images.read_mask, files.masks.values()) for value in np.unique(mask)[:MOST_CLASSES] if value
    )


def _add_threshold(text: _Text, files: Files, values: Counter[int]) -> None:
    low, high = min(values), max(values)
    near = (high - low) // 16
    share = sum(count for value, count in values.items() if min(value - low, high - value) <= near) / values.total()
    if share < SMOOTH or high - low < 16:
        raise UserError(f"{_place(files)}: {len(values)} values in the masks, which are neither instances (a value is "
                        f"more than one region) nor classes; were they saved with loss?{_swapped(files)}")
    middle = (low + high + 1) // 2
    text.add(f"classes:\n  background: 0\n  foreground: {{from: {middle}}}",
             f"masks: {len(values)} grey values, {share:.1%} of the pixels near {low} or {high}: a threshold divides "
             f"them; {middle} and more is taken for the foreground: give it a name")


def _add_values(text: _Text, values: Counter[int], held: Sequence[set[int]]) -> None:
    classes, ignore = sorted(values), None
    if len(classes) > 2 and classes[-1] == 255:
        alone = sum(each == {255} for each in held)
        beside = sum(255 in each and len(each) > 1 for each in held)
        if beside:
            ignore = classes.pop()
        elif classes[:-1] == [0, 1]:
            text.add("classes:\n  background: 0\n  foreground: {from: 1}",
                     f"masks: {alone} hold 255, {sum(each == {1} for each in held)} hold 1, none holds both: both are "
                     "taken for the foreground; give it a name. If 255 means 'unknown', write {background: 0, "
                     "foreground: 1} and 'ignore: 255'")
            return
        else:
            text.told.append(f"masks: 255 is in {alone} masks, in none beside another class: taken for a class of its "
                             "own; if it means 'unknown', write 'ignore: 255' in its place")
    if len(classes) == 1:
        text.told.append(f"masks: every pixel of every mask is {classes[0]}; is that right?{_all_the_same(classes[0])}")
        classes = [0, classes[0] or 1]
    elif 0 not in classes:
        text.told.append(f"no mask has the value 0; the first class, {classes[0]}, is taken for the background")
    text.add("classes:", f"masks: the values {', '.join(map(str, classes))}, taken for classes: give them names")
    for value, name in zip(classes, _names(len(classes)), strict=True):
        text.add(f"  {name}: {value}")
    if ignore is not None:
        text.add("ignore: 255", "masks: 255 beside other classes is taken for 'unknown, to be ignored'")


def _all_the_same(value: int) -> str:
    return " There is no background then" if value else " There is nothing to learn then"


def _add_colours(text: _Text, files: Files, colours: Counter[int]) -> None:
    if len(colours) > MOST_CLASSES:
        raise UserError(f"{_place(files)}: {len(colours)} colours in the masks, too many for classes; were they saved "
                        f"with loss, as JPEG is?{_swapped(files)}")
    order = sorted(colours, key=lambda number: (number != 0, -colours[number], number))
    text.add("classes:", f"masks: {len(order)} colours, taken for classes, "
                         f"{'black' if order[0] == 0 else 'the most frequent'} for the background: give them names")
    for number, name in zip(order, _names(len(order)), strict=True):
        text.add(f"  {name}: [{number >> 16}, {number >> 8 & 255}, {number & 255}]")


def _names(count: int) -> list[str]:
    return ["background", "foreground"] if count == 2 else ["background", *(f"class_{n}" for n in range(1, count))]


def _place(files: Files) -> Path:
    return next(iter(files.masks.values())).parent


def _swapped(files: Files) -> str:
    try:
        few = images.looks_like_a_mask(images.read_image(next(iter(files.images.values()))))
    except UserError:
        few = False
    return " The images have few colours: are images and masks swapped?" if few else ""


def _add_pixels(text: _Text, files: Files) -> int:
    """Colour or grey, 8 bits or 16; returns the largest side of an image."""
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
    if grey:
        text.add("pixels: grey", f"images: grey{f', {deep} of them of 16 bits' if deep else ''}")
    if deep:
        share = counts.cumsum() / counts.sum()
        low, high = int((share > TAIL).argmax()), int((share >= 1 - TAIL).argmax())
        high = max(high, low + 1)
        text.add(f"range: [{low}, {high}]  # {TAIL:.1%} of the pixels are below, as many above",
                 f"images: of 16 bits; {low} becomes black, {high} white: {1 - 2 * TAIL:.1%} of the pixels are between")
    return largest


def _add_groups(text: _Text, folder: Path) -> None:
    """The only table with a column `id`, where there is one."""
    headers = {path: path.read_text(encoding="utf-8-sig", errors="replace").partition("\n")[0].replace(";", ",")
               for path in sorted(folder.glob("*.csv"))}
    tables = {path: [cell.strip() for cell in header.split(",")] for path, header in headers.items()}
    tables = {path: columns for path, columns in tables.items() if "id" in columns}
    if len(tables) == 1:
        ((table, columns),) = tables.items()
        text.add(f"groups: {json.dumps(table.name)}", f"groups: the columns {', '.join(columns)} of {table.name}")
        return
    text.add("# groups: groups.csv  # columns id, set, patient, slide, grade ...: whatever of it is known")
    text.add("# pattern: '(?P<patient>[^_]+)_.*'  # or from the names of the files")
    text.told.append("groups: no table seen; if several images are of one patient or slide, the file can say so")
