"""What a data set is: `Dataset`, and `Item`, one of its images; how its files are found, and where images are cut.

Nothing here imports torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import model_validator

from benchmark.config.yaml_files import Strict
from benchmark.data import images
from benchmark.data.collections import COLLECTIONS
from benchmark.data.images import PixelDecoding
from benchmark.errors import UserError, listed
from benchmark.paths import splits_folder

IGNORE = 255
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")

Source = Path | Callable[[], np.ndarray]
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]
Key = TypeVar("Key", int, str)
Box = tuple[int, int, int, int]  # y, x, height, width in pixels of the image


class Tile(Strict):
    """Large images are cut into squares of `size` pixels, at native size, neighbours sharing at least `overlap`."""

    size: int
    overlap: int = 0

    @model_validator(mode="after")
    def _can_be_cut(self) -> Tile:
        if self.size < 16 or not 0 <= self.overlap < self.size:
            raise ValueError("must have a size of 16 pixels or more and an overlap below it, not "
                             f"{self.size} and {self.overlap}")
        return self


def boxes(height: int, width: int, size: int | tuple[int, int], overlap: int = 0) -> list[Box]:
    """Boxes that cover an image, row by row: tiles of `size` (or height and width), neighbours sharing `overlap` pixels
    or more. The last of a row or column ends with the image; an image smaller than a tile on one side is one box wide
    there. `benchmark.training.stitch` puts predictions of them together."""
    tall, wide = (size, size) if isinstance(size, int) else size
    down, across = _starts(height, tall, overlap), _starts(width, wide, overlap)
    return [(y, x, min(tall, height), min(wide, width)) for y in down for x in across]


def _starts(length: int, size: int, overlap: int) -> list[int]:
    last = max(0, length - size)
    return [*range(0, last, size - overlap), last]


@dataclass(frozen=True)
class Item:
    """One image with its mask: files, or functions that return the arrays (for generated data).

    image: uint8 [H, W, 3]. mask: integers [H, W]; 0 is background, each object has its own id (or, where the data
    set says `instances = False`, each pixel its class). ignore: True where the truth is unknown.
    groups: at least {"set": "train"}, "validation" or another set's name (every other set is for testing); "patient",
    "grade" and so on where they are known.
    """

    id: str
    image: Source
    mask: Source | None
    groups: dict[str, str]
    ignore: Source | None = None


class Dataset:
    """A data set. A subclass says where its files are and what they are called.

    `load_dataset` resolves what a user names to one such object, once; everything else is handed the object.
    """

    name: str = ""  # in run ids, records and tables; never a path
    source: str = ""  # what a user names it by: its name, or the path of its folder or Python file
    classes: tuple[str, ...] = ("background", "gland")
    version: int | str = 1  # bumped by hand when the same files would give other arrays
    instances: bool = True  # masks hold object ids; False: class indices, 255 = ignore
    may_lack_masks: bool = False  # an item without a mask is an unlabelled training image; False: a mistake
    threshold: int | None = None  # of grey masks of two classes, maybe in JPEG: from this value on it is the second
    tile: Tile | None = None  # images are cut at native size before they are resized
    decoding: PixelDecoding = images.PLAIN  # how files become pixels, for images that a run predicts later
    home: Path | None = None  # the folder of a data set of one's own
    published_statistics: Statistics | None = None
    prefixes: tuple[str, ...] = ()  # how names of its folder or archive begin; the first is where it should lie
    how_to_get: str = ""  # what to download, from where, under which licence, and what there is to put into place
    publishable: bool = False  # whether pictures of it may lie in a repository
    own_lists: Mapping[str, Sequence[Any]] = {}  # split -> the files of ids of each fold, of a folder of one's own
    stratified: bool = True  # lists are drawn within grades or, where none is known, classes that occur
    list_key: str = ""  # where given, lists follow from it and the patients' names alone, the same in every subset
    parts: Mapping[str, Callable[[str], bool]] = {}  # split -> whether a patient is in it, of lists of a subset
    licence: str = "not stated; ask who made the images"  # a sentence for the card of what is trained on them
    domain: str = ""  # stain, tissue and magnification in a few words
    microns_per_pixel: float | None = None  # of the images as released; None: not known
    why_unlabelled: str = ""  # of images that nobody has masks for: why they can only be unlabelled ones
    images_only: bool = False  # set on an object that is used as a pool of unlabelled images: no mask is looked for

    @property
    def prepared_name(self) -> str:
        """What the folder of its prepared arrays is called; folders of one name each have their own."""
        name = self.name.replace(":", "-") + "-images" * self.images_only
        if self.home is None:
            return name
        return f"{name}-{hashlib.sha256(str(self.home.resolve()).encode()).hexdigest()[:8]}"

    @cached_property
    def splits_folder(self) -> Path:
        """Where the lists of its splits lie."""
        return splits_folder(self.name) if self.home is None else self.home / "splits"

    def find(self, raw: Path) -> Path:
        """The folder with the images, or the archive that holds it.

        UserError where there is none: what to get, from where and under which licence, where to put it."""
        if found := self.home or self._find(raw):
            return found
        raise UserError(f"no images of {self.name} under {raw}. {' '.join(self.how_to_get.split())} Put that at "
                        f"{raw / self.prefixes[0]}, or name another place with --data FOLDER or SEMIHISTO_DATA")

    def holds(self, folder: Path) -> bool:
        """Whether the images lie in this folder."""
        raise NotImplementedError

    def _find(self, raw: Path) -> Path | None:
        """Looked at: `raw` itself; folders and archives in it whose name starts with one of `prefixes` (upper or lower
        case, blanks as underscores); the only folder in it (as in an unpacked archive); and so on in these."""
        if not raw.is_dir():
            return raw if is_archive(raw) else None
        if self.holds(raw):
            return raw
        entries = sorted(path for path in raw.iterdir() if not path.name.startswith((".", "__MACOSX")))
        named = [path for path in entries if path.name.lower().replace(" ", "_").startswith(self.prefixes)]
        folders = [path for path in entries if path.is_dir()]
        for path in sorted(named + folders * (len(folders) == 1), key=is_archive):
            if found := self._find(path):
                return found
        return None

    def items(self, folder: Path) -> Iterator[Item]:
        """The items in their one order. UserError for files that are missing."""
        raise NotImplementedError

    def relabel(self, item: Item, ids: np.ndarray) -> np.ndarray:
        """A chance to mend the object ids of a mask as released. [H, W] -> [H, W]."""
        return ids

    def read_image(self, item: Item) -> np.ndarray:
        """uint8 [H, W, 3]. `predict` knows `decoding` alone: what else a subclass does here, new images lack."""
        return item.image() if callable(item.image) else images.read_image(item.image, self.decoding)

    def read_mask(self, item: Item) -> np.ndarray:
        """uint16 [H, W], as released. UserError where there is none, or where it cannot be a mask."""
        if item.mask is None:
            raise UserError(f"{self.name}: image {item.id} has no mask; every image of this data set needs one")
        where = f"{self.name}: the generated mask {item.id}" if callable(item.mask) else str(item.mask)
        mask = item.mask() if callable(item.mask) else images.read_mask(item.mask, lossy=self.threshold is not None)
        mask = mask if self.threshold is None else mask >= self.threshold
        images.check_mask(mask, None if self.instances else len(self.classes), where)
        return mask.astype(np.uint16)

    def read_ignore(self, item: Item) -> np.ndarray | None:
        """bool [H, W], or None where everything is known."""
        if item.ignore is None:
            return None
        return (item.ignore() if callable(item.ignore) else images.read_mask(item.ignore)) > 0


class ImagePool(Dataset):
    """Images that nobody has masks for, in a folder and the folders in it: they can only be unlabelled training images
    (`--unlabelled`). They are read as the run's own images are."""

    images_only = True

    @property
    def prepared_name(self) -> str:
        return "-".join([super().prepared_name, *map(str, self.decoding.range or ()), *["grey"] * self.decoding.grey])

    def holds(self, folder: Path) -> bool:
        return folder.name.lower() == self.prefixes[0]

    def items(self, folder: Path) -> Iterator[Item]:
        places = [path.relative_to(folder) for path in sorted(folder.rglob("*"))
                  if path.suffix.lower() in images.EXTENSIONS]
        found = [place for place in places if not images.is_hidden(place)]
        if not found:
            raise UserError(f"{folder}: no images in it (.png, .tif, .jpg or .bmp; cut slides into tiles first)")
        for place in found:
            if not str(place).isprintable():
                raise images.misnamed(folder / place)
            yield Item(place.as_posix(), folder / place, None, {"set": "train"})

    def read_image(self, item: Item) -> np.ndarray:
        """uint8 [H, W, 3]. UserError for what cannot be read, and for a picture that must be a mask."""
        image = super().read_image(item)
        if images.looks_like_a_mask(image) and not images.is_blank_tile(image):
            raise UserError(f"{item.image}: most of its neighbouring pixels are equal, as in a mask; take such files "
                            "out, or name a folder of images alone")
        return image


