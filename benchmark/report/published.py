"""Numbers that a publication prints, as configs/paper keeps them: cells in CSV, and what is known of them in YAML."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pandas as pd
from pydantic import StringConstraints, model_validator

from benchmark.config import yaml_files
from benchmark.errors import UserError, suggest
from benchmark.paths import CONFIGS

FOLDER = CONFIGS / "paper"
PLACE = ["dataset", "row", "ratio"]


class Quantity(yaml_files.Strict):
    """What is compared: `value` is scores.<metric> or cost.<key> of a run, times `factor` in the printed unit.

    tolerance: the least difference that counts, in the printed unit. not_compared: why no difference counts, or empty.
    by_device: whether it depends on the device, so that values of several cannot be averaged.
    """

    title: str
    value: Annotated[str, StringConstraints(pattern=r"^(scores|cost)\..")]
    factor: float = 1.0
    tolerance: float | None = None
    not_compared: str = ""
    by_device: bool = False

    @model_validator(mode="after")
    def _has_a_measure(self) -> Quantity:
        if self.tolerance is None and not self.not_compared:
            raise ValueError("needs a tolerance, or not_compared with the reason")
        return self


class Description(yaml_files.Strict):
    """What is known of a published table.

    protocol: the view on our counts that it is compared with; None where it holds no scores. copied: row -> why its
    numbers are not the publication's own.
    """

    title: str
    about: str = ""
    protocol: Literal["strict", "validation", "paper"] | None = None
    copied: dict[str, str] = {}
    notes: list[str] = []


class Index(yaml_files.Strict):
    """The file tables.yaml. setup: what it is called -> our settings, as published."""

    source: str = ""
    setup: dict[str, dict[str, Any]] = {}
    unpublished: str = ""
    quantities: dict[str, Quantity]
    tables: dict[str, Description]


class Published(NamedTuple):
    """A published table. cells: a line a printed number: dataset ("" for any), row, ratio (None for any), quantity,
    mean, sd (nan where it is not printed) and note. file: what holds for all tables of the publication."""

    file: Index
    about: Description
    cells: pd.DataFrame


def read(name: str, folder: Path = FOLDER) -> Published:
    """The table called `name`; UserError with file and cause where there is none, or its files are wrong."""
    path = folder / "tables.yaml"
    index = yaml_files.load(path, Index)
    if name not in index.tables:
        raise UserError(f"{path}: unknown table '{name}'.{suggest(name, index.tables)}")
    about, cells = index.tables[name], _cells(folder / f"{name}.csv", index.quantities)
    if about.protocol is None and any(index.quantities[key].value.startswith("scores.") for key in cells.quantity):
        raise UserError(f"{path}, {name}: it holds scores, and no protocol says which of ours they are compared with")
    return Published(index, about, cells)


def _cells(path: Path, quantities: Mapping[str, Quantity]) -> pd.DataFrame:
    """The numbers of a CSV file, in its order; every row of it by quantity."""
    try:
        given = pd.read_csv(path, dtype=str, keep_default_na=False)
        mine = [name for name in quantities if name in given]
        known = [*PLACE, *mine, *(f"{name}_{what}" for name in mine for what in ("sd", "note"))]
        if unknown := [name for name in given if name not in known]:
            raise ValueError(f"unknown column '{unknown[0]}'")
        given = given.reindex(columns=known, fill_value="")
        if (twice := given.duplicated(PLACE)).any():
            raise ValueError(f"line {twice.idxmax() + 2}: the same dataset, row and ratio as in a line before")
        given["ratio"] = pd.Series([int(ratio) if ratio else None for ratio in given.ratio], dtype=object)
        numbers = [name for name in known if name not in PLACE and not name.endswith("_note")]
        given[numbers] = given[numbers].replace("", None).astype(float)
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None
    parts = [
        given[PLACE].assign(quantity=name, mean=given[name], sd=given[f"{name}_sd"], note=given[f"{name}_note"])
        for name in mine
    ]
    return pd.concat(parts).dropna(subset=["mean"]).sort_index(kind="stable")
