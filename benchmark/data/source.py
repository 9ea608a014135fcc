"""What lies on the disk for a data set: its files, read and checked, and the fingerprints of what is in them."""

from __future__ import annotations

import hashlib
import json
import logging
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout

from benchmark.data.dataset import IGNORE, Dataset, Item, is_archive
from benchmark.errors import UserError
from benchmark.files import make_folder, write_json

logger = logging.getLogger(__name__)

MEMORY = "source.json"  # beside the prepared sizes: which files held which content when they were last read
GIB = 1 << 30
BROKEN = (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, EOFError, ValueError, RuntimeError, OSError)
Stamps = dict[str, list[int]]


class Content(NamedTuple):
    """Fingerprints of what a data set holds, the same wherever it lies and at every working size."""

    pixels: str  # of ids and decoded pixels, images and masks: the fingerprint in records and splits
    groups: str  # of ids and what is known of each image
    parts: dict[str, str] = {}  # `pixels` of each part (`Dataset.parts`) alone, whatever else the data set holds

    def of(self, split: str) -> str:
        """The pixels of the part that the lists of a split are of, or all."""
        return self.parts.get(split, self.pixels)


class Decoded(NamedTuple):
    """One image as its files have it."""

    image: np.ndarray  # uint8 [H, W, 3]
    mask: np.ndarray  # uint16 [H, W]: object ids, or class indices and 255
    ignore: np.ndarray | None  # bool [H, W]


class PixelFingerprint:
    """The fingerprint of decoded pixels: the same for a .bmp and a .png copy."""

    def __init__(self, dataset: Dataset) -> None:
        self.hashes: list[str] = []  # of each image
        self._parts = dataset.parts
        self._digest, self._digests = hashlib.sha256(), {name: hashlib.sha256() for name in dataset.parts}

    def add(self, item: Item, decoded: Decoded) -> None:
        """One more image, in the data set's order."""
        image, mask, ignore = decoded
        self.hashes.append(hashlib.sha256(repr(image.shape).encode() + image.tobytes()).hexdigest())
        content = f"{item.id} {self.hashes[-1]} {mask.shape} ".encode() + mask.astype("<u2").tobytes()
        content += b"" if ignore is None else np.packbits(ignore).tobytes()
        self._digest.update(content)
        for name, holds in self._parts.items():
            if holds(item.groups["patient"]):
                self._digests[name].update(content)

    def hexdigest(self) -> str:
        """Of all that was added."""
        return self._digest.hexdigest()

    def parts(self) -> dict[str, str]:
        """Of what was added of each part."""
        return {name: digest.hexdigest() for name, digest in self._digests.items()}


