"""CRAG as released: two folders of images with masks of gland ids."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from benchmark.data.dataset import Dataset, Item, numbered, paired

SETS = {"train": "train", "valid": "test"}  # the release's folder -> our set
PARTS = ("Images", "Annotation")


class CRAG(Dataset):
    """Graham et al. 2019: glands in H&E images of the colon, 173 to train and 40 to test; untested on the real files.

    The release has train and valid, each with Images/*.png and Annotation/*.png (masks of gland ids) of about 1512 x
    1516 pixels; every paper tests on valid. This adapter was written from that description and tried on made-up files
    of this layout alone: the real ones were not at hand. Paper: Medical Image Analysis 52 (MILD-Net), arXiv 1806.01963.
    Groups: set (train, test). Neither patients nor grades are known.
    """

    domain = "H&E, colon, 20x"
    stratified = False  # its lists are made from the names of the images alone
    # Of the published code of Semi-MoE.
    published_statistics = ((0.83066, 0.72237, 0.85730), (0.11995, 0.15235, 0.09136))

    prefixes = ("crag",)
    how_to_get = """CRAG is the Colorectal Adenocarcinoma Gland data set of MILD-Net (University of Warwick; for
        research only, not commercial): its folder (train/Images, train/Annotation, valid/Images, valid/Annotation), or
        its zip."""

    def holds(self, folder: Path) -> bool:
        return all((folder / place / part).is_dir() for place in SETS for part in PARTS[: 2 - self.images_only])

    def items(self, folder: Path) -> Iterator[Item]:
        for place, name in SETS.items():
            images, masks = (numbered(folder / place / part, r"\D*(\d+)") for part in PARTS)
            for number, image, mask in paired(images, masks, images_only=self.images_only):
                yield Item(f"{name}_{number}", image, mask, {"set": name})
