"""Networks: exact counts, the three parts, numerics, and what a user is told."""

import copy
from typing import Any

import pytest
import segmentation_models_pytorch
import torch
from torch import nn

from benchmark.errors import NotApplicable, UserError
from benchmark.nets import NAMES, build
from benchmark.nets.network import Network
from benchmark.nets.residual import ResidualUNet
from benchmark.nets.swin_unet import SwinUNet
from benchmark.nets.unet import UNet
from tests.conftest import complaint
from tests.test_swin_unet import narrow as narrow_swin

NARROW = (4, 8, 12, 16, 20)


def count(*modules: nn.Module) -> int:
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def on_meta(name: str, **options: Any) -> Network:
    with torch.device("meta"):
        return build(name, **options)


def seeded(name: str, seed: int = 0, **options: Any) -> Network:
    torch.manual_seed(seed)
    return build(name, **options)


def narrow(kind: str) -> Network:
    torch.manual_seed(0)
    if kind == "residual":
        return ResidualUNet(3, 2, NARROW)
    if kind == "swin":
        return narrow_swin()
    return UNet(3, 2, NARROW, up_kernel=1 if kind == "unet_small" else 3)


@pytest.fixture(params=["unet", "unet_small", "residual", "swin"])
def network(request: pytest.FixtureRequest) -> Network:
    return narrow(request.param)


# Counts


@pytest.mark.parametrize(
    ("name", "expected"),
    [("unet", 34_527_106), ("unet_small", 1_813_986), ("xnet_sb", 135_816_194), ("swin_unet", 41_380_164),
     ("swin_unet_small", 1_711_772), ("unet_lite", 3_362_498), ("unet_lite_half", 3_356_434)],
)
def test_parameter_counts_are_those_of_the_list(name: str, expected: int) -> None:
    assert count(on_meta(name)) == expected
    assert f"{expected:,}" in NAMES[name]


def test_channels_and_classes_change_only_the_first_and_last_convolution() -> None:
    grey = on_meta("unet", channels=1, classes=5)
    assert count(grey) == 34_527_106 - 2 * 9 * 64 + 3 * (64 + 1)


# The three parts


def check_parts(network: Network, size: int, classes: int = 2) -> None:
    images = torch.randn(2, 3, size, size)
    features = network.encode(images)
    maps = network.decode(features)
    assert tuple(feature.shape[1] for feature in features) == network.feature_widths
    assert tuple(level.shape[1] for level in maps) == network.map_widths
    sides = [feature.shape[-1] for feature in features]
    assert sides == sorted(sides, reverse=True), "features run fine to coarse"
    assert sides[-1] == size // network.divisor
    scales = (16, 8, 4, 1) if isinstance(network, SwinUNet) else [1 << up for up in range(len(maps) - 1, -1, -1)]
    assert [level.shape[-1] for level in maps] == [size // scale for scale in scales]
    assert maps[-1].shape == (2, network.width, size, size)
    assert network.head(maps[-1]).shape == (2, classes, size, size)
    network.eval()
    assert torch.equal(network(images), network.head(network.decode(network.encode(images))[-1]))


def test_encode_decode_and_head_make_the_forward_pass(network: Network) -> None:
    check_parts(network, 32)


def test_every_parameter_learns(network: Network) -> None:
    network(torch.randn(2, 3, 32, 32)).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_perturbed_features_reach_the_logits_and_parts_leave_each_other_alone(network: Network) -> None:
    network.eval()
    images = torch.randn(1, 3, 32, 32)
    features = network.encode(images)
    kept = [feature.clone() for feature in features]
    maps = network.decode(features)
    plain, kept_maps = network.head(maps[-1]), [level.clone() for level in maps]
    for level in range(len(features)):
        changed = [torch.randn_like(f) if at == level else f for at, f in enumerate(features)]
        assert not torch.equal(network.head(network.decode(changed)[-1]), plain)
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True)), "no feature is written over"
    assert all(torch.equal(a, b) for a, b in zip(maps, kept_maps, strict=True)), "no map is written over"


# Numerics


def test_channels_last_gives_the_same_logits_and_stays_so(network: Network) -> None:
    network.double().eval()  # rounding grows inside
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    plain = network(images)
    network.to(memory_format=torch.channels_last)
    features = network.encode(images.contiguous(memory_format=torch.channels_last))
    maps = network.decode(features)
    for tensor in [*features[:-1], *maps]:
        assert tensor.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(network.head(maps[-1]), plain, rtol=1e-4, atol=1e-5)


