"""Swin U-Net (Cao et al. 2021, arXiv 2105.05537): a U-Net of shifted-window attention, without convolutions.

Made of timm's window attention, so that one network takes every size that is a multiple of its divisor. timm's own
block is right where the windows divide the map; elsewhere it pads the map after it was shifted, so that the mask misses
the seam and the opposite borders of the image attend to each other, and zeros are attended to. Here the mask covers
seam and padding: a padded window is exactly a smaller window, and the two blocks agree wherever nothing is padded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from timm.layers import DropPath, Mlp, PatchEmbed, trunc_normal_
from timm.models.swin_transformer import PatchMerging, WindowAttention, window_partition, window_reverse
from torch import Tensor, nn
from torch.nn import functional

from benchmark.nets.network import Network

PATCH = 4
"""Side of the patches that become tokens, in pixels."""


def regions(side: int, window: int, shift: int, device: torch.device) -> Tensor:
    """What each place of a padded, shifted axis holds: 0 the map, 1 what came round the edge, 2 padding."""
    whole = math.ceil(side / window) * window
    place = torch.arange(whole, device=device)
    return torch.where((place + shift) % whole >= side, 2, (place >= whole - shift).long())


def separation(height: int, width: int, window: int, shifts: tuple[int, int], like: Tensor) -> Tensor | None:
    """0 where two tokens of a window may attend to each other, else -inf: [windows, tokens, tokens].

    They may where they are neighbours on the map; padding attends to padding. None where every pair may.
    """
    if not any(shifts) and height % window == width % window == 0:
        return None
    rows = regions(height, window, shifts[0], like.device).view(-1, 1, window, 1)
    columns = regions(width, window, shifts[1], like.device).view(1, -1, 1, window)
    kinds = (3 * rows + columns).reshape(-1, window * window)
    apart = kinds.unsqueeze(1) != kinds.unsqueeze(2)
    return torch.zeros(apart.shape, dtype=like.dtype, device=like.device).masked_fill(apart, -math.inf)


class Block(nn.Module):
    """Attention within windows and a two-layer perceptron, each behind a LayerNorm and beside an identity."""

    def __init__(self, width: int, heads: int, window: int, drop_path: float) -> None:
        super().__init__()
        self.window = (window, window)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window_size=self.window)
        self.mlp = Mlp(width, 4 * width)
        self.drop_path = DropPath(drop_path) if drop_path else nn.Identity()

    def attend(self, x: Tensor, shifts: tuple[int, int], mask: Tensor | None) -> Tensor:
        """Attention among the tokens of each window, the windows moved by `shifts`: [B, H, W, C] -> the same."""
        height, width = x.shape[1:3]
        x = functional.pad(x, (0, 0, 0, -width % self.window[1], 0, -height % self.window[0]))
        padded = x.shape
        if any(shifts):
            x = x.roll((-shifts[0], -shifts[1]), (1, 2))
        x = window_partition(x, self.window)
        x = self.attention(x.flatten(1, 2), mask).view(x.shape)
        x = window_reverse(x, self.window, padded[1], padded[2])
        if any(shifts):
            x = x.roll(shifts, (1, 2))
        return x[:, :height, :width]

    def forward(self, x: Tensor, shifts: tuple[int, int], mask: Tensor | None) -> Tensor:
        """[B, H, W, C] -> the same."""
        x = x + self.drop_path(self.attend(self.norm1(x), shifts, mask))
        total: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return total


class Stage(nn.Module):
    """The blocks of a level; every second one moves its windows by half a window, where there is more than one."""

    def __init__(self, width: int, heads: int, window: int, drop_paths: Sequence[float]) -> None:
        super().__init__()
        self.window = window
        self.blocks = nn.ModuleList(Block(width, heads, window, drop) for drop in drop_paths)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, C] -> the same."""
        height, width = x.shape[1:3]
        half = self.window // 2
        moved = (half if height > self.window else 0, half if width > self.window else 0)
        masks = {shifts: separation(height, width, self.window, shifts, x) for shifts in ((0, 0), moved)}
        for number, block in enumerate(self.blocks):
            shifts = moved if number % 2 else (0, 0)
            x = block(x, shifts, masks[shifts])
        return x


