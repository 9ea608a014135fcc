"""A first `dataset.yaml` for a folder of images and masks: what is seen is written down, what is guessed is said."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from benchmark.config import yaml_files
from benchmark.data import images
from benchmark.data.dataset import Tile
from benchmark.data.fold_lists import TRAIN
from benchmark.data.folder_dataset import FILE, LACKING, default_name, describe
from benchmark.data.folder_files import Files, fields_of, files_of, find, read_groups, read_lines
from benchmark.errors import UserError, listed
from benchmark.files import write_text

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation", "gt", "groundtruth", "ground_truth")
SETS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
DEPTH = 4  # of folders, counted with those of images
LARGE = 1024  # pixels of a side, above which a working size of 256 shows little of an image
TAIL = 0.001  # share of the pixels of 16 bits that become black, and white
DEFAULT = "images/{name}", "masks/{name}"
MOST_CLASSES = 32  # with more values than that, masks are not taken for classes
ENDS = 0.8  # share of the pixels near the lowest or highest grey value, above which a threshold divides them
FEW = 8  # with more values than that, they may be smooth edges
PLAIN = 0.1  # share of the others that lie in regions of one value, below which they are but edges

Guess = tuple[list[str], list[str]]  # lines of dataset.yaml, and lines that tell the user what was seen and guessed


def new(folder: Path, image_files: str = "", mask_files: str = "", follow_links: bool = False) -> list[str]:
    """Look at the images, write `folder/dataset.yaml`, and return what was seen and guessed, in lines.

    image_files, mask_files: where they lie, as in dataset.yaml; or `image_files` alone, a folder with all of them.
    follow_links: links may lead out of the folder.
    UserError: there is a dataset.yaml already, no images or masks, files that cannot be read, masks that are neither
    classes nor instances."""
    path = folder / FILE
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: is there already; edit it, or move it away")
    if not folder.is_dir() and not image_files:
        raise UserError(f"{folder}: no such folder; a data set is a folder with images/ and masks/ in it")
    layout = _layout(folder, image_files, mask_files, follow_links)
    files = files_of(folder, *layout, follow_links)
    groups = read_groups(folder, "", "", files.groups)  # whether it is clear what each set is for
    bare = len(files.images) - len(files.masks)
    told = [f"{len(files.images)} images, {len(files.masks)} with a mask"
            + f"; the {bare} without one can only be unlabelled training images" * (bare > 0)]
    if wrong := [name for name in files.images if name not in files.masks and groups[name]["set"] != TRAIN]:
        told.append(f"{len(wrong)} in set '{groups[wrong[0]]['set']}' without a mask: {LACKING}")
    lines = [f"name: {yaml_files.written(default_name(folder))}"]
    lines += ["follow_links: true"] * follow_links
    if layout != DEFAULT:
        lines += [f"image_files: {json.dumps(layout[0])}", f"mask_files: {json.dumps(layout[1])}"]
        names = ", ".join(name for name in fields_of(layout[0]) if name != "name")
        told.append(f"images at {layout[0]}, masks at {layout[1]}" + bool(names) * (
            f"; from the folders' names: {names} (rename them there where they are patient, slide, grade or set)"))
    if not mask_files:
        told += _left_out(folder / _from(folder, image_files), files)
    for more_lines, more_told in (_masks(files), _pixels(files), _groups(folder)):
        lines += more_lines
        told += more_told
    write_text(path, "\n".join(lines) + "\n")
    try:
        describe(folder)  # what is written must be what can be read
    except UserError:
        path.unlink()
        raise
    return [*told, f"wrote {path}: read it, and correct what was guessed wrongly; then data check"]


def set_tile(folder: Path, tile: Tile) -> str:
    """Write the tiling into a dataset.yaml that has none, and say so. UserError where another stands there."""
    path, there = folder / FILE, describe(folder).tile
    if there == tile:
        return f"{path}: already has {_shown(tile)}"
    if there:
        raise UserError(f"{path} has {_shown(there)}; change it there; it makes other data")
    text = f"{path.read_text(encoding='utf-8').rstrip()}\n{_shown(tile)}\n"
    try:
        yaml_files.parse(text, str(path))
    except UserError:  # all of it may stand in one pair of brackets
        raise UserError(f"{path}: add there yourself: {_shown(tile)}") from None
    write_text(path, text)
    return f"{path}: added {_shown(tile)}"


def _shown(tile: Tile) -> str:
    return f"tile: {{size: {tile.size}, overlap: {tile.overlap}}}"


def _layout(folder: Path, image_files: str, mask_files: str, follow_links: bool) -> tuple[str, str]:
    """Patterns of the images and the masks: as given, or as the folders' names and the ends of the files' have it."""
    root, masks_at = _from(folder, image_files), _from(folder, mask_files)
    folder.mkdir(parents=True, exist_ok=True)  # paths may lead over it, as in folder/../images
    if bool(mask_files) != ("{" in image_files):
        raise UserError("--images and --masks: give both as patterns, as in '{grade}/image/{name}', or --images alone "
                        "as the folder that holds all")
    if mask_files:
        with suppress(ValueError):  # of braces with no plain name in them
            if {*fields_of(root)} == {*fields_of(masks_at)}:
                return root, masks_at
        raise UserError("--images and --masks: both need the same plain names in braces, as in '{grade}/image/{name}'")
    layout = _folders(folder, root)
    found = [find(folder, pattern, follow_links) for pattern in layout]
    ids, masks = ({tuple(values.values()) for _, values in side} for side in found)
    if ids & masks:
        return layout
    ends = [_common_end([path.stem for path, _ in side]) for side in found]
    whole = {tuple(values.values()) for _, values in find(folder, layout[1] + ends[1], follow_links)}
    return layout[0] + ends[0] * (not ids & whole), layout[1] + ends[1]  # of x_HE and x_HE_mask, `_mask` alone


def _from(folder: Path, pattern: str) -> str:
    """The pattern as it is written into `folder`; given, it may begin where the command is."""
    fixed = pattern.partition("{")[0]
    if not fixed or Path(folder, fixed).exists() or os.path.isabs(fixed):
        return pattern
    if not Path(fixed).exists():
        raise UserError(f"{fixed}: no such folder, here or in {folder}")
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


def _left_out(root: Path, files: Files) -> list[str]:
    """A line on folders with images that the patterns do not fit, as they are spelled otherwise: Images, images."""
    taken = {path.parent for side in (files.images, files.masks) for path in side.values()}
    places = [path.relative_to(root) for path in root.rglob("*") if path.suffix.lower() in images.EXTENSIONS]
    left = sorted({str(place.parent) for place in places if not images.is_hidden(place)}
                  - {str(path.relative_to(root)) for path in taken})
    return [f"left out: the image files in {listed(left, 5)}; if they belong to the data, rename their folders: the "
            "same names in each place, in small and capital letters, too"] * bool(left)


def _common_end(names: Sequence[str]) -> str:
    """Letters, with what divides them from the rest, that all names end with, as in `_mask`."""
    ends = [match.group() for name in names if (match := re.search(r"[_\-. ]*[A-Za-z]*$", name))]
    shortest = min(ends, key=len, default="")
    return shortest if all(name.endswith(shortest) for name in names) else ""


def _pixels(files: Files) -> Guess:
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


def _groups(folder: Path) -> Guess:
    """A table with a column `id`, where there is one alone."""
    tables = {}
    for path in sorted(folder.glob("*.csv")):
        columns: list[str] = []
        with suppress(UserError):  # another table than that of the groups
            _, columns = next(read_lines(path), (1, []))
        if "id" in map(str.lower, columns):
            tables[path.name] = f"groups: the columns {', '.join(columns)} of {path.name}"
    if len(tables) == 1:
        return [f"groups: {json.dumps(name)}" for name in tables], list(tables.values())
    return [
        "# groups: groups.csv  # columns id, set, patient, slide, grade ...: whatever of it is known",
        "# pattern: '(?P<patient>[^_]+)_.*'  # or from the names of the files",
    ], ["groups: no table with a column id, or several; where images share a patient or slide, dataset.yaml can say so"]


def _masks(files: Files) -> Guess:
    """What the masks may mean: classes by number or colour, instances, or grey values with a threshold.

    UserError: a mask that cannot be read, or masks that are none of these."""
    colours, values = Counter[int](), Counter[int]()  # pixels of each
    coloured: list[str] = []
    grey: list[str] = []
    plain = Counter[int]()  # those whose four neighbours have their value
    held: list[set[int]] = []  # of each mask, the values above 0
    lossy = False
    seen: images.Seen = {}
    differ = False  # the colours of a number, from one palette to another
    for path in files.masks.values():
        try:
            mask = images.read_mask(path, seen=None if differ else seen)
        except images.PalettesDiffer:
            mask, differ = images.read_mask(path), True
        except UserError:
            try:
                mask = images.read_mask(path, lossy=True)
            except UserError:
                colours += _counted(images.colour_numbers(path))
                coloured.append(path.name)
                continue
            lossy = True
        counted = _counted(mask)
        values += counted
        inner = mask[1:-1, 1:-1]
        same = [mask[:-2, 1:-1], mask[2:, 1:-1], mask[1:-1, :-2], mask[1:-1, 2:]]
        plain += _counted(inner[np.all([inner == other for other in same], axis=0)])
        held.append({*counted} - {0})
        grey.append(path.name)
    by_colour = ""
    if differ and not lossy and not coloured:
        shown = sum((_counted(images.colour_numbers(path)) for path in files.masks.values()), Counter[int]())
        if len(shown) <= MOST_CLASSES or not _are_instances(files, held):  # objects may have any colours
            colours, grey = shown, []
            by_colour = " (their numbers differ from file to file)"
    image, place = next(iter(files.images.values())), next(iter(files.masks.values())).parent
    swapped = ""
    if images.read_levels(image) is None and images.looks_like_a_mask(images.read_image(image)):
        swapped = " The images look like masks: are the two swapped?"
    if coloured and grey:
        raise UserError(f"{place}: {len(grey)} masks are grey and {len(coloured)} are in colours; save all alike; the "
                        f"fewer: {listed(min(grey, coloured, key=len), 5)}")
    if len(colours) > MOST_CLASSES:
        raise UserError(f"{place}: {len(colours)} colours in the masks, too many for classes; were they saved with "
                        f"loss, as JPEG is?{swapped}")
    if colours:
        order = sorted(colours, key=lambda number: (number != 0, -colours[number], number))
        first = "black" if order[0] == 0 else "the most frequent"
        return _classes([[*images.unpacked(number)] for number in order]), [
            f"masks: {len(order)} colours{by_colour}, taken for classes, {first} for the background: give them names"]
    if not lossy and _are_instances(files, held):
        return ["masks: instances", "classes: [background, object]"], [
            f"masks: up to {max(map(len, held))} values an image, each one region: taken for instances; if they are "
            "classes, write 'masks: classes' and name them"]
    low, high = min(values), max(values)
    near = (high - low) // 16
    between = [value for value in values if min(value - low, high - value) > near]
    pixels = sum(values[value] for value in between)
    ends, edges = 1 - pixels / values.total(), sum(plain[value] for value in between) <= PLAIN * pixels
    reached = sum(max(each, default=low) >= high - near for each in held) >= sum(map(bool, held)) / 2
    if (lossy or len(values) > FEW) and ends >= ENDS and edges and reached and near:
        middle = (low + high + 1) // 2
        return _classes([0, f"{{from: {middle}}}"]), [
            f"masks: {len(values)} grey values, {ends:.1%} of the pixels near {low} or {high}, the others edges: a "
            f"threshold divides them; {middle} and more is taken for the foreground: give it a name"]
    if lossy or len(values) > MOST_CLASSES:
        raise UserError(f"{place}: {len(values)} values in the masks, which are neither instances (a value is more "
                        f"than one region) nor classes; were they saved with loss, as JPEG is? Save them as PNG, "
                        f"without smooth edges; for two classes, a threshold in dataset.yaml also reads them{swapped}")
    return _numbered(sorted(values), held)


def _counted(numbers: np.ndarray) -> Counter[int]:
    return Counter(dict(zip(*(part.tolist() for part in np.unique(numbers, return_counts=True)), strict=True)))


def _are_instances(files: Files, held: Sequence[set[int]]) -> bool:
    """Whether each value of a mask is one region, and there are too many for classes, or 1, 2, 3 ... to each mask."""
    from scipy import ndimage

    count = len(set().union(*held))
    numbered = all(len(each) == max(each, default=0) for each in held) and len({*map(len, held)} - {0}) > 1
    return count >= (3 if numbered else MOST_CLASSES) and all(
        ndimage.label(mask == value, structure=np.ones((3, 3)))[1] == 1
        for mask in map(images.read_mask, files.masks.values()) for value in np.unique(mask)[:MOST_CLASSES] if value
    )


def _numbered(classes: list[int], held: Sequence[set[int]]) -> Guess:
    """255 beside another class in some mask is taken for "unknown"; where no mask holds both, masks of two kinds may
    have been mixed, and none of their labels must be lost."""
    told: list[str] = []
    more: list[str] = []
    if len(classes) > 2 and classes[-1] == 255:
        alone = sum(each == {255} for each in held)
        if any(255 in each and len(each) > 1 for each in held):
            classes, more = classes[:-1], ["ignore: 255"]
            told = ["masks: 255 beside other classes is taken for 'unknown, to be ignored'"]
        elif classes == [0, 1, 255]:
            return _classes([0, "{from: 1}"]), [
                f"masks: {alone} hold 255, {sum(each == {1} for each in held)} hold 1, none holds both: both are taken "
                "for the foreground; give it a name. If 255 means 'unknown', write 1 in place of {from: 1}, and "
                "'ignore: 255'"]
        else:
            told = [f"masks: 255 is in {alone} masks, in none beside another class: taken for a class of its own; if "
                    "it means 'unknown', write 'ignore: 255' in its place"]
    if len(classes) == 1:
        told = [f"masks: every pixel of every mask is {classes[0]}; nothing can be learned from that"]
        classes = [0, classes[0] or 1]
    elif 0 not in classes:
        told.append(f"no mask has the value 0; the first class, {classes[0]}, is taken for the background")
    told.append(f"masks: the values {', '.join(map(str, classes))}, taken for classes: give them names")
    return _classes(classes) + more, told


def _classes(values: Sequence[object]) -> list[str]:
    names = ["foreground"] if len(values) == 2 else [f"class_{number}" for number in range(1, len(values))]
    return ["classes:", *(f"  {name}: {value}" for name, value in zip(["background", *names], values, strict=True))]
