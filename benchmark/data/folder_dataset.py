"""A data set of one's own: a folder with images, masks and the file `dataset.yaml`, read and checked here.

docs/your-data.md is its reference. A mistake in the file is one line with file and line number.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, ValidationInfo, field_validator

from benchmark.config import yaml_files
from benchmark.data import images
from benchmark.data.collections import COLLECTIONS
from benchmark.data.dataset import IGNORE, Dataset, Item, Tile
from benchmark.data.fold_lists import TRAIN
from benchmark.data.folder_files import fields_of, files_of, read_groups
from benchmark.data.images import Colour, PixelDecoding
from benchmark.errors import UserError, listed
from benchmark.registry import DATASETS

FILE = "dataset.yaml"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")  # it is a part of run ids and of files' names
MADE = re.compile(r"official|published|(patients|folds)(_\d+)?")  # splits that the suite makes
LARGEST_VALUE = 65535
MOST_CLASSES = 255  # class 255 means "ignore"
LACKING = ("only training images may lack one: move such images into the training set, or out of the data; a folder "
           "of them can be given to --unlabelled")
SHOWN = 5  # wrong values that a complaint lists


@dataclass(frozen=True)
class Threshold:
    """A class of every grey value from this one on, up to the next class's."""

    lowest: int


Value = int | Colour | Threshold


def _value(given: Any) -> Value:
    if type(given) is int and 0 <= given <= LARGEST_VALUE:
        return given
    if isinstance(given, list) and len(given) == 3 and all(type(v) is int and 0 <= v <= 255 for v in given):
        return given[0], given[1], given[2]
    if isinstance(given, dict) and list(given) == ["from"] and isinstance(_value(given["from"]), int):
        return Threshold(given["from"])
    raise ValueError(f"must be a number of the masks, 0 to {LARGEST_VALUE}, a colour, [red, green, blue] of 0 to 255 "
                     f"each, or a grey value to begin with, {{from: 128}}; not {given!r}")


def _pattern(given: str) -> str:
    """Where files lie; of a plain folder every file is meant."""
    try:
        return given if fields_of(given) else f"{given.rstrip('/')}/{{name}}"
    except ValueError as error:
        raise ValueError(f"must be a folder or a pattern like '{{grade}}/image/{{name}}' ({error})") from None


def _expression(given: str) -> str:
    try:
        if not given or re.compile(given).groupindex:
            return given
    except re.error as error:
        raise ValueError(f"must be a regular expression ({error})") from None
    raise ValueError("must have a named group; a patient is (?P<patient>...)")


def _folds(given: Any) -> Any:
    """A split's name -> its folds; one alone need not be a list."""
    if not isinstance(given, dict):
        return given
    for name in map(str, given):
        if MADE.fullmatch(name) or not re.fullmatch(r"\w+", name, re.A):
            what = "is a name that the suite uses" if MADE.fullmatch(name) else "is not a plain name"
            raise ValueError(f"must not have a split '{name}', which {what}; choose another name")
    return {str(name): folds if isinstance(folds, list) else [folds] for name, folds in given.items()}


class Lists(yaml_files.Strict):
    """One fold of a split of one's own: files of ids, relative to the folder. labelled: percent -> file."""

    train: str
    test: str
    validation: str = ""
    labelled: dict[Annotated[int, Field(gt=0, lt=100)], str] = {}


