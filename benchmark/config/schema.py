"""The sections of a configuration. Each is a dataclass; its field names, types and defaults are the schema.

A field that is added after runs were recorded is declared with `later`, so that no recorded run gets another identity.

The defaults are those of the preset `fair`. Presets, experiments and `--set section.name=value` all go through
`benchmark.config.validate`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal

from benchmark.batches.augment import Augment
from benchmark.ranges import Count, NonNegative, Positive, ShareAbove0, ShareBelow1


def later(neutral: Any) -> Any:
    """A field that came after runs were recorded. `neutral` is its default and means what runs did before it came."""
    return field(default=neutral, metadata={"later": True})


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
    """

    size: Count = 256
    normalise: Literal["auto", "training", "published", "none", "imagenet", "half", "clip"] = "auto"


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
    """How often a run is evaluated (the published 'best epoch' depends on it), and the costly scores at its end."""

    times: Count = 20
    batch: Count = 8
    objects: bool = True


SECTIONS: dict[str, type] = {
    "net": Net,
    "data": Data,
    "augment": Augment,
    "optimiser": Optimiser,
    "train": Train,
    "evaluate": Evaluate,
}

# keys that are no more, with the value that all recorded runs had: still part of identity
REMOVED: dict[str, Any] = {"train.forward": "separate"}


def neutral_settings() -> dict[str, Any]:
    """Dotted key -> neutral value of every field declared with `later`."""
    return {
        f"{section}.{part.name}": part.default
        for section, kind in SECTIONS.items() for part in fields(kind) if part.metadata.get("later")
    }
