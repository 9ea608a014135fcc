"""TransUNet (Chen et al. 2021, arXiv 2102.04306) on any plain vision transformer of timm: `transunet-<timm ViT>`.

The patch tokens are the deepest feature, convolutions on the image give the skips at a half, a quarter and an eighth
of its side, and a decoder climbs from one to the next. In the paper the transformer reads the features of a ResNet-50
at a sixteenth, which are also the skips; here it reads the image, as pretrained encoders such as UNI do, so the skips
have convolutions of their own. Widths are the paper's (256, 128, 64, 16) for a ViT-B, others in proportion.
"""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import timm
from segmentation_models_pytorch.base import SegmentationHead
from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder
from torch import Tensor, nn

from benchmark.nets.network import initialise
from benchmark.nets.unet import conv_bn_relu


def stage(before: int, after: int) -> nn.Sequential:
    """Half the side: a convolution of stride 2 with BatchNorm and ReLU, and one more."""
    halve = nn.Conv2d(before, after, 3, stride=2, padding=1)
    return nn.Sequential(halve, nn.BatchNorm2d(after), nn.ReLU(inplace=True), *conv_bn_relu(after, after))


class Encoder(nn.Module):
    """A vision transformer, and three stages of convolutions beside it."""

    def __init__(self, vit: Any, channels: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = (channels, *widths, vit.embed_dim)
        self.stem = nn.ModuleList(stage(before, after) for before, after in pairwise((channels, *widths)))
        initialise(self.stem, "fan_in")
        self.vit = vit

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image -> itself, skips at 1/2, 1/4 and 1/8 of its side, and its normalised patch tokens as a map."""
        features = [x]
        for part in self.stem:
            features.append(part(features[-1]))
        tokens: list[Tensor] = self.vit.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
        return [*features, tokens[-1]]


def create(name: str, pretrained: bool, channels: int, classes: int, **options: Any) -> SimpleNamespace:
    """`encoder`, `decoder`, `segmentation_head` and `divisor`; `options` go to timm. ValueError if it is no ViT."""
    vit: Any = timm.create_model(name, pretrained=pretrained, in_chans=channels, num_classes=0, **options)
    if not hasattr(vit, "num_prefix_tokens"):
        raise ValueError(f"{name} is no vision transformer with patch tokens, such as vit_tiny_patch16_224")
    base = max(16, 8 * (vit.embed_dim // 96))
    encoder = Encoder(vit, channels, (base, 2 * base, 4 * base))
    decoder = UnetDecoder(encoder.out_channels, (4 * base, 2 * base, base, 16), n_blocks=4)
    initialise(decoder, "fan_in")
    return SimpleNamespace(
        encoder=encoder, decoder=decoder, segmentation_head=SegmentationHead(16, classes),
        divisor=math.lcm(8, vit.feature_info[-1]["reduction"]),
    )
