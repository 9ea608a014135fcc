"""Generated H&E-like colon glands: nothing to download, seconds to prepare."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path

import numpy as np

from benchmark.data.dataset import Dataset, Item
from benchmark.data.synthesis import layout, staining

SEED = 0


class Synthetic(Dataset):
    """60 training and 24 test images of 192 x 256 pixels from 21 patients, none of whom is in both sets.

    Made to be learnt from, not to stand for tissue: patients differ in stain and texture, and vessels,
    follicles and muscle pass for glands by colour and shape, so that few labels give clearly less than many.
    Groups: set (train, test), patient, grade (benign, malignant).
    """

    version = layout.VERSION
    publishable = True

    def find(self, raw: Path) -> Path:
        """Nothing needs finding: the generator is its own source, whatever lies at `raw`."""
        return Path(staining.__file__)

    def items(self, folder: Path) -> Iterator[Item]:
        """The 84 images, training first."""
        for number, slide in enumerate(layout.slides()):
            groups = {"set": slide.set, "patient": str(slide.patient + 1), "grade": slide.grade}
            part = partial(_part, number, slide.patient, slide.grade)
            yield Item(slide.id, partial(part, 0), partial(part, 1), groups)


@lru_cache(maxsize=1)  # an image and its mask are asked for one after the other
def _pair(number: int, patient: int, grade: str) -> tuple[np.ndarray, np.ndarray]:
    return staining.draw(SEED, number, patient, grade)


def _part(number: int, patient: int, grade: str, which: int) -> np.ndarray:
    return _pair(number, patient, grade)[which].copy()