def columns(items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
    """What is known of each image as a table: key -> one value an image, empty where it is not known."""
    keys = sorted({key for item in items for key in item.groups})
    return {key: tuple(item.groups.get(key, "") for item in items) for key in keys}


def groups_fingerprint(ids: Sequence[str], groups: Mapping[str, Sequence[str]]) -> str:
    """Of ids and their groups."""
    table = [list(ids), {key: list(values) for key, values in sorted(groups.items())}]
    return hashlib.sha256(json.dumps(table).encode()).hexdigest()


def items_of(dataset: Dataset, folder: Path) -> list[Item]:
    """The images of a folder in order. UserError where there are none, or two of one id."""
    items = list(dataset.items(folder))
    if dataset.images_only:
        items = [replace(item, mask=None, ignore=None) for item in items]
    if not items:
        raise UserError(f"{folder}: no images of {dataset.name} in it")
    if len({item.id for item in items}) < len(items):
        raise UserError(f"{folder}: {dataset.name} has the same id for two images")
    return items


def decode(dataset: Dataset, item: Item) -> Decoded:
    """Read an image, its mask and what is unknown in it. UserError for a file that cannot be read, or does not fit."""
    image = dataset.read_image(item)
    if item.mask is None and (dataset.may_lack_masks or dataset.images_only):
        return Decoded(image, np.zeros(image.shape[:2], np.uint16), np.ones(image.shape[:2], bool))
    mask, ignore = dataset.read_mask(item), dataset.read_ignore(item)
    for what, array in (("mask", mask), ("ignore mask", ignore)):
        if array is not None and array.shape != image.shape[:2]:
            shown = item.id if callable(item.image) else str(item.image)
            raise UserError(f"{shown}: the image is {image.shape[1]} x {image.shape[0]} pixels, its {what} "
                            f"{array.shape[1]} x {array.shape[0]}; they must be the same")
    if not dataset.instances:
        ignore = (mask == IGNORE) if ignore is None else ignore | (mask == IGNORE)
    return Decoded(image, mask, ignore)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One process at a time reads or prepares what is kept in `folder`; where no lock can be had, without one."""
    make_folder(folder)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        logger.info(f"waiting for another process, which prepares {folder.name}")
        lock.acquire()
    except (OSError, NotImplementedError):  # read-only, or a file system without locks
        pass
    try:
        yield
    finally:
        lock.release()


@contextmanager
def unpacked(dataset: Dataset, source: Path, work: Path) -> Iterator[Path]:
    """The folder of images that `source` is, or, of an archive, what is unpacked of it into a folder under `work`."""
    if not is_archive(source):
        yield source
        return
    make_folder(work)
    with TemporaryDirectory(prefix=".unpacked.", dir=work) as place:
        extract(source, Path(place))
        try:
            found = dataset.find(Path(place))
        except UserError:
            raise UserError(f"{source}: no images of {dataset.name} in this archive") from None
        try:
            yield found
        except UserError as error:  # the temporary folder is gone when this is read
            raise UserError(str(error).replace(place, str(source)), error.code) from None


def extract(archive: Path, folder: Path, limit: int = 64 * GIB) -> None:
    """Extract a zip or tar archive; only inside `folder`. limit: bytes that its files may declare together.

    UserError: damaged, encrypted, too large, a member that leads out of the folder or is a device, no space left."""
    try:
        if archive.name.lower().endswith(".zip"):
            with zipfile.ZipFile(archive) as zipped:
                _check_size(archive, sum(member.file_size for member in zipped.infolist()), limit)
                zipped.extractall(folder)
        else:
            with tarfile.open(archive) as tarred:
                _check_size(archive, sum(member.size for member in tarred), limit)
                tarred.extractall(folder, filter="data")
    except BROKEN as error:
        cause = " ".join(str(error).split())[:120] or type(error).__name__
        raise UserError(f"{archive}: could not be extracted ({cause}); if it is damaged, download it again") from None


def _check_size(archive: Path, size: int, limit: int) -> None:
    if size > limit:
        raise UserError(f"{archive}: its files declare more than {limit / GIB:,.0f} GiB; refused")


def stamps(source: Path, items: Iterable[Item] | None) -> Stamps:
    """Size, time in nanoseconds and inode of every file of the data set (None: of the archive), by its place in it."""
    paths = [source]
    if items is not None:
        paths = [part for item in items for part in (item.image, item.mask, item.ignore) if isinstance(part, Path)]
    found = {}
    for path in paths:
        name = str(path.relative_to(source)) if path.is_relative_to(source) else str(path)
        try:
            seen = path.stat()
        except OSError as error:
            raise UserError(f"{path}: {error.strerror}; if it is a link, is what it leads to there?") from None
        found[name] = [seen.st_size, seen.st_mtime_ns, seen.st_ino]
    return found


def content_of(dataset: Dataset, source: Path, folder: Path, *, read: bool = False) -> Content | None:
    """What lies at `source`, as it was when it was last read, if no file has changed since; else, or where `read`,
    everything is read. `folder` holds the memory of that. None for a data set that is generated."""
    items = None if is_archive(source) else items_of(dataset, source)
    if not (now := stamps(source, items)):
        return None

    def known() -> Content | None:
        found = None if read else recall(dataset, folder, now)
        return found if found and (items is None or found.groups == _groups(items)) else None

    if found := known():
        return found
    with locked(folder), unpacked(dataset, source, folder) as place:
        if found := known():  # another process has read it meanwhile
            return found
        pixels, there = PixelFingerprint(dataset), items_of(dataset, place) if items is None else items
        for item in there:
            pixels.add(item, decode(dataset, item))
        found = Content(pixels.hexdigest(), _groups(there), pixels.parts())
        with suppress(UserError):  # where prepared data may not be written: read again next time
            remember(dataset, folder, now, found)
    return found


def _groups(items: Sequence[Item]) -> str:
    return groups_fingerprint([item.id for item in items], columns(items))


def recall(dataset: Dataset, folder: Path, now: Stamps | None = None) -> Content | None:
    """What was read last, if it was of this version of the data set and, where given, of files with these stamps."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads((folder / MEMORY).read_text(encoding="utf-8"))
        if known["version"] == dataset.version and (now is None or known["files"] == now):
            return Content(known["pixels"], known["groups"], {name: known["parts"][name] for name in dataset.parts})
    return None


def remember(dataset: Dataset, folder: Path, files: Stamps, content: Content) -> None:
    """Keep what was read of files with these stamps, which were taken before they were read."""
    write_json(folder / MEMORY, {"version": dataset.version, **content._asdict(), "files": files})
