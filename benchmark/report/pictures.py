"""Which test images are shown, chosen by rule and never by hand, and their pixels for panels and the page's gallery."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmark.data.dataset import IGNORE
from benchmark.data.load import load_dataset, load_prepared
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.report.cells import Draw, Group, Run
from benchmark.runs.folder import folder_of, load_masks

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
class Layout:
    """One draw at one label ratio, the same for every row, and the images that are shown of it."""

    title: str
    ratio: int
    draw: Draw
    labels: tuple[str, ...]
    images: tuple[Shown, ...]


@dataclass(frozen=True)
class Picture:
    """A test image for the page: small PNG files, an overlay (transparent where nothing is) for each row.

    An overlay has what was found, invented and missed in the colours of this file, and the outline of the truth. It
    is meant for a grey picture: a stain's own colours hide those of an overlay. `truth` is the overlay of the truth.
    """

    image_id: str
    rule: str  # "" where no rule chose it
    ratio: int
    dice: Mapping[str, float]
    image: bytes
    overlays: Mapping[str, bytes]
    truth: bytes = b""
    draw: Draw = (0, 0)


def choose_images(scores: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """{rule: image id} from scores {row: {image: Dice}}, over the images whose Dice is defined in all rows.

    `median` and `worst decile`: the image in that place when ordered by its mean over rows. `largest disagreement`:
    the greatest difference between two rows. No image is shown twice; equals go by their names.
    """
    defined = [{name for name, value in by_image.items() if value == value} for by_image in scores.values()]
    common = set.intersection(*defined) if defined else set()
    table = {name: [by_image[name] for by_image in scores.values()] for name in common}
    ordered = sorted(table, key=lambda name: (float(np.mean(table[name])), name))
    divided = sorted(table, key=lambda name: (min(table[name]) - max(table[name]), name))
    last = len(ordered) - 1
    place = {name: number for number, name in enumerate(ordered)}
    wishes = {
        "median": sorted(ordered, key=lambda name: abs(place[name] - last // 2)),
        "worst decile": sorted(ordered, key=lambda name: abs(place[name] - last // 10)),
        "largest disagreement": divided if len(scores) > 1 else [],
    }
    chosen: dict[str, str] = {}
    for rule, candidates in wishes.items():
        free = [name for name in candidates if name not in chosen.values()]
        if free:
            chosen[rule] = free[0]
    return chosen


def lay_out(group: Group, results: Path, everything: bool = False) -> tuple[Layout | None, str]:
    """The images that the rules choose (or all test images) with every row's masks, or None and why there is none.

    Of all (ratio, draw) the one where most rows have their masks; the smallest of equals. Scores are that draw's own.
    """
    (ratio, draw), runs = _common_draw(group, results)
    if not runs:
        return None, "no finished run has its masks here"
    try:
        prepared = load_prepared(group.source, runs[0].spec["values"]["data.size"], prepare=False)
    except (UserError, KeyError) as error:
        return None, f"the images are not here ({error})"
    if prepared.fingerprint != group.fingerprint:
        return None, "the prepared images are not those of the runs"
    scores = {}
    for run in runs:
        ids, _, values = run.per_image("dice")
        scores[run.label] = dict(zip(ids, values.tolist(), strict=True))
    rules = {name: rule for rule, name in choose_images(scores).items()}
    common = sorted(set.intersection(*(set(by_image) for by_image in scores.values())))
    names = [*rules, *(name for name in common if everything and name not in rules)]
    if not names:
        return None, "no test image is common to all rows"
    masks: dict[str, dict[str, Masks]] = {}
    for run in runs:
        try:
            stored = load_masks(folder_of(results, run.record["run_id"]) / "masks.npz")
            masks[run.label] = {name: stored[name] for name in names}
        except (OSError, EOFError, ValueError, KeyError, zlib.error, zipfile.BadZipFile) as error:
            return None, f"the masks of {run.record['run_id']} are damaged ({error})"
    try:
        shown = tuple(_shown(prepared, name, rules.get(name, ""), masks, scores) for name in names)
    except UserError as error:
        return None, f"the images are not here ({error})"
    return Layout(group.title, ratio, draw, tuple(masks), shown), ""


def _shown(
    prepared: PreparedData, name: str, rule: str, masks: Mapping[str, Mapping[str, Masks]],
    scores: Mapping[str, Mapping[str, float]],
) -> Shown:
    truth = prepared.native(name) > 0
    if len(prepared.classes) > 2:
        classes = prepared.native_classes(name)
        truth = np.where(classes == IGNORE, 0, classes)
    found = {label: by_image[name] for label, by_image in masks.items()}
    if any(mask.shape != truth.shape for mask in found.values()):
        raise UserError(f"{name}: masks of another size than the image's")
    image = np.asarray(prepared.picture(name)[0])
    return Shown(name, rule, image, truth, found, {label: scores[label][name] for label in found})


def _common_draw(group: Group, results: Path) -> tuple[tuple[int, Draw], list[Run]]:
    """The ratio and draw, and its runs in order of their rows, one each."""
    kept: dict[tuple[int, Draw], dict[str, Run]] = {}
    for run in group.runs:
        if run.done and (folder_of(results, run.record["run_id"]) / "masks.npz").is_file():
            kept.setdefault((run.spec["ratio"], run.draw), {}).setdefault(run.label, run)
    if not kept:
        return (0, (0, 0)), []
    place = min(kept, key=lambda place: (-len(kept[place]), place))
    return place, [kept[place][label] for label in group.labels if label in kept[place]]


def gallery(group: Group, results: Path, everything: bool = False) -> tuple[list[Picture], str]:
    """Pictures for the page of the images that the rules choose, or of all; none, and why, where they are not here."""
    layout, reason = lay_out(group, results, everything)
    if layout is None:
        return [], reason
    return [_picture(shown, layout) for shown in layout.images], ""


def _picture(shown: Shown, layout: Layout) -> Picture:
    height, width = shown.truth.shape
    scale = min(1.0, SIDE / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image = Image.fromarray(shown.image).resize(size, Image.Resampling.BICUBIC)
    truth = _shrunk(shown.truth, size)
    overlays = {label: _overlay(_shrunk(mask, size), truth) for label, mask in shown.masks.items()}
    plain = image.quantize(SHADES, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    return Picture(
        shown.id, shown.rule, layout.ratio, shown.dice, _png(plain), overlays, _overlay(truth, truth), layout.draw
    )


def _shrunk(mask: Masks, size: tuple[int, int]) -> Masks:
    """A mask at (width, height): the majority of the pixels that a new one covers; of several classes the nearest."""
    if mask.dtype != bool:
        return np.asarray(Image.fromarray(mask).resize(size, Image.Resampling.NEAREST))
    return np.asarray(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)) > 127


def _overlay(found: Masks, truth: Masks) -> bytes:
    """A palette PNG: 0 transparent, then the colours of OPACITY, and the truth's outline."""
    judged = list(judge(found, truth).values())
    index = np.select(judged, range(1, len(judged) + 1), 0).astype(np.uint8)
    index[(truth > 0) & _beside_another(truth)] = len(judged) + 1
    picture = Image.fromarray(index, "P")
    colours = ("#ffffff", *OPACITY, OUTLINE)
    picture.putpalette([int(colour[place : place + 2], 16) for colour in colours for place in (1, 3, 5)])
    opacity = [0, *(round(255 * value) for value in OPACITY.values()), 230]
    return _png(picture, transparency=bytes(opacity))


def judge(found: Masks, truth: Masks) -> dict[str, NDArray[np.bool_]]:
    """Which pixels [H, W] have each of the colours of OPACITY; CONFUSED is one class where another is."""
    right = found == truth
    return {
        FOUND: (truth > 0) & right,
        INVENTED: (found > 0) & (truth == 0),
        MISSED: (truth > 0) & (found == 0),
        CONFUSED: (found > 0) & (truth > 0) & ~right,
    }


def _beside_another(mask: Masks) -> NDArray[np.bool_]:
    """Where one of the four neighbours inside the picture is of another class."""
    padded = np.pad(mask, 1, mode="edge")
    neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
    return np.logical_or.reduce([neighbour != mask for neighbour in neighbours])


def _png(picture: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "png", optimize=True, **options)
    return stream.getvalue()


def faded(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Light grey, three channels: the stain's own colours would hide those of an overlay."""
    grey = (255 + image.mean(-1, keepdims=True)) / 2
    return grey.repeat(3, -1).astype(np.uint8)


def may_be_published(dataset: str) -> bool:
    """Whether pictures of this data set may lie in the repository: only where the data set itself says so."""
    try:
        return bool(getattr(load_dataset(dataset), "publishable", False))
    except UserError:
        return False