class CollectionPool(ImagePool):
    """One of COLLECTIONS."""

    def __init__(self, name: str) -> None:
        self.name = self.source = name
        self.prefixes = (name,)
        _, self.domain, self.licence, self.why_unlabelled, self.how_to_get = COLLECTIONS[name]


def check_colours(dataset: Dataset, decoding: PixelDecoding, whose: str) -> None:
    """UserError where a data set is read in colour and `whose` images in grey, or the reverse."""
    if dataset.decoding.grey != decoding.grey:
        theirs, here = (("colour", "grey")[each.grey] for each in (decoding, dataset.decoding))
        raise UserError(f"{whose} in {theirs}, and {dataset.name} reads them in {here}; say so by `pixels: grey` (or "
                        "by leaving it out) in its dataset.yaml")


def is_archive(path: Path) -> bool:
    """Whether this is a file with an archive's name."""
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def numbered(folder: Path, name: str) -> dict[int, Path]:
    """The number in a file's name -> image file; see `keyed`."""
    return keyed(folder, name, int, "number")


def keyed(folder: Path, name: str, key: Callable[[str], Key], what: str) -> dict[Key, Path]:
    """The `key` of a part of a file's name -> image file, of all that are called like the expression `name`, with that
    part in brackets, and have any extension of an image. UserError where two files have one key."""
    found: dict[Key, Path] = {}
    for path in sorted(folder.iterdir() if folder.is_dir() else ()):
        match = re.fullmatch(name, path.stem)
        if match is None or path.name.startswith(".") or path.suffix.lower() not in images.EXTENSIONS:
            continue
        other = found.setdefault(key(match[1]), path)
        if other != path:
            raise UserError(f"{path}: a second file for {what} {key(match[1])} beside {other.name}; keep one")
    return found


def paired(
    pictures: Mapping[Key, Path], masks: Mapping[Key, Path], *, may_lack: bool = False, images_only: bool = False
) -> Iterator[tuple[Key, Path, Path | None]]:
    """Keys, images and masks in order. UserError for a mask without its image, and, unless it `may_lack` one (None), an
    image without its mask. `images_only`: no mask is looked at."""
    if images_only:
        masks, may_lack = {}, True
    for lone, paths, lack in (
        (pictures.keys() - masks.keys() if not may_lack else (), pictures, "its mask is missing"),
        (masks.keys() - pictures.keys(), masks, "a mask without its image"),
    ):
        if lone:
            raise UserError(f"{listed([paths[key] for key in sorted(lone)])}: {lack}")
    for key in sorted(pictures):
        yield key, pictures[key], masks.get(key)
