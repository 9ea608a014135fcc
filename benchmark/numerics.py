"""How a run holds its numbers, and how images are normalised: shared by training, evaluation and prediction."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp64": torch.float64}


@dataclass(frozen=True)
class Numerics:
    """Where tensors lie, and in which form. `precision`: fp32, bf16 (mixed: forward passes alone), or fp64."""

    device: torch.device
    precision: str = "fp32"
    memory_format: torch.memory_format = torch.contiguous_format

    @classmethod
    def of(cls, values: Mapping[str, Any], device: torch.device) -> Numerics:
        """Those of resolved settings, `train.precision` and `train.memory_format`."""
        last = values["train.memory_format"] == "channels_last"
        return cls(device, values["train.precision"], torch.channels_last if last else torch.contiguous_format)

    @property
    def dtype(self) -> torch.dtype:
        """That of weights and images; mixed precision is a matter of the forward pass."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def autocast(self) -> AbstractContextManager[Any]:
        """Mixed precision for forward passes where the run asks for it."""
        if self.precision != "bf16":
            return nullcontext()
        # Some versions of torch keep in the cache what `no_grad` converted, and cut a later pass's gradient by it.
        return torch.autocast(self.device.type, torch.bfloat16, cache_enabled=False)


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of the three channels, of pixels in [0, 1]; the default changes nothing."""

    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)


class Normaliser:
    """Normalises images, in the type and memory format of `numerics`.

    Training scales by a reciprocal and evaluation divides, which differs in the last bit: records depend on both."""

    def __init__(self, normalisation: Normalisation, numerics: Numerics) -> None:
        self.numerics = numerics
        device, channels = numerics.device, (normalisation.mean, normalisation.std)
        self.mean, self.std = (torch.tensor(c, dtype=numerics.dtype, device=device).view(1, 3, 1, 1) for c in channels)
        self.offset = self.mean.float()
        scale = torch.tensor(normalisation.std, dtype=torch.float32).reciprocal()  # on the host: a GPU rounds otherwise
        self.scale = scale.view(1, 3, 1, 1).to(device)

    def __call__(self, pixels: np.ndarray) -> Tensor:
        """Stored images uint8 [B, H, W, 3] -> [B, 3, H, W] on the device."""
        image = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
        image = (image.to(self.numerics.device, self.numerics.dtype) / 255 - self.mean) / self.std
        return image.contiguous(memory_format=self.numerics.memory_format)

    def in_place(self, image: Tensor) -> Tensor:
        """Rendered images float32 [B, 3, H, W] in [0, 1], which are overwritten."""
        image = image.sub_(self.offset).mul_(self.scale)
        return image.to(self.numerics.dtype, memory_format=self.numerics.memory_format)
