"""All settings: the sections of a configuration, and the one check of every value that is given, by name, type and
range, be it of a section, of a method's constructor or of `--set`.

Field names, types and defaults of a section's dataclass are its schema; the defaults are those of the preset `fair`. A
field that is added after runs were recorded is declared with `later`, so that no recorded run gets another identity.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from reprlib import repr as brief
from typing import Annotated, Any, Literal, Union

from benchmark.batches.augment import Augment
from benchmark.errors import UserError, suggest
from benchmark.ranges import (
    Choice,
    Count,
    Linear,
    Log,
    NonNegative,
    Positive,
    Range,
    ShareAbove0,
    ShareBelow1,
    range_of,
)

FLOAT = sys.float_info.max


def later(neutral: Any) -> Any:
    """A field that came after runs were recorded. `neutral` is its default and means what runs did before it came."""
    return dataclasses.field(default=neutral, metadata={"later": True})


@dataclass(frozen=True)
class Net:
    """Which network `task.network()` builds, and the weights that its encoder starts from.

    `weights`: nothing for random ones, `package`, `imagenet`, or a file (benchmark/nets/weights.py).
    """

    name: str = "unet"
    weights: str | None = None


@dataclass(frozen=True)
class Data:
    """Working size in pixels (images are resized whole), and the statistics that normalise them.

    `normalise`: `training` images' own, those `published` for the data set, or those that encoders were trained with
    (`imagenet`, `half`, `clip`); `auto` follows `net.weights`, and is `training` where there are none.
    `unlabelled`: the data set's `own` unlabelled images, pools (data sets, folders of images), or several of these.
    """

    size: Count = 256
    normalise: Literal["auto", "training", "published", "none", "imagenet", "half", "clip"] = "auto"
    unlabelled: tuple[str, ...] = later(("own",))


@dataclass(frozen=True)
class Labels:
    """What is known of the mask of a labelled image: all of it, or only a share of its `glands` (--labels sparse:0.25).

    Then every training image is in both streams, and outside of glands `background` says what is known: `scribbles`
    (a stroke for each annotated gland), nothing (`unknown`), or all of it (`trusted`). `erode` leaves out the border of
    an annotated gland, up to this share of its greatest depth. See benchmark/data/annotation.py.
    """

    glands: ShareAbove0 | None = later(None)  # noqa: RUF009 (a field)
    background: Literal["scribbles", "unknown", "trusted"] = later("scribbles")
    erode: ShareBelow1 = later(0.0)  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.glands is None and (self.background, self.erode) != ("scribbles", 0.0):
            raise UserError("labels.background and labels.erode are for sparse labels: set labels.glands, too")


@dataclass(frozen=True)
class Optimiser:
    """The default parameter group's optimiser; a method may give some of its parameters another."""

    name: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: Positive = 5e-4
    weight_decay: NonNegative = 0.01
    momentum: ShareBelow1 = 0.9
    schedule: Literal["cosine", "step", "poly", "constant"] = "cosine"
    warmup: ShareBelow1 = 0.05  # fraction of all steps, linear, never 0
    decay_every: Positive = 0.25  # `step`: fraction of all steps between decays
    decay: ShareAbove0 = 0.5  # `step`: factor at each


@dataclass(frozen=True)
class Train:
    """The budget and the numerics of a run. `epochs` (over the longer list) overrides `steps` when given."""

    steps: Count = 3400
    epochs: Count | None = None
    batch_labelled: Count = 4
    batch_unlabelled: Count = 4
    loss: Literal["ce_dice", "dice"] = "ce_dice"
    precision: Literal["auto", "fp32", "bf16", "fp64"] = "auto"
    memory_format: Literal["auto", "channels_last", "contiguous"] = "auto"
    deterministic: bool = False
    threads: Count = 1
    capture: Literal["auto", "on", "off"] = "auto"


@dataclass(frozen=True)
class Evaluate:
    """How often a run is evaluated (the published 'best epoch' depends on it), and the costly scores at its end.

    `also`: other data sets of the same classes, on whose test images of the same fold the finished run is scored, too.
    """

    times: Annotated[int, Range("[1, 10000]")] = 20
    batch: Count = 8
    objects: bool = True
    also: tuple[str, ...] = later(())


SECTIONS: dict[str, type] = {
    "net": Net, "data": Data, "labels": Labels, "augment": Augment, "optimiser": Optimiser, "train": Train,
    "evaluate": Evaluate,
}

# keys that are no more, with the value that all recorded runs had: still part of identity
REMOVED: dict[str, Any] = {"train.forward": "separate"}


def neutral_settings() -> dict[str, Any]:
    """Dotted key -> neutral value of every field declared with `later`."""
    return {
        f"{section}.{part.name}": part.default
        for section, kind in SECTIONS.items() for part in dataclasses.fields(kind) if part.metadata.get("later")
    }


