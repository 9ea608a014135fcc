"""The file `dataset.yaml` of a folder of one's own: what it may say, read and checked.

docs/your-data.md is its reference. A mistake is one line with file and line number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from benchmark.config import yaml_files
from benchmark.config.validate import Field, bind, fields_of
from benchmark.data.tiles import Tile
from benchmark.errors import UserError
from benchmark.registry import DATASETS

FILE = "dataset.yaml"
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.]*")  # it is a part of run ids and of files' names
MADE = ("official", "patients", "folds", "published")  # splits that the suite makes
LARGEST_VALUE = 65535
MOST_CLASSES = 255  # class 255 means "ignore"

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Lists:
    """One fold of a split of one's own: files of ids, relative to the folder. labelled: percent -> file."""

    train: str
    test: str
    validation: str = ""
    labelled: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Plain:
    """The keys of the file that have one plain value."""

    name: str = ""
    masks: Literal["classes", "instances"] = "classes"
    pixels: Literal["colour", "grey"] = "colour"
    range: tuple[int, ...] | None = None  # of images of 16 bits: what becomes black, and what white
    mask_suffix: str = ""  # of `a_mask.png`, the mask of `a.png`, it is `_mask`
    groups: str = ""  # a CSV file
    pattern: str = ""  # a regular expression with named groups, for files' names
    publishable: bool = False
    licence: str = ""


@dataclass(frozen=True)
class Description(Plain):
    """What the file says. values: what stands in the masks for each class, all numbers or all colours."""

    folder: Path = Path()
    classes: tuple[str, ...] = ()
    values: tuple[int | Colour, ...] = ()
    ignore: int | Colour | None = None
    tile: Tile | None = None
    splits: Mapping[str, tuple[Lists, ...]] = field(default_factory=dict)

    @property
    def coloured(self) -> bool:
        """Whether masks say classes by colours."""
        return any(isinstance(value, tuple) for value in self.values)

    def decisive(self) -> dict[str, Any]:
        """What bears on the arrays, as JSON values: not where it lies, how it is split or who may see it."""
        other = {"folder", "splits", "publishable", "licence", "tile"}
        kept = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in other}
        return kept | {"tile": self.tile and [self.tile.size, self.tile.overlap]}


def describe(folder: Path) -> Description:
    """Read `folder/dataset.yaml`. UserError, with the line, for a mistake in it; where it is missing, how to begin."""
    path = folder / FILE
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    if not path.is_file():
        raise UserError(f"{folder}: no {FILE} in it; 'python -m benchmark data new FOLDER' looks at it and writes one")
    return _Reader(path).description()


