"""Experiments: files that name rows of a table, and the runs that they come to.

A file in configs/experiments says `about`, the axes (`preset`, `split`, `datasets`, `ratios`, `draws`) and `rows`, each
a method (or `methods: all`, or a list of names) with settings under `set` and, where they differ, axes of its own.
Data sets are names, or paths of folders of one's own; without a split, `official` or the first that they have is taken.
Draw d is fold d; at 100 % labels, where lists do not differ, also seed d. `exclude` leaves runs out and says why.
For its report, `reference` names the row that all others are compared with, `published` a table in configs/paper.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from benchmark.config import yaml_files
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS
from benchmark.plugins import short
from benchmark.registry import METHODS
from benchmark.runs.request import Request

AXES: dict[str, Any] = {"preset": "fair", "split": None, "datasets": None, "ratios": (20,), "draws": (0, 1, 2)}
LISTS = {"datasets": str, "ratios": int, "draws": int}  # of what
ROW = {"method", "methods", "set", *AXES}
EXCLUDE = {"row", "method", "dataset", "ratio", "draw", "reason"}


@dataclass(frozen=True)
class Cell:
    """One run of an experiment: its row, what to run, why it is left out (None: it is not), and file and line."""

    row: str
    request: Request
    reason: str | None
    where: str


@dataclass(frozen=True)
class Experiment:
    """A named table: its cells in order of rows, data sets, ratios and draws."""

    name: str
    about: str
    cells: tuple[Cell, ...]
    reference: str | None = None
    published: str | None = None


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
        raise UserError(f"unknown experiment '{name}'.{suggest(name, known)} Known: {', '.join(known)}.")
    reader = _Reader(path)
    cells = tuple(reader.cells())
    if not cells:
        raise UserError(f"{path}: no cells: give it rows, datasets, ratios and draws")
    about = " ".join(str(reader.content.get("about", "")).split())
    return Experiment(path.stem, about, cells, reader.reference(cells), reader.content.get("published"))


class _Reader:
    """Reads one file; complaints name it and the line."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.content = yaml_files.read(path)
        self.lines = yaml_files.lines(path)
        self._known(self.content, {"about", "reference", "published", "rows", "exclude", *AXES}, ())
        if not isinstance(self.content.get("rows"), dict):
            raise UserError(f"{self._where('rows')}: rows must be a mapping of names to methods")
        self.exclusions = self._exclusions()
        self.unused = set(range(len(self.exclusions)))  # numbers of exclusions that no cell has met so far

    def _where(self, *keys: Any) -> str:
        while keys and keys not in self.lines:
            keys = keys[:-1]
        return f"{self.path}, line {self.lines[keys]}" if keys else str(self.path)

    def _known(self, given: Any, known: set[str], keys: tuple[Any, ...]) -> None:
        if not isinstance(given, dict):
            raise UserError(f"{self._where(*keys)}: expected 'key: value' entries, not {given!r}")
        for key in given:
            if key not in known:
                text = f"unknown key '{key}'.{suggest(str(key), known)} Known: {', '.join(sorted(known))}."
                raise UserError(f"{self._where(*keys, key)}: {text}")

    def reference(self, cells: tuple[Cell, ...]) -> str | None:
        """The row that others are compared with, which must be there."""
        name, rows = self.content.get("reference"), list(dict.fromkeys(cell.row for cell in cells))
        if name is not None and name not in rows:
            near = suggest(str(name), rows)
            raise UserError(f"{self._where('reference')}: no row is called '{name}'.{near} Rows: {', '.join(rows)}.")
        return name

    def cells(self) -> Iterator[Cell]:
        """Every cell of every row."""
        for label, row in self.content["rows"].items():
            keys = ("rows", str(label))
            row = {"method": row} if isinstance(row, str) else row
            self._known(row, ROW, keys)
            axes = self._axes(row, keys)
            several = "methods" in row
            if not isinstance(row.get("set") or {}, dict):
                raise UserError(f"{self._where(*keys, 'set')}: set must be a mapping of settings to values")
            methods = self._methods(row, keys)
            classes = Counter(map(short, methods))
            for method in methods:
                name = (short(method) if classes[short(method)] == 1 else method) if several else str(label)
                yield from self._row(name, method, row.get("set") or {}, axes, keys)
        for number in sorted(self.unused):
            raise UserError(f"{self._where('exclude', number)}: this `exclude` entry matches no run; fix or remove it")

    def _axes(self, row: Mapping[str, Any], keys: tuple[Any, ...]) -> dict[str, Any]:
        """The row's own axes, else the file's, else the usual ones."""
        axes = dict(AXES)
        for key in AXES:
            given, where = (row, self._where(*keys, key)) if key in row else (self.content, self._where(key))
            value = axes[key] = given.get(key, axes[key])
            kind = LISTS.get(key)
            if kind is None:
                if not isinstance(value, str | type(AXES[key])):
                    raise UserError(f"{where}: {key} must be a name, not {value!r}")
                continue
            if not isinstance(value, list | tuple) or not value:
                raise UserError(f"{where}: {key} must be a list with something in it")
            for entry in value:
                if type(entry) is not kind:
                    what = "names" if kind is str else "whole numbers"
                    raise UserError(f"{where}: {key} must be a list of {what}, {entry!r} is none")
                if value.count(entry) > 1:
                    raise UserError(f"{where}: {key} has {entry} twice")
        return axes

    def _methods(self, row: Mapping[str, Any], keys: tuple[Any, ...]) -> list[str]:
        if ("method" in row) == ("methods" in row):
            raise UserError(f"{self._where(*keys)}: a row names a method, or several under methods")
        given = row.get("methods", [row.get("method")])
        names = METHODS.names() if given == "all" else given
        if not isinstance(names, list) or not names:
            raise UserError(f"{self._where(*keys, 'methods')}: methods must be a list with something in it, or all")
        for name in names:
            if not METHODS.knows(str(name)):
                near = suggest(str(name), [*METHODS.names(), *METHODS.outside()])
                raise UserError(f"{self._where(*keys)}: unknown method '{name}'.{near}")
        try:
            return [METHODS.full_name(name) for name in names]
        except UserError as error:
            raise UserError(f"{self._where(*keys)}: {error}") from None

    def _row(
        self, label: str, method: str, values: Mapping[str, Any], axes: Mapping[str, Any], keys: tuple[Any, ...]
    ) -> Iterator[Cell]:
        where = self._where(*keys)
        for dataset, ratio, draw in product(axes["datasets"], axes["ratios"], axes["draws"]):
            seed = draw if ratio == 100 else 0
            request = Request(
                method, dataset, axes["split"], ratio, draw, seed, axes["preset"], experiment=values
            )
            place = {"row": label, "method": method, "dataset": dataset, "ratio": ratio, "draw": draw}
            yield Cell(label, request, self._reason(place), where)

    def _exclusions(self) -> list[tuple[dict[str, str], str]]:
        """What is excluded, as text by key, and why."""
        given, found = self.content.get("exclude") or [], []
        if not isinstance(given, list):
            raise UserError(f"{self._where('exclude')}: exclude must be a list of entries, each with a reason")
        for number, entry in enumerate(given):
            self._known(entry, EXCLUDE, ("exclude", number))
            if not entry.get("reason"):
                raise UserError(f"{self._where('exclude', number)}: this entry needs a reason")
            found.append(({key: str(value) for key, value in entry.items() if key != "reason"}, str(entry["reason"])))
        return found

    def _reason(self, place: Mapping[str, Any]) -> str | None:
        text = {key: str(value) for key, value in place.items()}
        met = [number for number, (wanted, _) in enumerate(self.exclusions) if wanted.items() <= text.items()]
        self.unused -= set(met)
        return self.exclusions[met[0]][1] if met else None