@dataclass(frozen=True)
class Field:
    """One name that a schema accepts: its type (an annotation, with its range if it has one) and its default."""

    type: Any
    default: Any


@lru_cache(256)
def fields_of(schema: type | Callable[..., Any]) -> Mapping[str, Field]:
    """The fields of a dataclass, or the keyword-only parameters of a class's constructor, in order. UserError for a
    parameter that could not be set, recorded or explained."""
    if dataclasses.is_dataclass(schema):
        hints = typing.get_type_hints(schema, include_extras=True)
        return {field.name: Field(hints[field.name], field.default) for field in dataclasses.fields(schema)}
    constructor: Any = schema.__init__  # type: ignore[misc]
    code = constructor.__code__
    where = f"{code.co_filename}, line {code.co_firstlineno}: {constructor.__qualname__}"
    try:
        hints = typing.get_type_hints(constructor, include_extras=True)
    except NameError as error:
        raise UserError(f"{where}: an annotation cannot be understood ({error}); import what it names") from None
    _, *parameters = inspect.signature(constructor).parameters.values()
    if [parameter.kind for parameter in parameters[:1]] != [inspect.Parameter.POSITIONAL_OR_KEYWORD]:
        raise UserError(f"{where} must take the task first, as in __init__(self, task: Task, *, weight: float = 1.0)")
    found = {}
    for parameter in parameters[1:]:
        name, what = parameter.name, f"{where}: hyper-parameter '{parameter.name}'"
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            stars = str(parameter).partition(":")[0]
            raise UserError(f"{where}: '{stars}' can be neither set nor recorded; name every hyper-parameter")
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY:
            raise UserError(f"{what} must be keyword-only: put a '*' before it")
        if parameter.default is inspect.Parameter.empty:
            raise UserError(f"{what} needs a default value")
        if name not in hints:
            raise UserError(f"{what} needs a type, as in {name}: float = 1.0")
        found[name] = Field(hints[name], convert(hints[name], parameter.default, f"{where}: the default of {name}"))
    return found


def tuning_of(method: type) -> Mapping[str, Linear | Choice]:
    """The tuning ranges that a method declares, by hyper-parameter; UserError for one that is not within validity."""
    fields, ranges = fields_of(method), getattr(method, "tuning", {})
    for name, drawn in ranges.items():
        where = f"{method.__name__}.tuning: {name}"
        if name not in fields:
            raise UserError(f"{where}: no such hyper-parameter.{suggest(name, fields)}")
        if not isinstance(drawn, Linear | Choice):
            raise UserError(f"{where}: expected Log(low, high), Linear(low, high) or Choice(one, other), not {drawn!r}")
        least = 0.0 if isinstance(drawn, Log) else -math.inf
        if isinstance(drawn, Linear) and not least < drawn.low < drawn.high:
            raise UserError(f"{where}: the range {drawn} must rise{', from above 0' if least == 0 else ''}")
        for value in drawn.examples:
            convert(fields[name].type, value, where)
    return ranges


def convert(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, where that loses nothing (3 -> 3.0, [a, b] -> (a, b)) and is in range; else a UserError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Annotated:
        converted, bounds = convert(arguments[0], value, where), range_of(kind)
        if bounds is not None and converted not in bounds:
            raise UserError(f"{where} must {'lie' if ', inf' not in bounds.text else 'be'} {bounds}, not {value}")
        return converted
    if origin is Literal:
        if value in arguments and not isinstance(value, bool):
            return value
        known = [str(argument) for argument in arguments]
        raise UserError(f"{where} must be one of {', '.join(known)}, not {value!r}.{suggest(value, known)}")
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        rest = [argument for argument in arguments if argument is not type(None)]
        return convert(rest[0], value, where)
    if origin in (tuple, list) or kind in (tuple, list):
        if value is None or isinstance(value, str):  # `KEY=` is an empty list
            value = [part.strip() for part in (value or "").split(",") if part.strip()]
        if isinstance(value, list | tuple):
            return tuple(convert(arguments[0] if arguments else str, entry, where) for entry in value)
    elif isinstance(value, bool) or kind is bool:
        if isinstance(value, bool) and kind is bool:
            return value
    elif kind is int and isinstance(value, int | float) and abs(value) < 10**18 and value == value // 1:
        return int(value)
    elif kind is float and isinstance(value, int | float) and -FLOAT <= value <= FLOAT:
        return float(value) + 0.0  # -0 is 0
    elif kind is str and isinstance(value, str):
        return value
    expected = getattr(kind, "__name__", str(kind))
    several = "; to try several, give each a row or a run of its own" * isinstance(value, list | tuple)
    raise UserError(f"{where} must be {expected}, not {brief(value)} ({type(value).__name__}){several}")
