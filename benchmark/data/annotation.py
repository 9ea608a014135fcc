"""Sparse annotation: what of a whole mask an annotator would have drawn, the same for one image and draw everywhere.

Glands are taken in an order that follows from the image's id, the draw and the number of glands alone, so that a larger
share holds all glands of a smaller one. What is not drawn is unknown (255) to training; images for validation and
testing keep their whole masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from benchmark.config.schema import Labels
from benchmark.data.dataset import IGNORE
from benchmark.data.images import resize
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.randomness import words

SPECK = 10_000  # an object below this part of the image is no gland to annotate: GlaS has some of one or two pixels
STROKE = 20  # a stroke is as wide as this part of the image's shorter side


class Annotation(NamedTuple):
    """masks: of the annotated images by row of the prepared arrays, uint8 [S, S], 255 where nothing was drawn.

    facts: for the record: `glands` annotated `of` all in these images, share of annotated `pixels`, `sha256` of what
    was drawn, at native size.
    """

    masks: dict[int, np.ndarray]
    facts: dict[str, Any]


def in_words(facts: Mapping[str, Any]) -> str:
    """The facts as a sentence's end; why they are not known here, where `unknown` says it."""
    if "unknown" in facts:
        return f"not known here ({facts['unknown']})"
    return "{glands} of {of} glands, {percent:.1f} % of the pixels".format(percent=100 * facts["pixels"], **facts)


@lru_cache(maxsize=1)
def annotate(prepared: PreparedData, ids: tuple[str, ...], labels: Labels, draw: int) -> Annotation | None:
    """The sparse annotation of these images; None where the settings say that masks are whole.

    UserError where nothing at all is annotated: no image has a gland, and no background is known.
    """
    if labels.glands is None:
        return None
    masks, counts, digest = {}, np.zeros(2, int), hashlib.sha256()
    for id in ids:
        known, chosen, glands = drawn(prepared, id, labels, draw)
        counts += len(chosen), glands
        digest.update(id.encode() + np.packbits(known).tobytes())
        for row, (y, x, height, width) in zip(prepared.rows(id), prepared.boxes(id), strict=True):
            part = known[y : y + height, x : x + width].astype(np.uint8)
            shown = resize(part, prepared.size, Image.Resampling.NEAREST) > 0
            masks[row] = np.where(shown, prepared.masks[row], np.uint8(IGNORE))
    pixels = float(np.mean([mask != IGNORE for mask in masks.values()])) if masks else 0.0
    if not pixels:
        raise UserError(f"labels.glands={labels.glands:g}: nothing is annotated in the {len(ids)} labelled images of "
                        f"{prepared.name}, which have {counts[1]} glands; use labels.background=scribbles, or whole "
                        "masks")
    facts = {"glands": int(counts[0]), "of": int(counts[1]), "pixels": pixels, "sha256": digest.hexdigest()}
    return Annotation(masks, facts)


def with_annotation(prepared: PreparedData, annotation: Annotation | None) -> PreparedData:
    """The data with the masks that training sees of annotated images, to be looked at."""
    masks = np.array(prepared.masks)
    for row, mask in (annotation.masks if annotation else {}).items():
        masks[row] = mask
    return replace(prepared, masks=masks)


def drawn(prepared: PreparedData, id: str, labels: Labels, draw: int) -> tuple[np.ndarray, list[int], int]:
    """Where the image is annotated, bool [H, W] at native size; the ids of its annotated glands; how many it has."""
    valid = prepared.native_valid(id)
    objects = np.where(valid, prepared.native(id), 0)
    sizes = np.bincount(objects.ravel())
    sizes[0] = 0
    order = gland_order([int(gland) for gland in np.flatnonzero(sizes > objects.size / SPECK)], id, draw)
    chosen = order[: share_of(len(order), labels.glands)]
    known = np.isin(objects, chosen) if not labels.erode else cores(objects, chosen, labels.erode)
    background = valid & (objects == 0)
    if labels.background == "trusted":
        known |= background
    elif labels.background == "scribbles":
        known |= scribbles(background, max(1, len(chosen)), id, draw)
    return known, chosen, len(order)


def share_of(count: int, share: float | None) -> int:
    """How many of so many glands are annotated: the nearest number, halves up, and one at least where there is one."""
    return min(count, max(1, int((share or 0) * count + 0.5)))


def gland_order(glands: list[int], id: str, draw: int) -> list[int]:
    """The ids of an image's glands, rising, in the order in which they are annotated."""
    return [glands[place] for place in np.argsort(words(draw, f"glands/{id}", 0, 1, len(glands))[0], kind="stable")]


def cores(objects: np.ndarray, chosen: list[int], erode: float) -> np.ndarray:
    """These objects without the pixels nearer to their border than this share of their greatest depth."""
    known = np.zeros(objects.shape, bool)
    places = ndimage.find_objects(objects)
    for gland in chosen:
        here = places[gland - 1]
        depth = ndimage.distance_transform_edt(np.pad(objects[here] == gland, 1))[1:-1, 1:-1]
        known[here] |= depth > erode * depth.max()
    return known


def scribbles(background: np.ndarray, count: int, id: str, draw: int) -> np.ndarray:
    """Straight strokes, each between two random pixels of the background; what is no background is left out."""
    places, known = np.argwhere(background), np.zeros(background.shape, bool)
    if not len(places):
        return known
    radius = max(2, min(background.shape) // STROKE) // 2
    for ends in places[words(draw, f"scribbles/{id}", 0, count, 2) % len(places)]:
        (top, left), (bottom, right) = np.maximum(ends.min(0) - radius, 0), ends.max(0) + radius + 1
        here, (way_y, way_x) = known[top:bottom, left:right], ends[1] - ends[0]
        y, x = np.ogrid[: here.shape[0], : here.shape[1]]
        y, x = y + top - ends[0, 0], x + left - ends[0, 1]  # from the stroke's first end
        length = way_y**2 + way_x**2
        along = np.clip(y * way_y + x * way_x, 0, length) / max(1, length)
        here |= (y - along * way_y) ** 2 + (x - along * way_x) ** 2 <= radius**2
    return known & background