class Description(yaml_files.Strict):
    """What the file says."""

    name: str = ""
    masks: Literal["classes", "instances"] = "classes"
    classes: dict[str, Annotated[Value, PlainValidator(_value)]]  # what stands in the masks for each class
    ignore: Annotated[int | Colour | None, PlainValidator(lambda v: v if v is None else _value(v))] = None
    mask_suffix: str = ""  # of `a_mask.png`, the mask of `a.png`, it is `_mask`
    image_files: Annotated[str, AfterValidator(_pattern)] = "images/{name}"
    mask_files: Annotated[str, AfterValidator(_pattern)] = Field("masks/{name}", validate_default=True)
    follow_links: bool = False  # out of the folder
    pixels: Literal["colour", "grey"] = "colour"
    range: Annotated[list[int], Field(min_length=2, max_length=2)] | None = None  # of 16 bits: black, and white
    groups: str = ""  # a CSV file
    pattern: Annotated[str, AfterValidator(_expression)] = ""  # with named groups, for ids
    splits: Annotated[dict[str, list[Lists]], BeforeValidator(_folds)] = {}
    tile: Tile | None = None
    publishable: bool = False
    licence: str = ""
    domain: str = ""
    microns_per_pixel: Annotated[float, Field(gt=0)] | None = None

    @property
    def values(self) -> list[int | Colour]:
        """What each class begins with, or is."""
        return [value.lowest if isinstance(value, Threshold) else value for value in self.classes.values()]

    @property
    def thresholds(self) -> bool:
        """Whether grey values are compared with thresholds; then every number is the lowest value of its class."""
        return any(isinstance(value, Threshold) for value in self.classes.values())

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if name in (*DATASETS.names(), *COLLECTIONS):
            raise ValueError(f"must not be '{name}', the name of a built-in data set")
        if name and not NAME.fullmatch(name):
            raise ValueError(f"may have only letters, digits, _ and ., not '{name}'")
        return name

    @field_validator("classes", mode="before")
    @classmethod
    def _named(cls, given: Any, info: ValidationInfo) -> Any:
        if info.data.get("masks") == "instances" and (not isinstance(given, list) or len(given) != 2):
            raise ValueError("must be exactly two names if masks are instances: [background, gland]")
        named = {str(name): value for value, name in enumerate(given)} if isinstance(given, list) else given
        if not isinstance(named, dict) or not 2 <= len(named) <= MOST_CLASSES or len(named) < len(given):
            raise ValueError(f"must be 2 to {MOST_CLASSES} different names, in order, the background first, as in "
                             "{background: 0, gland: 1}")
        return {str(name): value for name, value in named.items()}

    @field_validator("classes")
    @classmethod
    def _check_classes(cls, classes: dict[str, Value]) -> dict[str, Value]:
        values = [value.lowest if isinstance(value, Threshold) else value for value in classes.values()]
        if len({type(value) for value in values}) > 1:
            raise ValueError("must be all numbers or all colours")
        for place, name in enumerate(classes):
            if values[place] in values[:place]:
                raise ValueError(f"must have different values; '{name}' has another class's, {values[place]}")
        return classes

    @field_validator("ignore")
    @classmethod
    def _check_ignore(cls, ignore: Any, info: ValidationInfo) -> Any:
        values = list(info.data.get("classes", {}).values())[: 1 if info.data.get("masks") == "instances" else None]
        if ignore is not None and values:
            kind = "colour" if isinstance(values[0], tuple) else "number"
            if not isinstance(ignore, tuple if kind == "colour" else int):
                raise ValueError(f"must be a {kind}, as the classes are")
            if ignore in values:
                raise ValueError(f"must not be {ignore}, which is a class; leave it out where every pixel is known")
        return ignore

    @field_validator("mask_files")
    @classmethod
    def _check_fields(cls, pattern: str, info: ValidationInfo) -> str:
        of_images = set(fields_of(info.data.get("image_files", pattern)))
        if set(fields_of(pattern)) != of_images:
            raise ValueError(f"must have the same names in braces as image_files: {', '.join(sorted(of_images))}")
        return pattern

    @field_validator("range")
    @classmethod
    def _check_range(cls, limits: list[int] | None) -> list[int] | None:
        if limits and not 0 <= limits[0] < limits[1] <= LARGEST_VALUE:
            raise ValueError(f"must be [low, high] with 0 <= low < high <= {LARGEST_VALUE}, not {limits}")
        return limits


def describe(folder: Path) -> Description:
    """Read `folder/dataset.yaml`. UserError, with the line, for a mistake in it; where it is missing, how to begin."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not (folder / FILE).is_file():
        command = f"python -m benchmark data new {shlex.quote(str(folder))}"
        raise UserError(f"{folder}: no {FILE} in it; '{command}' writes one")
    said = yaml_files.load(folder / FILE, Description)
    return said if said.name else said.model_copy(update={"name": default_name(folder)})


def default_name(folder: Path) -> str:
    """A name for a folder's data: its own, in plain letters, with underscores for what a name may not have."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", plain).strip("_.") or "data"
    return f"my_{name}" if name in (*DATASETS.names(), *COLLECTIONS) else name


