"""The networks a run may name. Free of PyTorch, so that help and lists answer at once."""

from __future__ import annotations

NAMES: dict[str, str] = {
    "unet": "U-Net, 64 to 1024 channels: 34,527,106 parameters for 3 channels and 2 classes",
    "unet_small": "U-Net, 16 to 256 channels, 1x1 up-convolutions: 1,813,986 parameters, for CPUs",
    "xnet_sb": "residual U-Net (one branch of Zhou et al. 2023), 64 to 1024 channels: 135,816,194 parameters",
    "swin_unet": "Swin U-Net, a transformer, 96 to 768 channels: 41,380,164 parameters for 3 channels and 2 classes",
    "swin_unet_small": "Swin U-Net, 24 to 192 channels, windows of 4: 1,711,772 parameters, for CPUs",
    "unet_lite": "U-Net on EfficientNet-Lite0, decoder of 64 to 16 channels: 3,362,498 parameters; takes net.weights",
    "unet_lite_half": "the same, its decoder ended at half the side and its logits enlarged: 3,356,434 parameters",
    "smp/<arch>-<encoder>": "any of segmentation_models_pytorch, e.g. smp/unet-resnet34; timm's as tu-NAME",
}
