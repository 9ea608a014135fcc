"""The contract of a method: an `nn.Module` whose parameters and buffers are all that it remembers.

A method says which views it wants, returns its losses, and predicts. Optimising, seeding, checkpoints, resume,
evaluation, records and speed are the harness's. `new method` writes one to start from.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmark.batches.render import Batch
from benchmark.errors import Decline, UserError, suggest
from benchmark.losses import CRITERIA, RAMPS
from benchmark.nets import build
from benchmark.nets.network import Network
from benchmark.randomness import derive

__all__ = [
    "BNStats", "Clock", "Decline", "EmaStep", "Group", "Logits", "Losses", "Method", "Parts", "Ramp", "Task", "Teacher",
    "jittered", "named_logits", "require", "require_between", "require_share", "suggest",
]

Parts = Iterator[Mapping[str, Tensor]]
Losses = Mapping[str, Tensor] | Parts
Logits = Tensor | Mapping[str, Tensor]
Ramp = Literal["linear", "sigmoid", "constant"]
EmaStep = Literal["iteration", "epoch"]
BNStats = Literal["ema", "copy", "own"]


def require(condition: bool, message: str) -> None:
    """Refuse a hyper-parameter's value, in one line, before anything is trained."""
    if not condition:
        raise UserError(message)


def require_between(low: float, high: float, /, **values: float) -> None:
    """Refuse hyper-parameters, given by name, that lie outside [low, high]."""
    bounds = f"be at least {low:g}" if math.isinf(high) else f"lie in [{low:g}, {high:g}]"
    for name, value in values.items():
        require(low <= value <= high, f"method.{name} must {bounds}, not {value}")


def require_share(**values: float) -> None:
    """Refuse hyper-parameters, given by name, that lie outside [0, 1): rates of dropout."""
    for name, value in values.items():
        require(0 <= value < 1, f"method.{name} must lie in [0, 1), not {value}")


