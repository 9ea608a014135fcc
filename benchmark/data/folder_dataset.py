"""A data set of one's own: a folder with images, masks and `dataset.yaml`. See docs/your-data.md."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmark.data import images
from benchmark.data.dataset import IGNORE, Dataset, Item
from benchmark.data.folder_files import files_of
from benchmark.data.folder_schema import Threshold, describe
from benchmark.data.groups import TRAIN, read_groups
from benchmark.data.images import PixelDecoding
from benchmark.errors import UserError

UNKNOWN = 65535  # in a table from mask values to classes
SHOWN = 5  # wrong values that a complaint lists


class FolderDataset(Dataset):
    """Images of one's own, with masks of classes or of instances; an image without a mask is an unlabelled one.

    Its version is a digest of what dataset.yaml says of pixels and groups, and of the table of groups: records of the
    version before are stale. What is in the images and masks is known by the fingerprint of their pixels.
    """

    may_lack_masks = True

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.description = said = describe(folder)
        self.name, self.classes, self.instances = said.name, tuple(said.classes), said.masks == "instances"
        self.publishable, self.tile = said.publishable, said.tile
        self.licence = " ".join(said.licence.split()) or self.licence
        self.decoding = PixelDecoding((said.range[0], said.range[1]) if said.range else None, said.pixels == "grey")
        self.own_lists = said.splits
        self.files = files_of(folder, said.image_files, said.mask_files + said.mask_suffix, said.follow_links)
        self.version = self._version()

    def find(self, raw: Path) -> Path:
        """Nothing needs finding: it was named by its path."""
        assert self.home is not None
        return self.home

    def items(self, folder: Path) -> Iterator[Item]:
        """The images in natural order of their ids."""
        groups = read_groups(folder, self.description, self.files.groups)
        for name, path in self.files.images.items():
            mask = self.files.masks.get(name)
            if mask is None and groups[name]["set"] != TRAIN:
                raise UserError(f"{path}: is in set '{groups[name]['set']}' and has no mask; only training images may "
                                "lack one")
            ignore = mask if self.instances and self.description.ignore is not None else None
            yield Item(name, path, mask, groups[name], ignore)

    def read_image(self, item: Item) -> np.ndarray:
        """uint8 [H, W, 3]; numbers of 16 bits are scaled by the file's `range`, colours made grey where it says so."""
        return self.decoding.read(_path(item.image), "say in dataset.yaml what becomes black and white, as in range: "
                                  "[0, 65535] ('data new' measures it)")

    def read_mask(self, item: Item) -> np.ndarray:
        """uint16 [H, W]: object ids, or class indices and 255."""
        try:
            return self._instances(_path(item.mask)) if self.instances else self._classes(_path(item.mask))
        except UserError as error:
            if images.looks_like_a_mask(_path(item.image)):
                raise UserError(f"{error}; its image has few colours: are images and masks swapped?") from None
            raise

    def read_ignore(self, item: Item) -> np.ndarray | None:
        """bool [H, W]: of instances the pixels with the value to ignore; of classes the mask says it."""
        return None if item.ignore is None else images.read_mask(_path(item.ignore)) == self.description.ignore

    def _instances(self, path: Path) -> np.ndarray:
        ids = images.read_mask(path)
        images.check_mask(ids, None, str(path))
        return np.where(ids == self.description.ignore, 0, ids).astype(np.uint16)

    def _classes(self, path: Path) -> np.ndarray:
        said = self.description
        colours = [value for value in (*said.classes.values(), said.ignore) if isinstance(value, tuple)]
        if colours:
            found = images.read_colour_mask(path, colours).astype(np.uint16)
            found[found == len(self.classes)] = IGNORE
            return found
        numbers = images.read_mask(path, lossy=said.thresholds)
        found = self._table[numbers]
        if (found == UNKNOWN).any():
            raise UserError(f"{path}: {self._complaint(numbers[found == UNKNOWN])}")
        return found

    @cached_property
    def _table(self) -> np.ndarray:
        """uint16 [65536]: a mask's number -> class index, 255 or UNKNOWN."""
        table = np.full(1 << 16, UNKNOWN, np.uint16)
        said = self.description
        values = [value.lowest if isinstance(value, Threshold) else value for value in said.classes.values()]
        for value in sorted(value for value in values if isinstance(value, int)):
            table[value : None if said.thresholds else value + 1] = values.index(value)
        if isinstance(said.ignore, int):
            table[said.ignore] = IGNORE
        return table

    def _complaint(self, wrong: np.ndarray) -> str:
        values, counts = np.unique(wrong, return_counts=True)
        shown = ", ".join(map(str, values[np.argsort(-counts, kind="stable")[:SHOWN]]))
        known = ", ".join(f"{name} {value}" for name, value in self.description.classes.items())
        more, hint = "", ""
        if len(values) > SHOWN:
            more = f" and {len(values) - SHOWN} more"
            hint = ("; if they are grey edges of a class, give a threshold, as in "
                    f"{{{self.classes[0]}: 0, {self.classes[1]}: {{from: 128}}}}")
        return (f"mask values {shown}{more} in {len(wrong):,} pixels are no class of dataset.yaml ({known}) and not "
                f"its ignore value{hint}")

    def _version(self) -> str:
        """Twelve hexadecimal digits."""
        digest = hashlib.sha256(json.dumps(self.description.decisive()).encode())
        if self.description.groups:
            table = self.find(Path()) / self.description.groups
            digest.update(table.read_bytes() if table.is_file() else b"")
        return digest.hexdigest()[:12]


def _path(source: object) -> Path:
    assert isinstance(source, Path)
    return source
