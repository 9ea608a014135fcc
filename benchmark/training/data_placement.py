"""Where a run's images lie: all on the device, or in the memory-mapped file, from which each block's are streamed.

It is no setting, since it moves no number: a run streams where its images would take more than a share of the device.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmark.batches.augment import Augment
from benchmark.batches.host_streaming import Stream
from benchmark.batches.render import Renderer, compact
from benchmark.data.store import PreparedData
from benchmark.errors import UserError
from benchmark.losses import IGNORE
from benchmark.method import Method
from benchmark.numerics import Normalisation, Numerics
from benchmark.targets import TARGETS
from benchmark.training import device as devices

SHARE = 0.25  # of the device's memory; SEMIHISTO_RESIDENT says otherwise
PIXEL = 4  # bytes of a pixel of an image, or of a target


def share() -> float:
    """The share of the device's memory that images may take."""
    text = os.environ.get("SEMIHISTO_RESIDENT") or SHARE
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UserError(f"SEMIHISTO_RESIDENT={text}: the share of the device's memory that images may take, 0 to 1")
    return value


def why_streamed(prepared: PreparedData, method: Method, device: torch.device) -> str:
    """One line for the user where the images are too many for the device; empty where they may lie there."""
    needed = prepared.masks.size * PIXEL * (len(method.views) + len(method.targets))
    allowed = share() * devices.memory(device)
    if needed <= allowed:
        return ""
    sizes = f"{needed / 2**30:.2f} GiB, allowed are {allowed / 2**30:.2f}"
    return f"the images of {prepared.name} are streamed from {prepared.folder} (on the device they would take {sizes})"


def renderers(
    prepared: PreparedData, lists: Mapping[str, list[int]], method: Method, streamed: bool, augment: Augment,
    normalisation: Normalisation, numerics: Numerics,
) -> tuple[dict[str, Renderer], dict[str, Stream]]:
    """The renderer of every stream that the method wants, and where `streamed`, what their plans take pixels from.

    lists: the rows of each stream.
    """
    device = numerics.device
    labelled, streams = lists["labelled"], {}
    made = labelled_targets(prepared, labelled, method.targets)
    if streamed:
        kept = {key: compact(values).numpy() for key, values in made.items()}
        streams = {name: Stream(prepared.images, None, lists[name], {}) for name in method.views}
        streams["labelled"] = Stream(prepared.images, prepared.masks, labelled, kept)
        images, masks, held = prepared.images[:0], prepared.masks[:0], {key: t[:0] for key, t in made.items()}
    else:
        images, masks = prepared.images, visible(prepared.masks, labelled)
        held = {key: spread(values, labelled, len(masks)) for key, values in made.items()}
    pixels = torch.from_numpy(np.array(images.transpose(0, 3, 1, 2), order="C")).to(device)
    truth = torch.from_numpy(np.array(masks)).to(device)
    targets = {key: values.to(device) for key, values in held.items()}
    found = {}
    for name, views in method.views.items():
        known = name == "labelled"
        mask, made = (truth, targets) if known else (None, {})
        found[name] = Renderer(pixels, mask, made, views, augment, normalisation, numerics)
    return found, streams


def labelled_targets(prepared: PreparedData, labelled: Sequence[int], names: Sequence[str]) -> dict[str, Tensor]:
    """Targets [labelled images, ...] by name, made from the whole masks of these images."""
    known = torch.from_numpy(np.array(prepared.masks[list(labelled)])).long()
    return {name: TARGETS[name](known) for name in names}


def visible(masks: np.ndarray, labelled: Sequence[int]) -> np.ndarray:
    """The masks of all rows, 255 throughout for those whose label the method may not see."""
    shown = np.full(masks.shape, IGNORE, dtype=masks.dtype)
    shown[list(labelled)] = masks[list(labelled)]
    return shown


def spread(made: Tensor, labelled: Sequence[int], images: int) -> Tensor:
    """Targets of the labelled images at their places among all `images`, 0 elsewhere."""
    whole = torch.zeros((images, *made.shape[1:]), dtype=made.dtype)
    whole[list(labelled)] = made
    return whole
