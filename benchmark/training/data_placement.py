"""Where a run's images lie: all on the device, or in the memory-mapped file, from which each block's are streamed.

It is no setting, since it moves no number: a run streams where its images would take more than a share of the device.
The planner draws the same plans; a streamed block brings along, as further fields, what the renderer would otherwise
have found on the device, and a captured step copies them into its static buffers with the rest of the plan.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
import torch

from benchmark.batches.augment import Augment
from benchmark.batches.render import PIXELS, Renderer, compact
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.losses import IGNORE
from benchmark.method import Method
from benchmark.numerics import Normalisation, Numerics
from benchmark.targets import TARGETS
from benchmark.training import device as devices

logger = logging.getLogger(__name__)
SHARE = "0.25"  # of the device's memory; SEMIHISTO_RESIDENT says otherwise
Masks = np.ndarray | Mapping[int, np.ndarray]  # uint8 [S, S] by row of the prepared arrays
PIXEL = 4  # bytes of a pixel of an image, or of a target


class StreamedImages:
    """One stream's images where they were prepared: `images` uint8 [N, S, S, 3], `masks` uint8 [S, S] by row.

    `positions` are the images of the stream, `targets` [positions, ...] those made from their whole masks, in the
    host's memory. `masks` is None for an unlabelled stream.
    """

    def __init__(
        self, images: np.ndarray, masks: Masks | None, positions: Sequence[int], targets: Mapping[str, np.ndarray],
    ) -> None:
        self.images, self.masks, self.targets = images, masks, targets
        self.places = np.full(len(images), -1)
        self.places[list(positions)] = np.arange(len(positions))

    def gather(self, index: np.ndarray) -> dict[str, np.ndarray]:
        """For plans of the images `index` [count, B]: `pixels` int32 [count, B, S, S], and every target by its name."""
        rows = index.ravel()
        packed = np.zeros((len(rows), *self.images.shape[1:3], 4), dtype=np.uint8)
        for slot, row in enumerate(rows):  # one image after the other, as they lie in the file
            packed[slot, ..., :3] = self.images[row]
            if self.masks is not None:
                packed[slot, ..., 3] = self.masks[row]
        fields = {PIXELS: packed.view(np.int32)[..., 0]}
        fields |= {name: held[self.places[rows]] for name, held in self.targets.items()}
        return {name: values.reshape(*index.shape, *values.shape[1:]) for name, values in fields.items()}


def why_streamed(prepared: PreparedData, method: Method, device: torch.device) -> str:
    """One line for the user where the images are too many for the device; empty where they may lie there."""
    needed = prepared.masks.size * PIXEL * (len(method.views) + len(method.targets))
    allowed = _share() * devices.memory(device)
    if needed <= allowed:
        return ""
    sizes = f"{needed / 2**30:.2f} GiB, allowed are {allowed / 2**30:.2f}"
    return f"the images of {prepared.name} are streamed from {prepared.folder} (on the device they would take {sizes})"


def _share() -> float:
    text = os.environ.get("SEMIHISTO_RESIDENT") or SHARE
    with suppress(ValueError):
        if 0 <= float(text) <= 1:
            return float(text)
    raise UserError(f"SEMIHISTO_RESIDENT={text}: the share of the device's memory that images may take, 0 to 1")


def renderers(
    prepared: PreparedData, lists: Mapping[str, list[int]], masks: Masks, method: Method, augment: Augment,
    normalisation: Normalisation, numerics: Numerics,
) -> tuple[dict[str, Renderer], dict[str, StreamedImages]]:
    """The renderer of every stream that the method wants, and where they are streamed, what plans take pixels from.

    lists: the rows of each stream. masks: of the labelled rows, as training sees them.
    """
    labelled, streams, streamed = lists["labelled"], {}, why_streamed(prepared, method, numerics.device)
    if streamed:
        logger.info(streamed)
    known = torch.from_numpy(np.stack([masks[row] for row in labelled])).long()
    made = {name: TARGETS[name](known) for name in method.targets}  # [labelled images, ...]
    if streamed:
        kept = {key: compact(values).numpy() for key, values in made.items()}
        streams = {name: StreamedImages(prepared.images, None, lists[name], {}) for name in method.views}
        streams["labelled"] = StreamedImages(prepared.images, masks, labelled, kept)
        images, shown, held = prepared.images[:0], prepared.masks[:0], {key: t[:0] for key, t in made.items()}
    else:
        images, shown, held = prepared.images[:], visible(prepared.masks.shape, masks, labelled), {}
        for key, values in made.items():  # at the labelled images' places among all, 0 elsewhere
            held[key] = torch.zeros((len(shown), *values.shape[1:]), dtype=values.dtype)
            held[key][labelled] = values
    pixels = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")).to(numerics.device)
    truth = torch.from_numpy(np.array(shown)).to(numerics.device)
    targets = {key: values.to(numerics.device) for key, values in held.items()}
    found = {}
    for name, views in method.views.items():
        mask, made = (truth, targets) if name == "labelled" else (None, {})
        found[name] = Renderer(pixels, mask, made, views, augment, normalisation, numerics)
    return found, streams


def visible(shape: tuple[int, ...], masks: Masks, labelled: Sequence[int]) -> np.ndarray:
    """The masks of all rows, 255 throughout for those whose label the method may not see."""
    shown = np.full(shape, IGNORE, np.uint8)
    for row in labelled:
        shown[row] = masks[row]
    return shown
