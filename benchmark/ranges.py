"""Ranges of settings, as types: `weight: NonNegative = 1.0` is checked wherever a value comes in; `explain` shows it.

A range of one's own is `Annotated[int, Range("[2, 100]")]`; `Annotated[str, FileOr("fixed")]` is this word or a file.
What `tune` tries is narrower, and declared apart from it: `tuning = {"weight": Log(0.2, 5), "threshold": Linear(0.7,
0.98), "ramp": Choice("constant", "sigmoid")}`.
"""

from __future__ import annotations

import typing
from dataclasses import dataclass
from typing import Annotated, Any, Literal


@dataclass(frozen=True)
class Range:
    """An interval as one writes it: `[0, 1)` holds 0 and not 1; `inf` is no bound."""

    text: str

    def __contains__(self, value: float) -> bool:
        low, high = (float(end) for end in self.text[1:-1].split(","))
        above = value >= low if self.text[0] == "[" else value > low
        return above and (value <= high if self.text[-1] == "]" else value < high)

    def __str__(self) -> str:
        low, high = self.text[1:-1].split(", ")
        if high == "inf":
            return f"at least {low}" if self.text[0] == "[" else f"above {low}"
        return f"in {self.text}"


class FileOr:
    """One of some words, or a file, which a specification holds by its SHA-256 and not by its place."""

    def __init__(self, *words: str) -> None:
        self.words = words

    def __str__(self) -> str:
        return f"{', '.join(self.words)} or a file"


Share = Annotated[float, Range("[0, 1]")]
ShareAbove0 = Annotated[float, Range("(0, 1]")]
ShareBelow1 = Annotated[float, Range("[0, 1)")]  # dropout rates, momentum
Positive = Annotated[float, Range("(0, inf)")]
NonNegative = Annotated[float, Range("[0, inf)")]
Count = Annotated[int, Range("[1, inf)")]
CountOrNone = Annotated[int, Range("[0, inf)")]  # 0: none of them


def range_of(kind: Any) -> Range | None:
    """The range in a type, also in one that may be None."""
    if typing.get_origin(kind) is Annotated:
        return next((part for part in typing.get_args(kind) if isinstance(part, Range)), None)
    return next((found for part in typing.get_args(kind) if (found := range_of(part))), None)


def file_or(kind: Any) -> FileOr | None:
    """What a type says of files."""
    return next((part for part in getattr(kind, "__metadata__", ()) if isinstance(part, FileOr)), None)


def allowed(kind: Any) -> str:
    """What values a type allows, in words, for `explain` and the pages: `in [0, 1]`, `ema, copy or own`."""
    if typing.get_origin(kind) is Literal:
        *others, last = map(str, typing.get_args(kind))
        return f"{', '.join(others)} or {last}" if others else last
    if kind is bool:
        return "true or false"
    if file := file_or(kind):
        return str(file)
    return str(range_of(kind) or "")


@dataclass(frozen=True)
class Linear:
    """A tuning range whose values are all as probable."""

    low: float
    high: float

    def at(self, share: float) -> float:
        """The value below which `share` of all draws lie, with six digits: every machine draws the same."""
        return float(f"{self.low + share * (self.high - self.low):.6g}")

    @property
    def examples(self) -> tuple[Any, ...]:
        """Values that must be valid if all shall be."""
        return (self.low, self.at(1 / 3), self.high)

    def __str__(self) -> str:
        return f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Log(Linear):
    """A tuning range whose values have logarithms that are all as probable."""

    def at(self, share: float) -> float:
        return float(f"{self.low * (self.high / self.low) ** share:.6g}")

    def __str__(self) -> str:
        return f"{super().__str__()} (log)"


class Choice:
    """A tuning range of some values, all as probable; whole numbers and words are tuned like this."""

    def __init__(self, *values: Any) -> None:
        self.examples = values

    def at(self, share: float) -> Any:
        return self.examples[int(share * len(self.examples))]

    def __str__(self) -> str:
        return ", ".join(map(str, self.examples))
