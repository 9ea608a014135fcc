"""Prepared data: the arrays that a run reads, checked against their fingerprint every time they are opened."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from PIL import Image

from benchmark.data.dataset import IGNORE, Box, Dataset
from benchmark.data.source import Content, groups_fingerprint
from benchmark.errors import UserError
from benchmark.files import DAMAGED, ArrayFile, sha256

ABSENT = "is not there"
OTHER = "is of another version (of SemiHisto, of dataset.yaml or of its groups)"
FORMAT = 2  # of the folder's files; another number means: prepare again
LARGER = 1.5  # times as long on a side before resizing: tissue is shown at another scale
Channels = tuple[float, float, float]
T = TypeVar("T")


class Unusable(Exception):
    """A prepared folder that is missing, damaged or of another version; it can be prepared again."""


class Rows:
    """Chosen rows of several arrays, one array after the other; each is read when it is asked for."""

    def __init__(self, *parts: tuple[np.ndarray, Sequence[int]]) -> None:
        self.arrays = [array for array, _ in parts]
        self.places = [(part, row) for part, (_, rows) in enumerate(parts) for row in rows]
        self.shape, self.dtype = (len(self.places), *self.arrays[0].shape[1:]), self.arrays[0].dtype
        self.size = int(np.prod(self.shape))

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, rows: Any) -> np.ndarray:
        wanted = np.arange(len(self))[rows]
        found = np.empty((wanted.size, *self.shape[1:]), self.dtype)
        for slot, (part, row) in enumerate(self.places[number] for number in wanted.flat):
            found[slot] = self.arrays[part][row]
        return found.reshape(*wanted.shape, *self.shape[1:])


@dataclass(frozen=True, eq=False)
class PreparedData:
    """One data set at one working size. N images, S pixels a side.

    An image is one row of the arrays, or, where the data set is tiled, one a tile. All else is per image.
    """

    dataset: Dataset
    size: int
    folder: Path
    images: np.ndarray  # uint8 [rows, S, S, 3], memory-mapped
    masks: np.ndarray  # uint8 [rows, S, S]: class index, 255 = ignore
    ids: tuple[str, ...]
    groups: dict[str, tuple[str, ...]]  # "set", and "patient" and "grade" where known; one value an image
    classes: tuple[str, ...]
    fingerprint: str  # of ids and decoded source pixels: the same for a .bmp and a .png copy, and at every size
    arrays_fingerprint: str  # of ids, images and masks at this size
    native_sizes: tuple[tuple[int, int], ...]  # (H, W)
    hashes: tuple[str, ...]  # of each decoded source image
    native_masks: Mapping[str, np.ndarray]  # by id, `<id>.classes` and `<id>.ignore`; an open file
    unmasked: frozenset[str]  # images without a mask: 255 throughout, never labelled, never tested
    tiles: tuple[tuple[Box, ...], ...]  # of each image, where its rows lie in it at native size; one where it is whole
    pools: tuple[PreparedData, ...] = ()  # whose images follow the data set's own (benchmark/data/pools.py)
    parts: Mapping[str, str] = field(default_factory=dict)  # the fingerprint of each of the data set's parts alone

    @property
    def name(self) -> str:
        """The data set's name."""
        return self.dataset.name

    @cached_property
    def content(self) -> Content:
        """What these arrays were made from."""
        return Content(self.fingerprint, groups_fingerprint(self.ids, self.groups), dict(self.parts))

    def fingerprint_of(self, split: str) -> str:
        """The fingerprint of the part that the lists of a split are of, or of all."""
        return self.parts.get(split, self.fingerprint)

    def part(self, split: str) -> PreparedData:
        """The images of the part that the lists of a split are of, in all as if nothing else had been prepared; these
        data themselves where the split is of no part, or there is nothing else."""
        if (holds := self.dataset.parts.get(split)) is None:
            return self
        kept = [place for place, patient in enumerate(self.groups["patient"]) if holds(patient)]
        if len(kept) == len(self.ids):
            return self

        def of(values: Sequence[T]) -> tuple[T, ...]:
            return tuple(values[place] for place in kept)

        ids = of(self.ids)
        images, masks = (Rows((array, self.rows_of(ids))) for array in (self.images, self.masks))
        return replace(
            self, images=cast(Any, images), masks=cast(Any, masks), ids=ids,
            groups={key: of(values) for key, values in self.groups.items()}, fingerprint=self.parts[split],
            arrays_fingerprint=arrays_fingerprint(ids, images[:], masks[:]), native_sizes=of(self.native_sizes),
            hashes=of(self.hashes), unmasked=self.unmasked & {*ids}, tiles=of(self.tiles),
        )

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.ids)}

    @cached_property
    def _ends(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.tiles)])

    def position(self, id: str) -> int:
        """The place of an image among `ids`, and so among groups, sizes and hashes."""
        if id not in self._places:
            raise UserError(f"{self.name}: no image '{id}' in {self.folder}")
        return self._places[id]

    def hashes_of(self, ids: Iterable[str]) -> list[str]:
        """The hashes of some decoded source images."""
        return [self.hashes[self.position(name)] for name in ids]

    def rows(self, id: str) -> range:
        """The rows of an image in the arrays: one, or one a tile, in the order of `boxes`."""
        place = self.position(id)
        return range(self._ends[place], self._ends[place + 1])

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """The rows of several images, one image after the other."""
        return [row for name in ids for row in self.rows(name)]

    def boxes(self, id: str) -> tuple[Box, ...]:
        """Where an image's rows lie in it, at native size: tiles, or the image itself."""
        return self.tiles[self.position(id)]

    def native_size(self, names: Iterable[str]) -> tuple[int, int]:
        """(H, W): the median of these images, or of their tiles, before they are resized."""
        height, width = np.median([box[2:] for name in names for box in self.boxes(name)], axis=0)
        return round(height), round(width)

    def picture(self, id: str) -> tuple[np.ndarray, np.ndarray]:
        """An image, uint8 [S, S, 3], and its mask [S, S], to be looked at; of tiles, put together from small ones."""
        rows = self.rows(id)
        if len(rows) == 1:
            return self.images[rows[0]], self.masks[rows[0]]
        image, mask = np.zeros((self.size, self.size, 3), np.uint8), np.zeros((self.size, self.size), np.uint8)
        tall, wide = self.native_sizes[self.position(id)]
        for row, (y, x, height, width) in zip(rows, self.boxes(id), strict=True):
            top, left = y * self.size // tall, x * self.size // wide
            bottom, right = -(-(y + height) * self.size // tall), -(-(x + width) * self.size // wide)
            shape = right - left, bottom - top
            part = Image.fromarray(self.images[row]).resize(shape, Image.Resampling.BILINEAR)
            label = Image.fromarray(self.masks[row]).resize(shape, Image.Resampling.NEAREST)
            image[top:bottom, left:right], mask[top:bottom, left:right] = np.asarray(part), np.asarray(label)
        return image, mask

    def native(self, id: str) -> np.ndarray:
        """Object ids [H, W] at native resolution, uint8 or uint16; 0 is background."""
        return self.native_masks[id]

    def native_classes(self, id: str) -> np.ndarray:
        """Class indices [H, W] at native resolution, uint8; 255 = ignore."""
        if f"{id}.classes" in self.native_masks:
            return self.native_masks[f"{id}.classes"]
        return np.where(self.native_valid(id), self.native(id) > 0, IGNORE).astype(np.uint8)

    def native_valid(self, id: str) -> np.ndarray:
        """bool [H, W]: False where the truth is unknown (ignore)."""
        if f"{id}.ignore" in self.native_masks:
            return ~self.native_masks[f"{id}.ignore"]
        return np.ones(self.native_sizes[self.position(id)], dtype=bool)

    def statistics(self, rows: Sequence[int]) -> tuple[Channels, Channels]:
        """Mean and standard deviation of the three channels over these rows' pixels in [0, 1], one row at a time.

        Exact: counts of the 256 values, then float64. A deviation above 0.5 is impossible for such pixels."""
        if len(rows) == 0:
            raise UserError(f"{self.name}: statistics of no images")
        values = np.arange(256) / 255
        counts = np.zeros((3, 256), dtype=np.int64)
        for row in rows:
            counts += [np.bincount(self.images[row][..., channel].ravel(), minlength=256) for channel in range(3)]
        means, deviations = [], []
        for count in counts:
            share = count / count.sum()
            means.append(float(share @ values))
            deviations.append(float(np.sqrt(share @ (values - means[-1]) ** 2)))
        return (means[0], means[1], means[2]), (deviations[0], deviations[1], deviations[2])


def scales_differ(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether images of these sizes (H, W) show tissue at another scale once they are resized."""
    return max(max(a / b, b / a) for a, b in zip(one, other, strict=True)) > LARGER


def arrays_fingerprint(ids: Sequence[str], images: np.ndarray, masks: np.ndarray) -> str:
    """sha256 of the ids and the working arrays."""
    digest = hashlib.sha256(json.dumps([list(ids), images.shape]).encode())
    for array in (images, masks):
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read_prepared(folder: Path, dataset: Dataset, size: int) -> PreparedData:
    """The prepared data in `folder`. Raises Unusable with the reason where it cannot be used."""
    if not folder.is_dir():
        raise Unusable(ABSENT)
    try:
        index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        versions = index["format"], index["dataset"], index["version"], index["size"]
        if versions != (FORMAT, dataset.name, dataset.version, size):
            raise Unusable(OTHER)
        images, masks = (np.load(folder / name, mmap_mode="r") for name in ("images.npy", "masks.npy"))
        sizes = tuple((h, w) for h, w in index["native_sizes"])
        made = PreparedData(
            dataset, size, folder, images, masks, tuple(index["ids"]),
            {key: tuple(values) for key, values in index["groups"].items()}, tuple(index["classes"]),
            index["fingerprint"], index["arrays_fingerprint"], sizes, tuple(index["hashes"]),
            ArrayFile(folder / "native.npz"), frozenset(index.get("unmasked", ())),
            tuple(tuple((y, x, h, w) for y, x, h, w in boxes) for boxes in index.get("tiles", ()))
            or tuple(((0, 0, *size),) for size in sizes), parts=index.get("parts", {}),
        )
        if made.parts.keys() != dataset.parts.keys():
            raise Unusable(OTHER)
        if sha256(folder / "native.npz") != index["native_sha256"]:
            raise Unusable("is damaged (native.npz is not as it was written)")
        if arrays_fingerprint(made.ids, images, masks) != made.arrays_fingerprint:
            raise Unusable("is damaged (the arrays do not have their fingerprint)")
        return made
    except (*DAMAGED, TypeError, AttributeError) as error:
        cause = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise Unusable(f"is damaged ({cause[:160]})") from None
