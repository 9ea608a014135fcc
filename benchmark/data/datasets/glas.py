"""GlaS (Warwick-QU) as released, whatever the image format."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.data.dataset import Dataset, Item, locate
from benchmark.data.images import LOSSLESS
from benchmark.errors import UserError

SETS = ("train", "testA", "testB")
NAME = re.compile(r"(train|testA|testB)_(\d+)(_anno)?")
WHERE = ("GlaS is the release 'warwick_qu_dataset_released_2016_07_08.zip' of the MICCAI 2015 Gland Segmentation "
         "challenge (University of Warwick; for research only, not commercial)")
# These four were released with id 1 for every gland; per-object scores need the glands apart.
MERGED = frozenset({"testB_3", "testB_11", "testB_18", "testB_19"})


class GlaS(Dataset):
    """Sirinukunwattana et al. 2017: glands in H&E images of the colon, 85 to train and 80 to test (MICCAI 2015).

    The release is one flat folder: train_N, testA_N and testB_N with masks `_anno` of gland ids, and Grade.csv with
    each image's patient and grade. Paper: Medical Image Analysis 35, arXiv 1603.00275.
    Groups: set (train, testA, testB), patient (the release's number), grade (benign, malignant).
    """

    licence = "for research only, not commercial (MICCAI 2015 Gland Segmentation challenge, University of Warwick)"
    # Of the published code. A deviation of 0.512 is impossible for values in [0, 1]: for the `paper` preset only.
    published_statistics = ((0.787803, 0.512017, 0.784938), (0.428206, 0.507778, 0.426366))

    def find(self, raw: Path) -> Path:
        found = locate(raw, ("glas", "warwick_qu", "warwick-qu"), lambda folder: bool(_files(folder)))
        if found is None:
            raise UserError(f"no GlaS images under {raw}. {WHERE}; put its folder (train_1.bmp, ..., Grade.csv) or the "
                            f"zip at {raw / 'glas'}, or name the place with --data FOLDER or SEMIHISTO_DATA")
        return found

    def items(self, folder: Path) -> Iterator[Item]:
        files, grades = _files(folder), _grades(folder)
        stems = [stem for stem in files if not stem.endswith("_anno")]
        orphan = sorted({stem.removesuffix("_anno") for stem in files} - set(stems), key=_natural)
        if orphan:
            raise UserError(f"{files[orphan[0] + '_anno']}: a mask without its image {orphan[0]}{_others(orphan)}")
        bare = sorted((stem for stem in stems if stem + "_anno" not in files), key=_natural)
        if bare:
            raise UserError(f"{files[bare[0]]}: its mask {bare[0]}_anno is missing{_others(bare)}")
        lost = sorted(set(grades) - set(stems), key=_natural)
        if lost:
            raise UserError(f"{folder}: Grade.csv names {lost[0]}, but there is no such image{_others(lost)}")
        for stem in sorted(stems, key=_natural):
            if stem not in grades:
                raise UserError(f"{folder / 'Grade.csv'}: no row for the image {stem}")
            patient, grade = grades[stem]
            yield Item(stem, files[stem], files[stem + "_anno"],
                       {"set": stem.partition("_")[0], "patient": patient, "grade": grade})

    def relabel(self, item: Item, ids: np.ndarray) -> np.ndarray:
        if item.id not in MERGED or ids.max() > 1:
            return ids
        from scipy import ndimage

        return ndimage.label(ids, structure=np.ones((3, 3)))[0].astype(ids.dtype)


def _natural(stem: str) -> tuple[int, int]:
    kind, _, number = stem.partition("_")
    return SETS.index(kind), int(number)


def _others(stems: list[str]) -> str:
    return f" (and {len(stems) - 1} more)" if len(stems) > 1 else ""


def _files(folder: Path) -> dict[str, Path]:
    """stem -> file, of everything named as in the release. UserError where one stem has two files."""
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in LOSSLESS and NAME.fullmatch(path.stem):
            if path.stem in found:
                raise UserError(f"{path}: a second file for {path.stem} beside {found[path.stem].name}; keep one")
            found[path.stem] = path
    return found


def _grades(folder: Path) -> dict[str, tuple[str, str]]:
    """image -> (patient, grade). As released: CRLF line ends, blanks after the commas."""
    path = folder / "Grade.csv"
    if not path.is_file():
        raise UserError(f"{path} is missing; it is part of the release and says each image's patient and grade")
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            rows = [[cell.strip() for cell in row] for row in csv.reader(file)]
    except (UnicodeDecodeError, csv.Error):
        raise UserError(f"{path}: not a text table; copy it again from the release") from None
    found = {}
    for number, row in enumerate(rows[1:], 2):
        if not any(row):
            continue
        if len(row) < 3 or not NAME.fullmatch(row[0]) or not row[1] or row[2] not in ("benign", "malignant"):
            raise UserError(f"{path}, line {number}: expected 'train_1, patient, benign|malignant', not "
                            f"{', '.join(row)[:60]!r}")
        if row[0] in found:
            raise UserError(f"{path}, line {number}: a second row for {row[0]}")
        found[row[0]] = row[1], row[2]
    return found