def default_name(folder: Path) -> str:
    """A name for a folder's data: its own, in plain letters, with underscores for what a name may not have."""
    plain = unicodedata.normalize("NFKD", folder.resolve().name).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9_.]+", "_", plain).strip("_.") or "data"
    return f"my_{name}" if name in DATASETS.names() else name


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path, self.content, self.lines = path, yaml_files.read(path), yaml_files.lines(path)

    def _where(self, *keys: Any) -> str:
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}, line {self.lines[keys]}" if keys else str(self.path)

    def description(self) -> Description:
        """Everything, checked."""
        nested = {"classes": self._classes, "ignore": self._ignore, "tile": self._tile, "splits": self._splits}
        known = {**fields_of(Plain), **dict.fromkeys(nested, Field(object, None))}
        plain: dict[str, Any] = {}
        for key, value in self.content.items():
            if key not in nested:
                plain |= bind(known, {key: value}, self._where(key))
        said = Plain(**plain)
        self._check(said)
        if "classes" not in self.content:
            raise UserError(f"{self.path}: classes is missing; name them in order, as in classes: "
                            "{background: 0, gland: 1}")
        classes, values = self._classes(said.masks == "instances")
        ignore = self._ignore(values, said.masks == "instances") if "ignore" in self.content else None
        return Description(
            **{**vars(said), "name": said.name or default_name(self.path.parent)}, folder=self.path.parent,
            classes=classes, values=values, ignore=ignore, tile=self._tile(), splits=self._splits(),
        )

    def _check(self, said: Plain) -> None:
        if said.name and (not NAME.fullmatch(said.name) or said.name in DATASETS.names()):
            what = "is the name of a data set of ours" if said.name in DATASETS.names() else "is not a plain name"
            raise UserError(f"{self._where('name')}: '{said.name}' {what}; take letters, digits, _ and .")
        limits = said.range
        if limits is not None and not (len(limits) == 2 and 0 <= limits[0] < limits[1] <= LARGEST_VALUE):
            raise UserError(f"{self._where('range')}: range must be [low, high] with 0 <= low < high <= "
                            f"{LARGEST_VALUE}, not {list(limits)}")
        if said.pattern:
            try:
                names = re.compile(said.pattern).groupindex
            except re.error as error:
                raise UserError(f"{self._where('pattern')}: not a regular expression ({error})") from None
            if not names:
                raise UserError(f"{self._where('pattern')}: no named group in it; a patient is (?P<patient>...)")

    def _classes(self, instances: bool) -> tuple[tuple[str, ...], tuple[int | Colour, ...]]:
        given, where = self.content["classes"], self._where("classes")
        if instances and (not isinstance(given, list) or len(given) != 2):
            raise UserError(f"{where}: masks of instances have two classes, names alone: [background, gland]")
        named = {str(name): value for value, name in enumerate(given)} if isinstance(given, list) else given
        if not isinstance(named, dict) or len(named) < 2 or len(named) < len(given):
            raise UserError(f"{where}: classes must be two different names or more, in order, the background first")
        if len(named) > MOST_CLASSES:
            raise UserError(f"{where}: {len(named)} classes; at most {MOST_CLASSES} fit")
        values = {str(name): self._value(value, "classes", name) for name, value in named.items()}
        if len({type(value) for value in values.values()}) > 1:
            raise UserError(f"{where}: classes must be all numbers or all colours")
        for place, (name, value) in enumerate(values.items()):
            if value in list(values.values())[:place]:
                raise UserError(f"{self._where('classes', name)}: class '{name}' has another class's value, {value}")
        return tuple(values), tuple(values.values())

    def _value(self, value: Any, *keys: Any) -> int | Colour:
        """A mask's number, or a colour."""
        if type(value) is int and 0 <= value <= LARGEST_VALUE:
            return value
        if isinstance(value, list) and len(value) == 3 and all(type(v) is int and 0 <= v <= 255 for v in value):
            return value[0], value[1], value[2]
        raise UserError(f"{self._where(*keys)}: {keys[-1]} must be a number of the masks, 0 to {LARGEST_VALUE}, or a "
                        f"colour, [red, green, blue] of 0 to 255 each, not {value!r}")

    def _ignore(self, values: tuple[int | Colour, ...], instances: bool) -> int | Colour | None:
        if self.content["ignore"] is None:
            return None
        value, where = self._value(self.content["ignore"], "ignore"), self._where("ignore")
        if type(value) is not type(values[0]):
            kind = "colour" if isinstance(values[0], tuple) else "number"
            raise UserError(f"{where}: ignore must be a {kind}, as the classes are")
        if value in (values[:1] if instances else values):
            raise UserError(f"{where}: ignore is {value}, which is a class; leave it out where every pixel is known")
        return value

    def _tile(self) -> Tile | None:
        given, where = self.content.get("tile"), self._where("tile")
        if given is None:
            return None
        if not isinstance(given, dict) or "size" not in given:
            raise UserError(f"{where}: tile must be {{size: 512, overlap: 64}}, in pixels of the images")
        return checked_tile(Tile(**bind(fields_of(Tile), given, f"{where}: tile")), where)

    def _splits(self) -> dict[str, tuple[Lists, ...]]:
        given = self.content.get("splits") or {}
        if not isinstance(given, dict):
            raise UserError(f"{self._where('splits')}: splits must be names with lists, as in mine: "
                            "{train: a.txt, test: b.txt}")
        found = {}
        for name, folds in given.items():
            if not re.fullmatch(r"[A-Za-z0-9_]+", str(name)) or name in MADE:
                what = "is one that the suite makes" if name in MADE else "is not a plain name"
                raise UserError(f"{self._where('splits', name)}: the split '{name}' {what}; call it otherwise")
            if isinstance(folds, list):
                lists = [self._lists(fold, ("splits", name, number)) for number, fold in enumerate(folds)]
            else:
                lists = [self._lists(folds, ("splits", name))]
            found[str(name)] = tuple(lists)
        return found

    def _lists(self, given: Any, keys: tuple[Any, ...]) -> Lists:
        where = f"{self._where(*keys)}: {keys[1]}"
        if not isinstance(given, dict) or not {"train", "test"} <= given.keys():
            raise UserError(f"{where} must name files of ids: {{train: FILE, test: FILE}}, and validation and labelled")
        labelled = given.get("labelled") or {}
        if not isinstance(labelled, dict) or not all(type(key) is int and 0 < key < 100 for key in labelled):
            raise UserError(f"{where}: labelled must be percentages with files, as in {{10: ten.txt, 20: twenty.txt}}")
        plain = bind(fields_of(Lists), {key: value for key, value in given.items() if key != "labelled"}, where)
        return Lists(**plain, labelled={ratio: str(file) for ratio, file in sorted(labelled.items())})


def checked_tile(tile: Tile, where: str) -> Tile:
    """The tile; UserError where it cannot be cut."""
    if tile.size < 16 or not 0 <= tile.overlap < tile.size:
        raise UserError(f"{where}: tiles need a size of 16 pixels or more and an overlap below it, not "
                        f"{tile.size} and {tile.overlap}")
    return tile