def test_float64_and_bfloat16_autocast(network: Network) -> None:
    images = torch.randn(2, 3, 32, 32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert network(images).dtype is torch.bfloat16
    assert network.double()(images.double()).dtype is torch.float64


def test_one_image_in_evaluation_equals_its_part_of_a_batch(network: Network) -> None:
    network.double().eval()
    images = torch.randn(3, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(network(images[:1]), network(images)[:1], rtol=1e-4, atol=1e-5)


def test_a_small_kernel_commutes_with_nearest_upsampling() -> None:
    up = narrow("unet_small").decoder.get_submodule("ups.0")
    assert isinstance(up, nn.Sequential)
    conv, repeat = up
    x = torch.randn(2, NARROW[-1], 4, 4)
    torch.testing.assert_close(up(x), conv(repeat(x)))


# Seeds


@pytest.mark.parametrize("name", ["unet_small", "smp/unet-resnet18", "swin_unet_small"])
def test_the_seed_and_nothing_else_decides_the_weights(name: str) -> None:
    first, again, other = seeded(name).state_dict(), seeded(name).state_dict(), seeded(name, 1).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    convolutions = [key for key in first if first[key].ndim == 4]
    assert not any(torch.equal(first[key], other[key]) for key in convolutions)


def test_initial_spread_follows_fan_in_or_fan_out() -> None:
    def spread(network: Network) -> float:
        kernel = next(m.weight for m in network.modules() if isinstance(m, nn.Conv2d) and m.in_channels == 3)
        return float(kernel.detach().std())

    torch.manual_seed(0)
    widths = (64, 64, 64)
    assert spread(UNet(3, 2, widths)) == pytest.approx((2 / (9 * 3)) ** 0.5, rel=0.1)
    assert spread(ResidualUNet(3, 2, widths)) == pytest.approx((2 / (9 * 64)) ** 0.5, rel=0.1)


# segmentation_models_pytorch and timm


@pytest.mark.parametrize(
    "name",
    ["smp/unet-resnet18", "smp/unetplusplus-resnet18", "smp/linknet-resnet18", "smp/unet-tu-convnext_atto"],
)
def test_smp_networks_offer_all_parts(name: str) -> None:
    network = seeded(name, classes=3, size=64)
    assert network.training and network.divisor == 32
    check_parts(network, 64, classes=3)
    twin = copy.deepcopy(network)
    nn.init.zeros_(next(twin.head.parameters()))
    assert len(network.decode(network.encode(torch.zeros(1, 3, 64, 64)))) == len(network.map_widths)


def test_smp_parts_compute_what_the_library_computes() -> None:
    network = seeded("smp/unet-resnet18").eval()
    torch.manual_seed(0)
    theirs = segmentation_models_pytorch.Unet("resnet18", encoder_weights=None, classes=2).eval()
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(network(images), theirs(images))


def test_a_decoder_that_ends_at_half_the_side_offers_all_parts() -> None:
    """Its last map is enlarged for heads of one's own; its logits are enlarged, which for its 1x1 head is the same."""
    network = seeded("unet_lite_half", size=64).eval()
    images = torch.randn(2, 3, 64, 64)
    maps = network.decode(network.encode(images))
    assert [level.shape[-1] for level in maps] == [4, 8, 16, 32, 64]
    assert tuple(level.shape[1] for level in maps) == network.map_widths == (64, 48, 32, 24, 24)
    torch.testing.assert_close(network(images), network.head(maps[-1]), rtol=1e-4, atol=1e-5)
    network.train()(images).square().mean().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_an_architecture_without_levels_declines_its_parts_but_works() -> None:
    network = seeded("smp/fpn-resnet18", size=64).eval()
    images = torch.randn(1, 3, 64, 64)
    assert network(images).shape == (1, 2, 64, 64)
    assert torch.equal(copy.deepcopy(network)(images), network(images))
    asked = (
        lambda: network.encode(images), lambda: network.decode([]), lambda: network.decoder, lambda: network.width,
    )
    for ask in asked:
        with pytest.raises(NotApplicable, match=r"smp/fpn-resnet18.*smp/unet"):
            ask()
    with pytest.raises(AttributeError):
        _ = network.no_such_thing


@pytest.mark.parametrize("name", ["smp/unet-resnet18", "smp/unet-tu-resnet18"])
def test_pretrained_weights_are_fetched_only_when_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*args: object, **options: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", unreachable)
    monkeypatch.setattr("timm.models._hub.hf_hub_download", unreachable)
    seeded(name)
    with pytest.raises(UserError, match=r"ImageNet weights of '.*resnet18'.*leave weights unset"):
        build(name, weights="imagenet")


# What a user is told


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("unett", "Did you mean 'unet'?"),
        ("xnet-sb", "Did you mean 'xnet_sb'?"),
        ("smp/unt-resnet18", "Did you mean 'unet'?"),
        ("smp/unet-resnet33", "Did you mean 'resnet"),
        ("smp/unet-tu-convnext_tinny", "Did you mean 'tu-convnext_tiny'?"),
        ("smp/unet", "smp/unet-resnet34"),
        ("smp/<arch>-<encoder>", "There are: unet, "),
        ("smp/unetplusplus-mit_b0", "cannot be built"),
    ],
)
def test_a_wrong_name_is_answered_in_one_line(name: str, hint: str) -> None:
    assert hint in complaint(build, name)


@pytest.mark.parametrize(("size", "hint"), [(100, "such as 96 or 112"), (8, "such as 16 or 32"), (0, "such as 16")])
def test_a_size_that_does_not_fit(size: int, hint: str) -> None:
    with pytest.raises(UserError, match=hint):
        on_meta("unet_small", size=size)


def test_a_size_that_the_library_cannot_take() -> None:
    with pytest.raises(UserError, match="multiples of 32"):
        build("smp/unet-resnet18", size=48)
    with pytest.raises(UserError, match="does not take images of size 64"):
        build("smp/pan-resnet18", size=64)


def test_a_network_without_pretrained_weights_says_so() -> None:
    with pytest.raises(UserError, match=r"leave net\.weights unset"):
        build("unet", weights="imagenet")
