"""EBHI-Seg as released, a folder a class: the five classes whose masks outline glands."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from benchmark.data.dataset import Dataset, Item, keyed, paired
from benchmark.errors import UserError

PARTS = ("image", "label")
CLASSES = ("Normal", "Polyp", "Low-grade IN", "High-grade IN", "Serrated adenoma", "Adenocarcinoma")
NAME = re.compile(r"[A-Z]+(\d{7})-(.+)-400-\d+", re.IGNORECASE)  # GTxc, GTXC and, once, GTGT: one patient, one number


def in_quarter(patient: str) -> bool:
    """Whether the patient is in the quarter of the release for which lists lie in configs/splits."""
    return int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 4 == 0


class EBHIGland(Dataset):
    """Shi et al. 2023: glands in H&E tiles of colorectal biopsies, 1,433 of EBHI-Seg: all but Adenocarcinoma.

    The release has a folder a class, each with image/*.png and label/*.png of 224 x 224 pixels; grey edges are cut at
    128. It has no official split; the subset is our reading of MPAMatch's EBHI-SEG-GLAND, which nobody has defined.
    Paper: Frontiers in Medicine 10, 1114673.
    Groups: set (train), patient (seven digits of the name), slide, grade (the release's class).
    """

    domain = "H&E, colorectal biopsies, 400x"
    grades: tuple[str, ...] = CLASSES[:5]
    instances = False
    threshold = 128  # of full masks some are constant 253
    may_lack_masks = True  # two images of the release do
    list_key = "ebhi"  # of ebhi_cancer, too: a patient of both is in the same fold of both
    parts = {"quarter": in_quarter}
    licence = "not stated in what could be read of the release; for research"

    prefixes = ("ebhi-seg", "ebhi")
    how_to_get = """EBHI-Seg is figshare.com/articles/dataset/EBHI-SEG/21540159 (its licence is to be looked up there):
        its folder (Normal/image/*.png, ...), or its archive."""

    def holds(self, folder: Path) -> bool:
        return any((folder / grade / "image").is_dir() for grade in CLASSES)

    def items(self, folder: Path) -> Iterator[Item]:
        for grade in self.grades:
            parts = PARTS[: 2 - self.images_only]
            for part in parts:
                if not (folder / grade / part).is_dir():
                    raise UserError(f"{folder / grade / part}: no such folder; {self.name} needs image and label of "
                                    f"{', '.join(self.grades)}")
            files = [keyed(folder / grade / part, "(.+)", str.upper, "name") for part in parts]
            for name, image, mask in paired(files[0], files[-1] if len(files) > 1 else {}, may_lack=True):
                known = NAME.fullmatch(name)
                if known is None:
                    raise UserError(f"{image}: its name does not say a patient, as GT2100093-1-400-001 does; move it "
                                    "away")
                patient, slide = known[1], f"{known[1]}-{known[2]}"
                groups = {"set": "train", "patient": patient, "slide": slide, "grade": grade}
                yield Item(f"{grade.replace(' ', '-')}_{name}", image, mask, groups)