class FolderDataset(Dataset):
    """Images of one's own, with masks of classes or of instances; an image without a mask is an unlabelled one.

    Its version is a digest of what dataset.yaml says of pixels and groups, and of the table of groups: records of the
    version before are stale. What is in the images and masks is known by the fingerprint of their pixels.
    """

    may_lack_masks = True
    home: Path

    def __init__(self, folder: Path) -> None:
        self.home = folder
        self.description = said = describe(folder)
        self.name, self.classes, self.instances = said.name, tuple(said.classes), said.masks == "instances"
        self.publishable, self.tile, self.own_lists = said.publishable, said.tile, said.splits
        self.domain, self.microns_per_pixel = " ".join(said.domain.split()), said.microns_per_pixel
        self.licence = " ".join(said.licence.split()) or self.licence
        self.decoding = PixelDecoding((said.range[0], said.range[1]) if said.range else None, said.pixels == "grey")
        self._seen: images.Seen = {}
        self.files = files_of(folder, said.image_files, said.mask_files + said.mask_suffix, said.follow_links)
        indecisive = {"image_files", "mask_files", "follow_links", "splits", "publishable", "licence", "domain",
                      "microns_per_pixel"}
        digest = hashlib.sha256(json.dumps(said.model_dump(exclude=indecisive, warnings=False)).encode())
        table = folder / said.groups
        digest.update(table.read_bytes() if said.groups and table.is_file() else b"")
        self.version = digest.hexdigest()[:12]

    def items(self, folder: Path) -> Iterator[Item]:
        """The images in natural order of their ids."""
        said = self.description
        groups = read_groups(folder, said.groups, said.pattern, self.files.groups)
        self._seen.clear()  # the masks may be others now
        for name, path in self.files.images.items():
            mask = self.files.masks.get(name)
            if mask is None and groups[name]["set"] != TRAIN and not self.images_only:
                raise UserError(f"{path}: is in set '{groups[name]['set']}' and has no mask; {LACKING}")
            yield Item(name, path, mask, groups[name], mask if self.instances and said.ignore is not None else None)

    def read_mask(self, item: Item) -> np.ndarray:
        """uint16 [H, W]: object ids, or class indices and 255."""
        path = self.files.masks[item.id]
        try:
            if not self.instances:
                return self._classes(path)
            ids = images.read_mask(path)
            images.check_mask(ids, None, str(path))
            return np.where(ids == self.description.ignore, 0, ids).astype(np.uint16)
        except UserError as error:
            if images.looks_like_a_mask(self.read_image(item)):
                raise UserError(f"{error}; its image looks like a mask: are the two swapped?") from None
            raise

    def read_ignore(self, item: Item) -> np.ndarray | None:
        """bool [H, W]: of instances the pixels with the value to ignore; of classes the mask says it."""
        return None if item.ignore is None else images.read_mask(self.files.masks[item.id]) == self.description.ignore

    def _classes(self, path: Path) -> np.ndarray:
        said, count = self.description, len(self.classes)
        coloured = isinstance(said.values[0], tuple)
        numbers = images.colour_numbers(path) if coloured else images.read_mask(
            path, lossy=said.thresholds, seen=self._seen)
        named = np.array([*said.values, *[said.ignore] * (said.ignore is not None)])
        named = images.packed(named) if coloured else named
        lowest, ignored = named[:count], np.isin(numbers, named[count:])
        order = np.argsort(lowest)
        found = order[np.searchsorted(lowest, numbers, side="right", sorter=order) - 1]  # below all: the last
        wrong = numbers[~ignored & (numbers < lowest[found] if said.thresholds else numbers != lowest[found])]
        if not wrong.size:
            return np.where(ignored, IGNORE, found).astype(np.uint16)
        values, counts = np.unique(wrong, return_counts=True)
        frequent = values[np.argsort(-counts, kind="stable")].tolist()
        shown = listed([images.unpacked(value) if coloured else value for value in frequent], SHOWN)
        hint = ""
        if len(values) > SHOWN:
            hint = "; were the masks saved with loss, as JPEG is?" if coloured else (
                f"; if they are grey edges of a class, give a threshold, as in {{{self.classes[0]}: 0, "
                f"{self.classes[1]}: {{from: 128}}}}")
        known = ", ".join(f"{name} {value}" for name, value in said.classes.items())
        raise UserError(f"{path}: mask values {shown} in {len(wrong):,} pixels are no class of dataset.yaml "
                        f"({known}) and not its ignore value{hint}")