@dataclass
class Task:
    """What a method is told of its work: counts, sizes, and how to build networks and supervised losses.

    `labelled`, `unlabelled`: numbers of training images; `images`: rows of the prepared arrays, for per-image memory;
    `mean`, `std`: the statistics that images [0, 1] were normalised with.
    """

    classes: int
    size: int
    labelled: int
    unlabelled: int
    images: int
    seed: int = 0
    net: str = "unet"
    weights: str | None = None
    loss: str = "ce_dice"
    channels: int = 3
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    _built: int = field(default=0, repr=False)

    def network(self, classes: int | None = None, *, net: str | None = None) -> Network:
        """A new network of the configured kind, or of the kind `net`, with `classes` outputs (default: the task's).

        Seeded by (seed, ordinal): the first network starts equal in every method, the second differs from it.
        Pretrained weights are for the configured kind alone.
        """
        name, weights = (self.net, self.weights) if net is None else (net, None)
        outputs = self.classes if classes is None else classes
        with self.seeded():
            return build(name, channels=self.channels, classes=outputs, weights=weights, size=self.size)

    @contextmanager
    def seeded(self) -> Iterator[None]:
        """PyTorch's generator at the next ordinal's seed: for a method that builds a network of its own."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(self.seed, "network", self._built))
            self._built += 1
            yield

    def criterion(self, logits: Tensor, mask: Tensor) -> Tensor:
        """The configured supervised loss (`train.loss`), the same for every method."""
        return CRITERIA[self.loss](logits, mask)


class Clock:
    """How far training is, as 0-dim tensors on the device, so that a captured graph reads them afresh at every step."""

    def __init__(self, steps: int, device: torch.device | str = "cpu", steps_an_epoch: int = 1) -> None:
        self.steps, self.steps_an_epoch = steps, steps_an_epoch
        self.step = torch.zeros((), device=device)
        self.stopped = torch.zeros((), dtype=torch.bool, device=device)

    @property
    def fraction(self) -> Tensor:
        """Steps done over all steps, in [0, 1)."""
        return self.step / self.steps

    def ramp(self, kind: Ramp = "linear", until: float = 1.0) -> Tensor:
        """From near 0 to 1, reached at the share `until` of all steps.

        `linear`: (step + 1) / (until * steps), never 0, as in the XNet code base; `sigmoid`:
        exp(-5 (1 - step / (until * steps))^2), as in SSL4MIS; `constant`: 1.
        """
        done = self.step + 1 if kind == "linear" else self.step
        return RAMPS[kind](done / (until * self.steps))

    def linear(self, until: float = 1.0) -> Tensor:
        """The linear ramp."""
        return self.ramp("linear", until)

    def ema(self, decay: float, ema_step: EmaStep = "iteration") -> Tensor:
        """min(1 - 1 / (t + 1), decay), t counted in iterations, or in whole epochs as in the XNet code base.

        While t = 0 an update copies. 1 once a loss was not finite: nothing more moves.
        """
        t = self.step if ema_step == "iteration" else (self.step / self.steps_an_epoch).floor()
        return torch.where(self.stopped, 1.0, (1 - 1 / (t + 1)).clamp(max=decay))


class Teacher(nn.Module):
    """A slow copy of a network that judges images and is never trained.

    `bn_stats` says what becomes of BatchNorm's running statistics: `ema` averages them like weights, `copy` takes the
    student's; both judge in evaluation mode. `own` judges in training mode and keeps statistics of what it has seen
    (SSL4MIS, UA-MT, XNet).
    """

    def __init__(self, net: nn.Module, bn_stats: BNStats = "ema") -> None:
        super().__init__()
        self.net: Any = copy.deepcopy(net).requires_grad_(False)
        self.bn_stats = bn_stats
        self.train(self.training)

    def train(self, mode: bool = True) -> Teacher:
        """Training mode only where the statistics are its own."""
        super().train(mode)
        self.net.train(mode and self.bn_stats == "own")
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Logits; without a gradient in training mode."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.training):
            logits: Tensor = self.net(image)
        return logits

    @torch.no_grad()
    def follow(self, net: nn.Module, alpha: Tensor) -> None:
        """theta' = alpha theta' + (1 - alpha) theta, over the parameters and, with `ema`, the float buffers."""
        slow: list[Tensor] = list(self.net.parameters())
        fast: list[Tensor] = list(net.parameters())
        pairs = list(zip(self.net.buffers(), net.buffers(), strict=True))
        if self.bn_stats == "ema":
            slow += [mine for mine, _ in pairs if mine.is_floating_point()]
            fast += [yours for mine, yours in pairs if mine.is_floating_point()]
        torch._foreach_mul_(slow, alpha)
        torch._foreach_add_(slow, torch._foreach_mul(fast, 1 - alpha))
        for mine, yours in pairs:
            if self.bn_stats == "copy" or (self.bn_stats == "ema" and not mine.is_floating_point()):
                mine.copy_(torch.where(alpha < 1, yours, mine))


def jittered(image: Tensor, scale: float) -> Tensor:
    """`image` with Gaussian noise of this standard deviation, cut off at twice of it (SSL4MIS, UA-MT)."""
    return image + (scale * torch.randn_like(image)).clamp(-2 * scale, 2 * scale)


@dataclass
class Group:
    """Parameters with an optimiser of their own; what is None comes from the `optimiser` section."""

    parameters: Iterable[nn.Parameter]
    optimiser: str | None = None
    lr: float | None = None
    weight_decay: float | None = None
    schedule: str | None = None


class Method(nn.Module):
    """A semi-supervised method. Its keyword-only constructor arguments are its hyper-parameters and their defaults."""

    display: str = ""  # the name in tables and figures, as the paper writes it; default: the method's name
    views: Mapping[str, tuple[str, ...]] = {"labelled": ("weak",)}
    targets: tuple[str, ...] = ()
    phases: Mapping[str, float] = {"train": 0.0}
    capturable: bool = True
    uncapturable: str = ""  # why it is not, told to the user
    phase: str = "train"  # the phase that the current step belongs to; set by the harness
    later: Mapping[str, Any] = {}  # hyper-parameters added after runs were recorded -> the value that changes nothing
    numerics: int = 1  # bump when the same specification no longer gives the same numbers

    def __init__(self) -> None:
        super().__init__()
        self.watched: dict[str, Tensor] = {}

    def losses(self, labelled: Batch, unlabelled: Any, clock: Clock) -> Losses:
        """Named scalars whose sum is minimised, or a generator of such parts, each back-propagated at once.

        A part's activations are freed before the next part is computed. `unlabelled` is a Batch without masks, or
        None for a method whose `views` name no such stream.
        """
        raise NotImplementedError

    def predict(self, image: Tensor) -> Logits:
        """Logits [B, C, H, W] of normalised images [B, 3, H, W], or several by name, the official first."""
        raise NotImplementedError

    def after_step(self, clock: Clock) -> None:
        """What happens after the optimiser's step: moving averages, memories."""

    def trained(self) -> list[Group]:
        """What is optimised, and how."""
        return [Group(parameter for parameter in self.parameters() if parameter.requires_grad)]

    def watch(self, name: str, value: Tensor) -> None:
        """Log a scalar beside the losses."""
        self.watched[name] = value.detach()


def named_logits(prediction: Logits) -> dict[str, Tensor]:
    """`predict`'s answer by name; one unnamed output is called `prediction`."""
    return {"prediction": prediction} if isinstance(prediction, Tensor) else dict(prediction)
