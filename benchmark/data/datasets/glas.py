"""GlaS (Warwick-QU) as released, whatever the image format."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.dataset import Dataset, Item, numbered, paired
from benchmark.errors import UserError

SETS = ("train", "testA", "testB")
GRADES = ("benign", "malignant")
# These four were released with id 1 for every gland; per-object scores need the glands apart.
MERGED = frozenset({"testB_3", "testB_11", "testB_18", "testB_19"})


class GlaS(Dataset):
    """Sirinukunwattana et al. 2017: glands in H&E images of the colon, 85 to train and 80 to test (MICCAI 2015).

    The release is one flat folder: train_N, testA_N and testB_N with masks `_anno` of gland ids, and Grade.csv with
    each image's patient and grade. Paper: Medical Image Analysis 35, arXiv 1603.00275.
    Groups: set (train, testA, testB), patient (the release's number), grade (benign, malignant).
    """

    domain = "H&E, colon, 20x"
    microns_per_pixel = 0.62005  # as the challenge's page prints it; other pages say 0.465
    licence = "for research only, not commercial (MICCAI 2015 Gland Segmentation challenge, University of Warwick)"
    # Of the published code. A deviation of 0.512 is impossible for values in [0, 1]: for the `paper` preset only.
    published_statistics = ((0.787803, 0.512017, 0.784938), (0.428206, 0.507778, 0.426366))

    prefixes = ("glas", "warwick_qu", "warwick-qu")
    how_to_get = """GlaS is the release 'warwick_qu_dataset_released_2016_07_08.zip' of the MICCAI 2015 Gland
        Segmentation challenge (University of Warwick; for research only, not commercial): its folder (train_1.bmp,
        ..., Grade.csv), or the zip."""

    def holds(self, folder: Path) -> bool:
        return bool(numbered(folder, r"train_(\d+)"))

    def items(self, folder: Path) -> Iterator[Item]:
        table = folder / "Grade.csv"
        known = _grades(table)
        for name in SETS:
            images, masks = numbered(folder, rf"{name}_(\d+)"), numbered(folder, rf"{name}_(\d+)_anno")
            for _, image, mask in paired(images, masks, images_only=self.images_only):
                if image.stem not in known:
                    raise UserError(f"{table}: no row for the image {image.stem}")
                patient, grade = known.pop(image.stem)
                yield Item(image.stem, image, mask, {"set": name, "patient": patient, "grade": grade})
        if known:
            raise UserError(f"{table}: names {next(iter(known))}, but there is no such image")

    def relabel(self, item: Item, ids: np.ndarray) -> np.ndarray:
        if item.id not in MERGED or ids.max() > 1:
            return ids
        from scipy import ndimage

        return ndimage.label(ids, structure=np.ones((3, 3)))[0].astype(ids.dtype)


def _grades(table: Path) -> dict[str, tuple[str, str]]:
    """image -> (patient, grade). As released: CRLF line ends, blanks after the commas."""
    if not table.is_file():
        raise UserError(f"{table} is missing; it is part of the release and says each image's patient and grade")
    found = {}
    with open(table, newline="", encoding="utf-8-sig", errors="replace") as file:
        for number, row in enumerate(csv.reader(file, skipinitialspace=True), 1):
            if number == 1 or not any(row):
                continue
            if len(row) < 3 or row[2].strip() not in GRADES:
                raise UserError(f"{table}, line {number}: expected 'train_1, patient, benign|malignant', not "
                                f"{', '.join(row)[:60]!r}")
            found[row[0].strip()] = row[1].strip(), row[2].strip()
    return found
