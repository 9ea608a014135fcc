"""Experiments: files that name the rows of a table, and the runs that they come to.

A file in configs/experiments says `about`, the axes (`preset`, `split`, `datasets`, `ratios`, `draws`), settings of all
rows under `set`, and `rows`: each a method (or `methods: all`, or a list of names) with settings under `set` and, where
they differ, axes of its own. Several methods are rows of their own names, or of the label with {method} in it. Data
sets are names, or paths of folders of one's own; without a split, `official` or the first that they have is taken.
`split` is one for all of them, or a mapping from data sets to their splits.
Draw d is fold d; at 100 % labels, where lists do not differ, also seed d. `exclude` leaves runs out and says why. For
its report, `reference` names the row that all others are compared with, `published` a table in configs/paper.
`trials` is the budget of `tune`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from benchmark.config import yaml_files
from benchmark.config.compose import layered
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS
from benchmark.registry import METHODS, short
from benchmark.runs.request import Request

FIELD = "{method}"  # in the label of a row with several methods
AXES = ("preset", "split", "datasets", "ratios", "draws")
Only = Mapping[str, Sequence[str]]  # a part of the cells: values of keys of `Cell.place`, any of which will do


@dataclass(frozen=True)
class Cell:
    """One run of an experiment: its row, what to run, why it is excluded (None: it is not), and file and line.

    display: what tables and figures call the row: as the file does, or the display name of a method that it lists.
    trial: of `tune`; 0 is the row's own setting.
    """

    row: str
    request: Request
    reason: str | None
    where: str
    display: str
    trial: int = 0

    @property
    def place(self) -> dict[str, str]:
        """What `--only` and `exclude` know it by."""
        asked = self.request
        return {"row": self.row, "method": asked.method, "dataset": asked.dataset, "ratio": str(asked.ratio),
                "draw": str(asked.fold)}


@dataclass(frozen=True)
class Experiment:
    """A named table: its cells in order of rows, data sets, ratios and draws."""

    name: str
    about: str
    cells: tuple[Cell, ...]
    reference: str | None = None
    published: str | None = None
    trials: int | None = None


class _Axes(yaml_files.Strict):
    """What the whole file may say, and a row of its own."""

    preset: str = "fair"
    split: str | dict[str, str] | None = None
    datasets: Annotated[list[str], Field(min_length=1)] = []
    ratios: Annotated[list[int], Field(min_length=1)] = [20]
    draws: Annotated[list[int], Field(min_length=1)] = [0, 1, 2]
    set: dict[str, Any] = {}

    @field_validator("split", mode="before")
    @classmethod
    def _names(cls, value: Any) -> Any:
        named = [*value, *value.values()] if isinstance(value, dict) else [value]
        if value is not None and not (named and all(isinstance(name, str) for name in named)):
            raise ValueError(f"must be a name, or pairs of a data set and its split, not {value!r}")
        return value

    @field_validator("datasets", "ratios", "draws")
    @classmethod
    def _once(cls, value: list[Any]) -> list[Any]:
        if twice := [entry for entry, number in Counter(value).items() if number > 1]:
            raise ValueError(f"has {twice[0]} twice")
        return value


class _Row(_Axes):
    method: str | None = None
    methods: Literal["all"] | Annotated[list[str], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one(self) -> _Row:
        if (self.method is None) == (self.methods is None):
            raise ValueError("must name a method, or several under methods")
        return self


class _Exclude(yaml_files.Strict):
    row: str | int | None = None
    method: str | None = None
    dataset: str | None = None
    ratio: str | int | None = None
    draw: str | int | None = None
    reason: Annotated[str, Field(min_length=1)]

    def matches(self, cell: Cell) -> bool:
        """Whether this cell is meant; `5` and `"5"` are the same."""
        asked = self.model_dump(exclude={"reason"}, exclude_none=True)
        return {key: str(value) for key, value in asked.items()}.items() <= cell.place.items()


class _File(_Axes):
    about: str = ""
    reference: str | None = None
    published: str | None = None
    trials: Annotated[int, Field(ge=2)] | None = None
    rows: dict[str, _Row]
    exclude: list[_Exclude] = []

    @field_validator("rows", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        if len({str(name) for name in value}) < len(value):
            raise ValueError("has two rows of one name")
        return {str(name): {"method": row} if isinstance(row, str) else row for name, row in value.items()}


def experiment_names() -> list[str]:
    """The experiments in configs/experiments."""
    return sorted(path.stem for path in (CONFIGS / "experiments").glob("*.yaml"))


def read_experiment(name: str) -> Experiment:
    """The experiment called `name`, or in the file of that path; UserError with file and line for a mistake in it."""
    is_path = name.endswith((".yaml", ".yml"))
    path = Path(name) if is_path else CONFIGS / "experiments" / f"{name}.yaml"
    if is_path and not path.is_file():
        raise UserError(f"{path}: no such file")
    if not path.is_file():
        known = experiment_names()
        raise UserError(f"unknown experiment '{name}'.{suggest(name, known, '.yaml')} Known: {', '.join(known)}; or "
                        "give the path of a .yaml file.")
    file = yaml_files.load(path, _File)
    _check_splits(file, path)
    cells = tuple(_cells(file, path))
    if not cells:
        raise UserError(f"{path}: no cells: give it rows, datasets, ratios and draws")
    rows = list(dict.fromkeys(cell.row for cell in cells))
    places = [(cell.row, cell.request.dataset, cell.request.ratio, cell.request.fold) for cell in cells]
    if len(set(places)) < len(places):
        twice = next(cell for cell, place in zip(cells, places, strict=True) if places.count(place) > 1)
        raise UserError(f"{twice.where}: another row is called '{twice.row}', too; give one of them another name")
    if file.reference is not None and file.reference not in rows:
        near = suggest(file.reference, rows)
        place = yaml_files.where(path, "reference")
        raise UserError(f"{place}: no row is called '{file.reference}'.{near} Rows: {', '.join(rows)}.")
    return Experiment(path.stem, " ".join(file.about.split()), cells, file.reference, file.published,
                      file.trials)


def _check_splits(file: _File, path: Path) -> None:
    """UserError where `split` names a data set that no row has."""
    known = sorted({*file.datasets, *chain(*(row.datasets for row in file.rows.values()))})
    for axes, keys in [(file, ()), *((row, ("rows", label)) for label, row in file.rows.items())]:
        for name in axes.split if isinstance(axes.split, dict) else ():
            if name not in known:
                place = yaml_files.where(path, *keys, "split", name)
                raise UserError(f"{place}: split names '{name}', which is not under `datasets`.{suggest(name, known)}")


def _cells(file: _File, path: Path) -> Iterator[Cell]:
    """Every cell of every row."""
    unused = set(range(len(file.exclude)))
    for label, row in file.rows.items():
        where = yaml_files.where(path, "rows", label)
        given = {key: getattr(row if key in row.model_fields_set else file, key) for key in AXES}
        methods = _methods(row, where)
        classes = Counter(map(short, methods))
        for method in methods:
            pattern = label if row.methods is None or FIELD in label else FIELD
            shown = short(method) if classes[short(method)] == 1 else method
            name = pattern.replace(FIELD, shown)
            display = pattern.replace(FIELD, METHODS.display(method) if shown == short(method) else shown)
            for dataset, ratio, draw in product(given["datasets"], given["ratios"], given["draws"]):
                split = given["split"].get(dataset) if isinstance(given["split"], dict) else given["split"]
                request = Request(
                    method, dataset, split, ratio, draw, draw if ratio == 100 else 0, given["preset"],
                    experiment=layered(file.set, row.set),
                )
                cell = Cell(name, request, None, where, display)
                matching = [number for number, entry in enumerate(file.exclude) if entry.matches(cell)]
                unused -= set(matching)
                yield replace(cell, reason=file.exclude[matching[0]].reason) if matching else cell
    for number in sorted(unused):
        raise UserError(f"{yaml_files.where(path, 'exclude', number)}: this `exclude` entry matches no run; fix or "
                        "remove it")


def _methods(row: _Row, where: str) -> list[str]:
    """The full names of a row's methods."""
    if row.methods == "all":
        return METHODS.names()
    try:
        for name in (names := [row.method] if row.method is not None else row.methods or []):
            if not METHODS.knows(name):
                known = [*METHODS.names(), *METHODS.outside()]
                raise UserError(f"unknown method '{name}'.{suggest(name, known, '.py')}")
        return [METHODS.full_name(name) for name in names]
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
