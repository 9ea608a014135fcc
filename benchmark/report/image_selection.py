"""Which test images are shown, chosen by rule and never by hand, and their pixels for panels and the page's gallery."""

from __future__ import annotations

import io
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.dataset import IGNORE
from benchmark.data.load import load_dataset, load_prepared
from benchmark.errors import UserError
from benchmark.files import DAMAGED, write_text
from benchmark.report.results_frame import DRAW, Group
from benchmark.runs.run_files import folder_of, load_masks

FOUND, INVENTED, MISSED, CONFUSED = "#009E73", "#E69F00", "#0072B2", "#CC79A7"  # TP, FP, FN: Okabe and Ito (2008)
OPACITY = {FOUND: 0.45, INVENTED: 0.8, MISSED: 0.8, CONFUSED: 0.8}
OUTLINE = "#000000"
SIDE = 192  # pixels, the long side of a picture in the gallery
SHADES = 96  # of a picture in the gallery
Masks = NDArray[np.bool_] | NDArray[np.uint8]  # foreground, or class indices


@dataclass(frozen=True)
class Shown:
    """A test image [S, S, 3] uint8 at working size, its truth [H, W], and masks [H, W] and strict Dice by row."""

    id: str
    rule: str
    image: NDArray[np.uint8]
    truth: Masks
    masks: Mapping[str, Masks]
    dice: Mapping[str, float]


@dataclass(frozen=True)
class Selection:
    """One draw (fold, seed) at one label ratio, the same for every row, and the images that are shown of it."""

    title: str
    ratio: int
    labels: str  # the ratio in words
    draw: tuple[int, int]
    names: Mapping[str, str]  # of the rows
    images: tuple[Shown, ...]


