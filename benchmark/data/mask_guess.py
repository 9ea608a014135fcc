"""What the masks of a folder may mean: classes by number or colour, instances, or grey values with a threshold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.data import images
from benchmark.data.folder_files import Files
from benchmark.errors import UserError

MOST_CLASSES = 32  # with more values than that, masks are not taken for classes
FEW = 8  # with more values than that, they may be smooth edges
ENDS = 0.8  # share of the pixels near the lowest or highest grey value, above which a threshold may divide them
PLAIN = 0.1  # share of the others that lie in regions of one value, below which they are but edges


def guess_masks(files: Files) -> tuple[list[str], list[str]]:
    """Lines for dataset.yaml, and lines that tell the user what was seen and guessed.

    UserError: a mask that cannot be read, or masks that are none of these."""
    colours: Counter[int] = Counter()
    values: Counter[int] = Counter()  # pixels
    plain: Counter[int] = Counter()  # those whose four neighbours have their value
    held: list[set[int]] = []  # of each mask, the values above 0
    lossy = False
    for path in files.masks.values():
        try:
            mask = images.read_mask(path)
        except UserError:
            try:
                mask = images.read_mask(path, lossy=True)
            except UserError:
                colours += _counted(images.colour_numbers(path))
                continue
            lossy = True
        counted = _counted(mask)
        values += counted
        inner = mask[1:-1, 1:-1]
        same = [mask[:-2, 1:-1], mask[2:, 1:-1], mask[1:-1, :-2], mask[1:-1, 2:]]
        plain += _counted(inner[np.all([inner == other for other in same], axis=0)])
        held.append({*counted} - {0})
    if colours:
        return _coloured(files, colours)
    if not lossy and _are_instances(files, held):
        return ["masks: instances", "classes: [background, object]"], [
            f"masks: up to {max(map(len, held))} values an image, each one region: taken for instances; if they are "
            "classes, write 'masks: classes' and name them"]
    smooth = _share_at_ends(values, plain, held)
    if smooth >= ENDS and (lossy or len(values) > FEW):
        middle = (min(values) + max(values) + 1) // 2
        return _classes([0, f"{{from: {middle}}}"]), [
            f"masks: {len(values)} grey values, {smooth:.1%} of the pixels near {min(values)} or {max(values)}, the "
            f"others edges: a threshold divides them; {middle} and more is taken for the foreground: give it a name"]
    if lossy or len(values) > MOST_CLASSES:
        raise UserError(f"{_place(files)}: {len(values)} values in the masks, which are neither instances (a value is "
                        f"more than one region) nor classes; were they saved with loss?{_swapped(files)}")
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


def _share_at_ends(values: Counter[int], plain: Counter[int], held: Sequence[set[int]]) -> float:
    """The share of the pixels near the lowest and the highest grey value; 0 where those between are not but edges, or
    where most masks that hold something do not reach the highest."""
    low, high = min(values), max(values)
    near = (high - low) // 16
    between = {value for value in values if min(value - low, high - value) > near}
    pixels = sum(values[value] for value in between)
    edges = sum(plain[value] for value in between) <= PLAIN * pixels
    reached = sum(max(each, default=low) >= high - near for each in held) >= sum(map(bool, held)) / 2
    return 1 - pixels / values.total() if edges and reached and near else 0.0


def _numbered(classes: list[int], held: Sequence[set[int]]) -> tuple[list[str], list[str]]:
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


def _coloured(files: Files, colours: Counter[int]) -> tuple[list[str], list[str]]:
    if len(colours) > MOST_CLASSES:
        raise UserError(f"{_place(files)}: {len(colours)} colours in the masks, too many for classes; were they saved "
                        f"with loss, as JPEG is?{_swapped(files)}")
    order = sorted(colours, key=lambda number: (number != 0, -colours[number], number))
    first = "black" if order[0] == 0 else "the most frequent"
    return _classes([f"[{number >> 16}, {number >> 8 & 255}, {number & 255}]" for number in order]), [
        f"masks: {len(order)} colours, taken for classes, {first} for the background: give them names"]


def _classes(values: Sequence[object]) -> list[str]:
    names = ["foreground"] if len(values) == 2 else [f"class_{number}" for number in range(1, len(values))]
    return ["classes:", *(f"  {name}: {value}" for name, value in zip(["background", *names], values, strict=True))]


def _place(files: Files) -> Path:
    return next(iter(files.masks.values())).parent


def _swapped(files: Files) -> str:
    few = images.looks_like_a_mask(next(iter(files.images.values())))
    return " The images have few colours: are images and masks swapped?" if few else ""
