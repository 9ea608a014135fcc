"""What a data set is (`Dataset`, `Item`), and how one is found by name or path. Nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmark.data import images
from benchmark.data.folder_schema import FILE, Tile, describe
from benchmark.data.images import PixelDecoding
from benchmark.data.naming import folder_of, is_own, path_of, short
from benchmark.errors import UserError
from benchmark.registry import DATASETS

IGNORE = 255
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")

Source = Path | Callable[[], np.ndarray]
Statistics = tuple[tuple[float, float, float], tuple[float, float, float]]


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
    """A data set. A subclass says where its files are and what they are called; its name is its file's name."""

    name: str = ""
    classes: tuple[str, ...] = ("background", "gland")
    version: int | str = 1  # bumped by hand when the same files would give other arrays
    instances: bool = True  # masks hold object ids; False: class indices, 255 = ignore
    may_lack_masks: bool = False  # an item without a mask is an unlabelled training image; False: a mistake
    tile: Tile | None = None  # images are cut at native size before they are resized
    decoding: PixelDecoding = PixelDecoding()  # how files become pixels, for images that a run predicts later
    home: Path | None = None  # the folder of a data set of one's own
    published_statistics: Statistics | None = None
    publishable: bool = False  # whether pictures of it may lie in a repository
    licence: str = "not stated; ask who made the images"  # a sentence for the card of what is trained on them

    @property
    def full_name(self) -> str:
        """What `load_dataset` finds it by."""
        return self.name if self.home is None else f"{path_of(self.home)}:{self.name}"

    @property
    def prepared_name(self) -> str:
        """What the folder of its prepared arrays is called; versions of one's own data lie side by side."""
        return self.name if self.home is None else f"{self.name}-{self.version}"

    def find(self, raw: Path) -> Path:
        """The folder with the images, or the archive that holds it.

        UserError where there is none: what to get, from where and under which licence, where to put it."""
        raise NotImplementedError

    def items(self, folder: Path) -> Iterator[Item]:
        """The items in their one order. UserError for files that are missing."""
        raise NotImplementedError

    def relabel(self, item: Item, ids: np.ndarray) -> np.ndarray:
        """A chance to mend the object ids of a mask as released. [H, W] -> [H, W]."""
        return ids

    def read_image(self, item: Item) -> np.ndarray:
        """uint8 [H, W, 3]. `predict` knows `decoding` alone: what else a subclass does here, new images lack."""
        return item.image() if callable(item.image) else self.decoding.read(item.image, "save it as RGB of 8 bits")

    def read_mask(self, item: Item) -> np.ndarray:
        """uint16 [H, W], as released. UserError where there is none, or where it cannot be a mask."""
        if item.mask is None:
            raise UserError(f"{self.name}: image {item.id} has no mask; every image of this data set needs one")
        where = f"{self.name}: the generated mask {item.id}" if callable(item.mask) else str(item.mask)
        mask = item.mask() if callable(item.mask) else images.read_mask(item.mask)
        if self.instances:
            images.check_ids(mask, where)
        else:
            images.check_classes(mask, len(self.classes), where)
        return mask.astype(np.uint16)

    def read_ignore(self, item: Item) -> np.ndarray | None:
        """bool [H, W], or None where everything is known."""
        if item.ignore is None:
            return None
        return (item.ignore() if callable(item.ignore) else images.read_mask(item.ignore)) > 0


def names() -> list[str]:
    """Every data set there is by name, ours and those of installed packages."""
    return [*DATASETS.names(), *DATASETS.outside()]


def load_dataset(name: str) -> Dataset:
    """The data set of this name, or in the folder of this path. UserError, with a suggestion, where there is none."""
    full = full_name(name)
    if is_own(full):
        from benchmark.data.folder_dataset import Own  # a Dataset itself

        return Own(folder_of(full))
    dataset: Dataset = DATASETS.load(full)()
    dataset.name = dataset.name or name
    return dataset


def full_name(given: str) -> str:
    """`given` as specifications have it: a name of ours as it is, a folder of one's own as `path/to/folder:name`.

    The path may be that of the folder or of its dataset.yaml, with or without the name. UserError where there is no
    such folder, where it is none of a data set, or where its file says another name."""
    path = Path(given)
    folder = path.parent if path.name == FILE else path
    if given in names() or not (is_own(given) or (folder / FILE).is_file()):
        return given
    named = ":" in given and not folder.exists()
    folder = folder_of(given) if named else folder
    name = describe(folder).name
    if named and name != short(given):
        raise UserError(f"{folder / FILE}: the data set is called '{name}', not '{short(given)}'")
    return f"{path_of(folder)}:{name}"


def is_archive(path: Path) -> bool:
    """Whether this is a file with an archive's name."""
    return path.is_file() and path.name.lower().endswith(ARCHIVES)


def locate(raw: Path, prefixes: tuple[str, ...], holds: Callable[[Path], bool]) -> Path | None:
    """The folder that `holds` the images, or an archive; None where there is neither.

    Looked at: `raw` itself; folders and archives in it whose name starts with one of `prefixes` (upper or lower case,
    blanks as underscores), and folders in those; the only folder in it (as in an unpacked archive)."""
    if is_archive(raw) or (raw.is_dir() and holds(raw)):
        return raw
    if not raw.is_dir():
        return None
    entries = sorted(path for path in raw.iterdir() if not path.name.startswith((".", "__MACOSX")))
    named = [path for path in entries if path.name.lower().replace(" ", "_").startswith(prefixes)]
    for folder in (path for path in named if path.is_dir()):
        for candidate in (folder, *sorted(path for path in folder.iterdir() if path.is_dir())):
            if holds(candidate):
                return candidate
    archive = next((path for path in named if is_archive(path)), None)
    folders = [path for path in entries if path.is_dir()]
    if archive is None and len(folders) == 1:
        return locate(folders[0], prefixes, holds)
    return archive
