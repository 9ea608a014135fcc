"""Networks by name. PyTorch is imported when one is built, not before, so that help and lists answer at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError, suggest
from benchmark.nets.weights import PACKAGED_ENCODER

if TYPE_CHECKING:
    from benchmark.nets.network import Network

NAMES: dict[str, str] = {
    "unet": "U-Net, 64 to 1024 channels: 34,527,106 parameters for 3 channels and 2 classes",
    "unet_small": "U-Net, 16 to 256 channels, 1x1 up-convolutions: 1,813,986 parameters, for CPUs",
    "xnet_sb": "residual U-Net (one branch of Zhou et al. 2023), 64 to 1024 channels: 135,816,194 parameters",
    "swin_unet": "Swin U-Net, a transformer, 96 to 768 channels: 41,380,164 parameters for 3 channels and 2 classes",
    "swin_unet_small": "Swin U-Net, 24 to 192 channels, windows of 4: 1,711,772 parameters, for CPUs",
    "unet_lite": "U-Net on EfficientNet-Lite0, decoder of 64 to 16 channels: 3,362,498 parameters; takes net.weights",
    "unet_lite_half": "the same, its decoder ended at half the side and its logits enlarged: 3,356,434 parameters",
    "transunet-<timm ViT>": "TransUNet on a plain ViT of timm, as transunet-vit_tiny_patch16_224; takes net.weights",
    "smp/<arch>-<encoder>": "any of segmentation_models_pytorch, e.g. smp/unet-resnet34; timm's as tu-NAME",
}

NARROW = {"decoder_channels": (64, 48, 32, 24, 16)}
LITE: dict[str, tuple[str, dict[str, Any]]] = {  # name -> the library's name, and options
    "unet_lite": (f"smp/unet-{PACKAGED_ENCODER}", NARROW),
    "unet_lite_half": (f"smp/unet-{PACKAGED_ENCODER}", NARROW | {"ends_at_half": True}),
}


def build(
    name: str, *, channels: int = 3, classes: int = 2, weights: str | None = None, size: int | None = None
) -> Network:
    """Build network `name` on the default device; its weights are drawn from PyTorch's global generator.

    `weights` is None (random), "package", "imagenet" or the digest of a file (see benchmark/nets/weights.py; not of
    U-Nets and Swin U-Nets of our own); `size` is the side of the images in pixels, checked when given. Raises UserError
    for an unknown name, weights that cannot be had, or a size the network cannot take.
    """
    library_name, options = LITE.get(name, (name, {}))
    if not library_name.startswith(("smp/", "transunet-")):
        return _of_size(_own(name, channels, classes, weights), name, size)

    from benchmark.nets import smp

    network = _of_size(smp.build(library_name, channels, classes, weights, size, **options), name, size)
    if size is not None:
        smp.rehearse(network, name, channels, size)
    return network


def _own(name: str, channels: int, classes: int, weights: str | None) -> Network:
    if name not in NAMES:
        raise UserError(f"unknown network '{name}'.{suggest(name, NAMES)} There are: {', '.join(NAMES)}")
    if weights is not None:
        raise UserError(f"network '{name}' has no pretrained weights: leave net.weights unset, or use "
                        "net.name=unet_lite or smp/<arch>-<encoder>")

    if name.startswith("swin_unet"):  # timm's import is slow, and only these networks need it
        from benchmark.nets.swin_unet import SwinUNet

        if name == "swin_unet_small":
            return SwinUNet(channels, classes, width=24, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4)
        return SwinUNet(channels, classes)

    from benchmark.nets.residual import ResidualUNet
    from benchmark.nets.unet import UNet

    if name == "xnet_sb":
        return ResidualUNet(channels, classes)
    if name == "unet_small":
        return UNet(channels, classes, widths=(16, 32, 64, 128, 256), up_kernel=1)
    return UNet(channels, classes)


def _of_size(network: Network, name: str, size: int | None) -> Network:
    """The network, where it can take images of this size."""
    step = network.divisor
    if size is not None and (size < step or size % step):
        below = max(size // step, 1) * step
        raise UserError(f"size {size} does not fit network '{name}': sides must be multiples of {step}, "
                        f"such as {below} or {below + step}")
    return network
