"""Swin U-Net: the published count, windows at every size, and what every network owes."""

from typing import Any

import pytest
import torch
from timm.models.swin_transformer import SwinTransformerBlock
from torch import Tensor, nn

from benchmark.nets import build
from benchmark.nets.swin_unet import Block, PatchExpanding, Stage, SwinUNet, separation


def narrow(drop_path: float = 0.0, seed: int = 0) -> SwinUNet:
    """A narrow network whose attention is far from uniform, so that differences show."""
    torch.manual_seed(seed)
    network = SwinUNet(3, 2, width=8, depths=(2, 2, 2, 2), heads=(1, 2, 2, 4), window=4, drop_path=drop_path)
    for name, parameter in network.named_parameters():
        if "qkv.weight" in name or "bias_table" in name:
            nn.init.normal_(parameter)
    return network


# The three parts


@pytest.mark.parametrize("name", ["swin_unet", "swin_unet_small"])
def test_features_and_maps_have_their_sizes_at_every_multiple_of_the_divisor(name: str) -> None:
    network = build(name, classes=3)
    assert network.divisor == 32 and network.width == network.map_widths[-1]
    for size in (32, 64, 96, 224, 256):
        with torch.no_grad():
            features = network.encode(torch.randn(1, 3, size, size))
            maps = network.decode(features)
            logits = network.head(maps[-1])
        assert [tuple(f.shape) for f in features] == [
            (1, width, size // scale, size // scale)
            for width, scale in zip(network.feature_widths, (4, 8, 16, 32), strict=True)
        ]
        assert [tuple(m.shape) for m in maps] == [
            (1, width, size // scale, size // scale)
            for width, scale in zip(network.map_widths, (16, 8, 4, 1), strict=True)
        ]
        assert logits.shape == (1, 3, size, size) and logits.isfinite().all()


@pytest.mark.parametrize("shape", [(96, 96), (64, 160)])
def test_encode_decode_and_head_make_the_forward_pass_whatever_the_shape(shape: tuple[int, int]) -> None:
    network, images = narrow(), torch.randn(2, 3, *shape)
    logits = network(images)
    assert logits.shape == (2, 2, *shape) and logits.isfinite().all()
    assert torch.equal(logits, network.head(network.decode(network.encode(images))[-1]))


@pytest.mark.parametrize("scale", [2, 4])
def test_an_expansion_puts_the_parts_of_a_token_side_by_side_row_by_row(scale: int) -> None:
    expanding = PatchExpanding(scale * scale * 2, 2, scale)
    nn.init.eye_(expanding.expand.weight)
    expanding.norm = nn.Identity()  # type: ignore[assignment]
    x = torch.randn(1, 3, 5, scale * scale * 2)
    y = expanding(x)
    for row in range(3 * scale):
        for column in range(5 * scale):
            part = (row % scale) * scale + column % scale
            assert torch.equal(y[0, row, column], x[0, row // scale, column // scale, 2 * part : 2 * part + 2])


# Windows


def theirs(mine: Block, side: int, window: int, shift: int) -> SwinTransformerBlock:
    """timm's block with the weights of ours; of the position biases, those of the window it uses."""
    heads = mine.attention.num_heads
    block = SwinTransformerBlock(8, (side, side), num_heads=heads, window_size=window, shift_size=shift)
    block.norm1, block.norm2, block.mlp = mine.norm1, mine.norm2, mine.mlp
    block.attn.qkv, block.attn.proj = mine.attention.qkv, mine.attention.proj
    used, full = block.window_size[0], mine.window[0]
    table = mine.attention.relative_position_bias_table.detach().view(2 * full - 1, 2 * full - 1, heads)
    inner = slice(full - used, full + used - 1)
    block.attn.relative_position_bias_table = nn.Parameter(table[inner, inner].reshape(-1, heads))
    return block


@pytest.mark.parametrize(("side", "window"), [(8, 4), (12, 4), (4, 4), (14, 7), (3, 7), (2, 4), (1, 7)])
def test_blocks_are_those_of_timm_where_windows_divide_the_map_or_hold_it(side: int, window: int) -> None:
    torch.manual_seed(0)
    stage = Stage(8, 2, window, (0.0, 0.0)).eval()
    for name, parameter in stage.named_parameters():
        if "qkv" in name or "bias_table" in name:
            nn.init.normal_(parameter)
    plain, moved = (theirs(b, side, window, s) for b, s in zip(stage.blocks, (0, window // 2), strict=True))
    x = torch.randn(2, side, side, 8)
    torch.testing.assert_close(stage(x), moved(plain(x)), rtol=1e-4, atol=1e-5)


def footprint(function: Any, side: int, row: int, column: int) -> set[tuple[int, int]]:
    """The tokens that the answer at one place depends on."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, side, side, 8, generator=generator).requires_grad_()
    (gradient,) = torch.autograd.grad(function(x)[0, row, column].square().sum(), x)
    return {(int(r), int(c)) for r, c in gradient[0].abs().sum(-1).nonzero().tolist()}


@pytest.mark.parametrize(("side", "window"), [(8, 4), (10, 4), (9, 7), (16, 7)])
def test_one_block_sees_its_window_and_neither_padding_nor_the_opposite_border(side: int, window: int) -> None:
    torch.manual_seed(0)
    stage, half = Stage(8, 2, window, (0.0, 0.0)).eval(), window // 2
    whole = range(side)
    for block, shift in zip(stage.blocks, (0, half), strict=True):
        mask = separation(side, side, window, (shift, shift), torch.zeros(1))

        def run(x: Tensor, block: Any = block, shift: int = shift, mask: Any = mask) -> Tensor:
            return block(x, (shift, shift), mask)

        for row, column in [(0, 0), (side - 1, 0), (side - 1, side - 1), (side // 2, side - 2), (half, half - 1)]:
            rows, columns = (
                [other for other in whole if (other - shift) // window == (place - shift) // window]
                for place in (row, column)
            )
            assert footprint(run, side, row, column) == {(r, c) for r in rows for c in columns}


# Numerics


def test_rates_of_dropped_branches_rise_to_the_deepest_block_and_are_mirrored() -> None:
    with torch.device("meta"):
        network = build("swin_unet")
    rates = [
        [[getattr(block.drop_path, "drop_prob", 0.0) for block in stage.blocks] for stage in part.stages]
        for part in (network.encoder, network.decoder)
    ]
    flat = [rate for stage in rates[0] for rate in stage]
    assert flat == pytest.approx([0.1 * number / 11 for number in range(12)])
    assert rates[1] == rates[0][2::-1]


@pytest.mark.parametrize("size", [24, 32])
def test_nothing_asks_the_device_in_construction_or_in_mid_step(size: int) -> None:
    with torch._subclasses.FakeTensorMode():
        network = SwinUNet(3, 2, width=8, depths=(2, 2), heads=(1, 2), window=4)
        logits = network(torch.empty(2, 3, size, size))
        assert logits.shape == (2, 2, size, size)
        logits.sum().backward()


# Seeds and starts


def test_weights_start_as_in_the_authors_code() -> None:
    torch.manual_seed(0)
    network = build("swin_unet_small")
    for module in network.modules():
        if isinstance(module, nn.Linear):
            assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert module.eps == 1e-5 and (module.weight == 1).all() and not module.bias.any()
    tables = [p for name, p in network.named_parameters() if name.endswith("bias_table")]
    assert len(tables) == 14
    assert torch.cat([t.flatten() for t in tables]).std().item() == pytest.approx(0.02, rel=0.1)
    assert network.head.bias is None
