"""Images too many for the device: a block's plans bring their pixels along, from the memory-mapped file.

The planner draws the same plans; `gather` adds to each, as further fields, what the renderer would otherwise have found
on the device. So a streamed run computes what a resident one does, and a captured step copies the pixels into its
static buffers with the rest of the plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

PIXELS = "pixels"


class Stream:
    """One stream's images where they were prepared: `images` uint8 [N, S, S, 3], `masks` uint8 [N, S, S].

    `positions` are the images of the stream, `targets` [positions, ...] those made from their whole masks, in the
    host's memory. `masks` is None for an unlabelled stream.
    """

    def __init__(
        self, images: np.ndarray, masks: np.ndarray | None, positions: Sequence[int], targets: Mapping[str, np.ndarray],
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
