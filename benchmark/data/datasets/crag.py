"""CRAG as released: two folders of images with masks of gland ids."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from benchmark.data.dataset import Dataset, Item, locate
from benchmark.data.images import EXTENSIONS
from benchmark.errors import UserError

SETS = {"train": "train", "valid": "test"}  # the release's folder -> our set
PARTS = ("Images", "Annotation")
NAME = re.compile(r"\D*(\d+)")
WHERE = ("CRAG is the Colorectal Adenocarcinoma Gland data set of MILD-Net (University of Warwick; for research only, "
         "not commercial)")


class CRAG(Dataset):
    """Graham et al. 2019: glands in H&E images of the colon, 173 to train and 40 to test; untested on the real files.

    The release has train and valid, each with Images/*.png and Annotation/*.png (masks of gland ids) of about 1512 x
    1516 pixels; every paper tests on valid. This adapter was written from that description and tried on made-up files
    of this layout alone: the real ones were not at hand. Paper: Medical Image Analysis 52 (MILD-Net), arXiv 1806.01963.
    Groups: set (train, test). Neither patients nor grades are known.
    """

    stratified = False  # its lists are made from the names of the images alone
    # Of the published code of Semi-MoE.
    published_statistics = ((0.83066, 0.72237, 0.85730), (0.11995, 0.15235, 0.09136))

    def find(self, raw: Path) -> Path:
        found = locate(raw, ("crag",), lambda folder: all((folder / name / PARTS[0]).is_dir() for name in SETS))
        if found is None:
            raise UserError(f"no CRAG images under {raw}. {WHERE}; put its folder (train/Images, train/Annotation, "
                            f"valid/Images, valid/Annotation) or its zip at {raw / 'crag'}, or name the place with "
                            "--data FOLDER or SEMIHISTO_DATA")
        return found

    def items(self, folder: Path) -> Iterator[Item]:
        for place, name in SETS.items():
            images, masks = (_numbered(folder / place / part) for part in PARTS)
            if not images:
                raise UserError(f"{folder / place / PARTS[0]}: no images in it; expected {name}_1.png and so on")
            for numbers, path, lack in (
                (images.keys() - masks.keys(), images, f"its mask is missing from {folder / place / PARTS[1]}"),
                (masks.keys() - images.keys(), masks, f"a mask without its image in {folder / place / PARTS[0]}"),
            ):
                if numbers:
                    more = f" (and {len(numbers) - 1} more)" if len(numbers) > 1 else ""
                    raise UserError(f"{path[min(numbers)]}: {lack}{more}")
            for number in sorted(images):
                yield Item(f"{name}_{number}", images[number], masks[number], {"set": name})


def _numbered(folder: Path) -> dict[int, Path]:
    """The number at the end of a file's name -> file. UserError for other names, and where two have one number."""
    if not folder.is_dir():
        raise UserError(f"{folder} is missing; the release has {' and '.join(PARTS)} in train and in valid")
    found: dict[int, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or path.suffix.lower() not in EXTENSIONS:
            continue
        match = NAME.fullmatch(path.stem)
        if match is None:
            raise UserError(f"{path}: not a name of the release, which ends in the image's number, as in train_1.png")
        other = found.setdefault(int(match[1]), path)
        if other != path:
            raise UserError(f"{path}: a second file for number {int(match[1])} beside {other.name}; keep one")
    return found