class PatchExpanding(nn.Module):
    """Every token becomes scale x scale tokens by a linear map without bias, then LayerNorm."""

    def __init__(self, before: int, after: int, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.expand = nn.Linear(before, scale * scale * after, bias=False)
        self.norm = nn.LayerNorm(after)

    def forward(self, x: Tensor) -> Tensor:
        """[B, H, W, before] -> [B, scale H, scale W, after]."""
        x = self.expand(x).unflatten(3, (self.scale, self.scale, -1))
        x = x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)
        tokens: Tensor = self.norm(x)
        return tokens


class Encoder(nn.Module):
    """Patches of 4 pixels, then stages with a merging of 2 x 2 tokens between them; a LayerNorm at the end.

    As in the authors' code a level's skip is what enters its stage; the deepest feature is what leaves it.
    """

    def __init__(self, channels: int, widths: Sequence[int], stages: Sequence[Stage]) -> None:
        super().__init__()
        self.patches = PatchEmbed(None, PATCH, channels, widths[0], norm_layer=nn.LayerNorm, output_fmt="NHWC")
        self.stages = nn.ModuleList(stages)
        self.afters = nn.ModuleList([*(PatchMerging(width) for width in widths[:-1]), nn.LayerNorm(widths[-1])])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image -> features at 1/4, 1/8, 1/16 and 1/32 of its side."""
        x = self.patches(x)
        features = []
        for stage, after in zip(self.stages, self.afters, strict=True):
            features.append(x)
            x = after(stage(x))
        return [feature.permute(0, 3, 1, 2) for feature in (*features[:-1], x)]


class Decoder(nn.Module):
    """Per level an expansion, the skip joined by a linear map, and a stage; then an expansion to single pixels."""

    def __init__(self, widths: Sequence[int], stages: Sequence[Stage]) -> None:
        super().__init__()
        levels = list(pairwise(reversed(widths)))
        self.expansions = nn.ModuleList(PatchExpanding(deep, level, 2) for deep, level in levels)
        self.joins = nn.ModuleList(nn.Linear(2 * level, level) for _, level in levels)
        self.stages = nn.ModuleList(stages)
        self.norm = nn.LayerNorm(widths[0])
        self.pixels = PatchExpanding(widths[0], widths[0], PATCH)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features, fine to coarse -> maps at 1/16, 1/8, 1/4 and 1 of the image's side."""
        *skips, x = (feature.permute(0, 2, 3, 1) for feature in features)
        maps = []
        for expand, join, stage, skip in zip(self.expansions, self.joins, self.stages, reversed(skips), strict=True):
            x = stage(join(torch.cat((expand(x), skip), dim=3)))
            maps.append(x)
        maps.append(self.pixels(self.norm(x)))
        return [level.permute(0, 3, 1, 2) for level in maps]


class SwinUNet(Network):
    """41,380,164 parameters for 3 channels and 2 classes: the `swinunet` of the XNet code base.

    The paper's own configuration has depths (2, 2, 2, 2); six blocks in the third stage are XNet's, as are the drop
    rates of whole branches, 0 at the first block to `drop_path` at the last of the encoder; the decoder repeats the
    encoder's depths and rates, and has no blocks at the deepest level. Weights: linear maps and position biases from a
    normal distribution cut at 2, deviation 0.02; convolutions as PyTorch has them; the head has no bias.
    """

    def __init__(
        self, channels: int, classes: int, width: int = 96, depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24), window: int = 7, drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        widths = tuple(width << level for level in range(len(depths)))
        self.divisor = PATCH << (len(depths) - 1)
        self.feature_widths = widths
        self.map_widths = (*widths[-2::-1], width)

        def stage(level: int) -> Stage:
            first, last = sum(depths[:level]), sum(depths) - 1
            rates = [drop_path * (first + number) / last for number in range(depths[level])]
            return Stage(widths[level], heads[level], window, rates)

        self.encoder = Encoder(channels, widths, [stage(level) for level in range(len(depths))])
        self.decoder = Decoder(widths, [stage(level) for level in reversed(range(len(depths) - 1))])
        self.head = nn.Conv2d(width, classes, 1, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