def choose_images(scores: pd.DataFrame) -> dict[str, str]:
    """{rule: image} from Dice, images x rows, over the images whose Dice is defined in all rows.

    `median` and `worst decile`: the image in that place when ordered by its mean over rows. `largest disagreement`:
    the greatest difference between two rows. No image is shown twice; equals go by their names.
    """
    common = scores.dropna().sort_index()
    ordered = common.mean(axis=1).sort_values(kind="stable").index
    place, last = pd.Series(range(len(ordered)), ordered), len(ordered) - 1
    wishes = {"median": (place - last // 2).abs(), "worst decile": (place - last // 10).abs()}
    if len(scores.columns) > 1:
        wishes["largest disagreement"] = (common.min(axis=1) - common.max(axis=1)).round(12)
    chosen: dict[str, str] = {}
    for rule, wish in wishes.items():
        if len(free := wish.drop(list(chosen.values()))):
            chosen[rule] = str(free.sort_values(kind="stable").index[0])
    return chosen


def select_images(group: Group, results: Path) -> tuple[Selection | None, str]:
    """The images that the rules choose with every row's masks, or None and why there is none.

    Of all (ratio, draw) the one where most rows have their masks; the smallest of equals. Scores are that draw's own.
    """
    try:
        return _select(group, results), ""
    except UserError as error:
        return None, str(error)


def _select(group: Group, results: Path) -> Selection:
    kept: dict[tuple[int, int, int], dict[str, Path]] = defaultdict(dict)
    for run in group.done:
        masks = folder_of(results, run.record["run_id"]) / "masks.npz"
        if masks.is_file():
            kept[run.spec["ratio"], run.spec["fold"], run.spec["seed"]].setdefault(run.row, masks)
    if not kept:
        raise UserError("no finished run has its masks here")
    (ratio, *draw), files = min(kept.items(), key=lambda found: (-len(found[1]), found[0]))
    rows = [row for row in group.rows if row in files]
    size = next(run.spec["values"]["data.size"] for run in group.done if run.row == rows[0])
    try:
        prepared = load_prepared(group.source, size, prepare=False)
    except (UserError, KeyError) as error:
        raise UserError(f"the images are not here ({error})") from None
    if prepared.fingerprint_of(group.split.partition("+")[0]) != group.fingerprint:
        raise UserError("the prepared images are not those of the runs")
    mine = group.images[(group.images.ratio == ratio) & group.images.row.isin(rows)].set_index(DRAW).loc[tuple(draw)]
    scores = mine.pivot_table("dice", "image", "row", dropna=False)[rows]
    chosen = choose_images(scores)
    if not chosen:
        raise UserError("no test image is common to all rows")
    found: dict[str, dict[str, Masks]] = {name: {} for name in chosen.values()}
    for row in rows:
        try:
            stored = load_masks(files[row])
            for name in found:
                found[name][row] = stored[name if (key := f"{group.dataset}:{name}") not in stored else key]
        except DAMAGED as error:
            raise UserError(f"the masks of {files[row].parent.name} are damaged ({error})") from None
    shown = []
    for rule, name in chosen.items():
        classes = prepared.native_classes(name) if len(prepared.classes) > 2 else prepared.native(name)
        truth = np.where(classes == IGNORE, 0, classes) if len(prepared.classes) > 2 else classes > 0
        if any(mask.shape != truth.shape for mask in found[name].values()):
            raise UserError(f"{name}: masks of another size than the image's")
        image = np.asarray(prepared.picture(name)[0])
        shown.append(Shown(name, rule, image, truth, found[name], dict(scores.loc[name])))
    names = {row: group.display(row) for row in rows}
    return Selection(group.title, ratio, group.labels(ratio), (draw[0], draw[1]), names, tuple(shown))


def pixel_kinds(found: Masks, truth: Masks) -> dict[str, NDArray[np.bool_]]:
    """Which pixels [H, W] have each of the colours of OPACITY; CONFUSED is one class where another is."""
    there, predicted, right = truth > 0, found > 0, found == truth
    return {
        FOUND: there & right, INVENTED: predicted & ~there, MISSED: there & ~predicted,
        CONFUSED: there & predicted & ~right,
    }  # fmt: skip


def faded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light grey, three channels: the stain's own colours would hide those of an overlay."""
    return ((255 + image.mean(-1, keepdims=True)) / 2).repeat(3, -1).astype(np.uint8)


def thumbnails(shown: Shown) -> tuple[bytes, bytes, dict[str, bytes]]:
    """Small PNG files for the page: the image, the overlay of the truth, and one for each row.

    An overlay is transparent where nothing is, and has the outline of the truth. It is meant for a grey picture.
    """
    height, width = shown.truth.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(shown.image).resize(size, Image.Resampling.BICUBIC)
    truth = _shrunk(shown.truth, size)
    overlays = {row: overlay(_shrunk(mask, size), truth) for row, mask in shown.masks.items()}
    plain = image.quantize(SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return _png(plain), overlay(truth, truth), overlays


def _shrunk(mask: Masks, size: tuple[int, int]) -> Masks:
    """A mask at (width, height): the majority of the pixels that a new one covers; of several classes the nearest."""
    if mask.dtype != bool:
        return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 127


def overlay(found: Masks, truth: Masks) -> bytes:
    """A palette PNG: 0 transparent, then the colours of OPACITY, and the truth's outline."""
    kinds = list(pixel_kinds(found, truth).values())
    index = np.select(kinds, range(1, len(kinds) + 1), 0).astype(np.uint8)
    padded = np.pad(truth, 1, mode="edge")
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    index[(truth > 0) & np.logical_or.reduce([neighbour != truth for neighbour in neighbours])] = len(kinds) + 1
    picture = Image.fromarray(index, "P")
    colours = ("#ffffff", *OPACITY, OUTLINE)
    picture.putpalette([int(colour[place : place + 2], 16) for colour in colours for place in (1, 3, 5)])
    return _png(picture, transparency=bytes([0, *(round(255 * value) for value in OPACITY.values()), 230]))


def _png(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True, **options)
    return stream.getvalue()


def images_shareable(dataset: str) -> bool:
    """Whether pictures of this data set may lie in the repository: only where the data set itself says so."""
    try:
        return load_dataset(dataset).publishable
    except UserError:
        return False


def local_folder(folder: Path) -> Path:
    """A folder that keeps itself out of version control."""
    write_text(folder / "local" / ".gitignore", "*\n")
    return folder / "local"
