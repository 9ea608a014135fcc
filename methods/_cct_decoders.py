"""CCT's auxiliary decoders, which see perturbed features only: many light ones, or three of the network's own kind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.nets.network import Network
from methods import _feature_perturbations as perturb


def light_decoder(width: int, classes: int, stride: int) -> nn.Sequential:
    """A 1x1 convolution to `classes` channels, then per factor 2 of `stride` a 1x1 convolution and a pixel shuffle.

    It starts as in ICNR: the four pixels that a shuffle makes of one are equal, here an orthogonal mixture of its
    channels, so that the logits start as large as the 1x1 convolution makes them. The authors' code has a ReLU before
    every shuffle, the last included: with 21 classes harmless, but with two a fifth of the positions starts without
    gradient, so it is left out here.
    """
    layers: list[nn.Module] = [nn.Conv2d(width, classes, 1, bias=False)]
    nn.init.kaiming_normal_(layers[0].weight, nonlinearity="linear")  # type: ignore[arg-type]
    for _ in range((stride - 1).bit_length()):
        conv = nn.Conv2d(classes, 4 * classes, 1)
        rotation = nn.init.orthogonal_(torch.empty(classes, classes))
        with torch.no_grad():
            conv.weight.copy_(rotation.repeat_interleave(4, 0)[..., None, None])
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        layers += [conv, nn.PixelShuffle(2)]
    return nn.Sequential(*layers)


class LightDecoders(nn.Module):
    """A light decoder of one feature, of this `level`, for every perturbation, `counts[name]` of each kind."""

    def __init__(self, counts: Mapping[str, int], width: int, classes: int, stride: int, level: int = -1) -> None:
        super().__init__()
        self.level = level
        self.kinds = [name for name, count in counts.items() for _ in range(count)]
        self.decoders = nn.ModuleList(light_decoder(width, classes, stride) for _ in self.kinds)

    def forward(self, features: Sequence[Tensor], logits: Tensor) -> list[Tensor]:
        """Features and the main decoder's logits, which guide CutOut and the masks -> every decoder's logits."""
        z = features[self.level]
        mask = perturb.foreground(logits, (z.shape[2], z.shape[3]))
        guides: dict[str, tuple[Any, ...]] = {"context_mask": (mask,), "object_mask": (mask,)}
        if "cutout" in self.kinds:
            guides["cutout"] = (perturb.object_boxes(mask),)
        outputs = []
        for kind, decoder in zip(self.kinds, self.decoders, strict=True):
            guide = (decoder,) if kind == "vat" else guides.get(kind, ())
            outputs.append(decoder(getattr(perturb, kind)(z, *guide)))
        size = logits.shape[-2:]  # larger or smaller where the feature's stride is no power of two
        return [z if z.shape[-2:] == size else F.interpolate(z, size, mode="bilinear") for z in outputs]


class FullDecoders(nn.Module):
    """The variant of SSL4MIS and XNet: three whole decoders, of features of all scales with noise, dropout and drop."""

    def __init__(self, nets: Sequence[Network]) -> None:
        super().__init__()
        for net in nets:
            del net.encoder
        self.nets = nn.ModuleList(nets)

    def forward(self, features: Sequence[Tensor], logits: Tensor) -> list[Tensor]:
        """Features, fine to coarse -> logits of the three; the main decoder's logits are not used."""
        views = (
            [perturb.feature_noise(z) for z in features],
            [F.dropout(z, 0.3) for z in features],
            [perturb.feature_drop(z) for z in features],
        )
        return [net.logits(view) for net, view in zip(self.nets, views, strict=True)]  # type: ignore
