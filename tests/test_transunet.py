"""TransUNet on timm's vision transformers: tokens, skips, sizes, weights of files, and what is refused."""

from __future__ import annotations

import warnings

import pytest
import timm
import torch
from safetensors.torch import save_file

from benchmark.conformance.testbed import advance
from benchmark.errors import UserError
from benchmark.nets import build, weights
from tests.factories import digest_of, method_testbed

TINY = "transunet-vit_tiny_patch16_224"


@pytest.mark.parametrize(("vit", "size", "divisor", "tokens"), [
    ("vit_tiny_patch16_224", 64, 16, 4), ("vit_small_patch14_reg4_dinov2", 112, 56, 8),
    ("vit_tiny_r_s16_p8_224", 64, 32, 2), ("eva02_tiny_patch14_224", 56, 56, 4),
])
def test_features_maps_and_logits_have_their_sizes(vit, size, divisor, tokens):
    network = build(f"transunet-{vit}", classes=3, size=size)
    images = torch.randn(2, 3, size, size)
    features = network.encode(images)
    maps = network.decode(features)
    assert network.divisor == divisor and network.width == network.map_widths[-1] == 16
    assert [tuple(part.shape) for part in features] == [
        (2, width, side, side) for width, side in
        zip(network.feature_widths, (size // 2, size // 4, size // 8, tokens), strict=True)]
    assert [tuple(part.shape) for part in maps] == [
        (2, width, size // scale, size // scale) for width, scale in zip(network.map_widths, (8, 4, 2, 1), strict=True)]
    assert network.head(maps[-1]).shape == (2, 3, size, size)
    network.eval()
    assert torch.equal(network(images), network.head(network.decode(network.encode(images))[-1]))


def test_widths_are_the_papers_on_a_vit_b():
    with torch.device("meta"):
        network = build("transunet-vit_base_patch16_224", size=224)
    assert network.feature_widths == (64, 128, 256, 768) and network.map_widths == (256, 128, 64, 16)


def vit(name="vit_tiny_patch16_224", **more):
    torch.manual_seed(1)
    model = timm.create_model(name, num_classes=0, init_values=1e-5, **more)
    with torch.no_grad():
        for parameter in model.parameters():  # far from the start: LayerScale's 1e-5 would hide the blocks
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch14_reg4_dinov2"])
def test_the_deepest_feature_is_timms_own_patch_tokens_of_the_same_file(name, tmp_path):
    """The second has four register tokens beside the class token; both have LayerScale, as UNI has."""
    side = 16 * 7 if "patch16" in name else 14 * 8
    theirs = vit(name, img_size=side).eval()
    save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    network = build(f"transunet-{name}", weights=digest_of(tmp_path / "vit.safetensors"), size=side).eval()
    images = torch.randn(2, 3, side, side)
    tokens = theirs.forward_features(images)[:, theirs.num_prefix_tokens :]
    rows = side // theirs.patch_embed.patch_size[0]
    assert torch.equal(network.encode(images)[-1], tokens.transpose(1, 2).unflatten(2, (rows, rows)))


@pytest.mark.parametrize(("method", "settings"), [("cct", {}), ("xnet", {"method__network": "configured"})])
@pytest.mark.parametrize(("vit", "size"), [("vit_small_patch14_reg4_dinov2", 56), ("vit_tiny_r_s16_p8_224", 64)])
def test_methods_that_use_deep_features_take_strides_that_are_no_power_of_two_or_equal(method, settings, vit, size):
    training = method_testbed(method, net__name=f"transunet-{vit}", data__size=size, **settings).build()
    advance(training, 0, 1)
    assert training.optimisers.optimisers[0].state


def test_every_skip_is_used_none_is_written_over_and_every_parameter_learns():
    network = build(TINY, size=64).eval()
    images = torch.randn(1, 3, 64, 64)
    features = network.encode(images)
    kept = [feature.clone() for feature in features]
    plain = network.logits(features)
    for level in range(len(features)):
        changed = [torch.randn_like(part) if at == level else part for at, part in enumerate(features)]
        assert (network.logits(changed) - plain).abs().mean() > 0.01 * plain.abs().mean(), level
    assert all(torch.equal(a, b) for a, b in zip(features, kept, strict=True))
    network.train()(images.repeat(2, 1, 1, 1)).square().mean().backward()
    assert all(parameter.grad is not None and parameter.grad.abs().sum() > 0 for parameter in network.parameters())


def test_a_file_of_another_size_fits_and_a_finished_network_is_rebuilt_without_it(tmp_path):
    theirs = vit()
    save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    network = build(TINY, weights=digest_of(tmp_path / "vit.safetensors"), size=96)
    assert torch.equal(network.encoder.inner.vit.blocks[3].attn.qkv.weight, theirs.blocks[3].attn.qkv.weight)
    assert network.encoder.inner.vit.pos_embed.shape[1] == 1 + 6 * 6
    again = build(TINY, weights=weights.shape_of(network.state_dict()), size=96)
    again.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 96, 96)
    assert torch.equal(again.eval()(images), network.eval()(images))


def test_a_plan_builds_it_without_memory():
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("error")
        network = build(TINY, size=64)
    assert next(network.parameters()).device.type == "meta"


def test_auto_follows_the_transformers_normalisation():
    values = {"net.name": TINY, "net.weights": "sha256:0", "data.normalise": "auto"}
    assert weights.normalisation(values) == "half"  # as timm lists it
    assert weights.normalisation({**values, "net.name": "transunet-vit_small_patch14_dinov2"}) == "imagenet"


def test_what_does_not_fit_is_refused_in_one_line(tmp_path):
    save_file(timm.create_model("vit_tiny_patch16_224", depth=2).state_dict(), tmp_path / "short.safetensors")
    for name, size, start, hint in (
        ("transunet-vit_tiny_patch16_24", 64, None, "Did you mean 'vit_tiny_patch16_224'?"),
        ("transunet-resnet18", 64, None, "resnet18 is no vision transformer with patch tokens"),
        (TINY, 72, None, "sides must be multiples of 16, such as 64 or 80"),
        ("transunet-vit_small_patch14_dinov2", 64, None, "multiples of 56"),
        (TINY, 64, "package", "net.weights=package holds"),
        (TINY, 64, digest_of(tmp_path / "short.safetensors"), "40 of its 50 matrices and kernels are not among them"),
    ):
        with pytest.raises(UserError) as error:
            build(name, size=size, weights=start)
        assert hint in str(error.value) and "\n" not in str(error.value)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cct", "corrmatch", "mc_net", "mpamatch", "semimoe", "u2pl", "unimatch", "urpc"])
def test_methods_that_work_between_its_parts_take_it(method):
    rows = advance(method_testbed(method, net__name=TINY, train__steps=2).build(), 0, 2)
    assert len(rows) == 2 and all(torch.isfinite(torch.tensor(list(row.values()))).all() for row in rows)
