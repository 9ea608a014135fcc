"""The preset `light`: every method takes the pretrained network; each part starts where it should, and learns."""

import pytest
import torch

from benchmark.data.load import load_prepared
from benchmark.nets import weights
from benchmark.nets.network import Network
from benchmark.registry import METHODS
from benchmark.runs.request import Request, specify
from benchmark.training.setup import build_training

pytestmark = pytest.mark.slow
STEM = "inner.model.conv_stem.weight"
SIZE = 64
SMALL = {"data.size": SIZE, "train.steps": 2, "train.batch_labelled": 2, "train.batch_unlabelled": 2,
         "evaluate.times": 1}


def training(method: str, **more):
    """The method as the preset sets it, at a small size."""
    request = Request(method, "synthetic", preset="light", overrides=SMALL | more)
    spec, split, *_ = specify(request, "cpu")
    return build_training(spec, load_prepared("synthetic", SMALL["data.size"]), split, torch.device("cpu"))


def encoders(method: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The encoders in a method, by the place of their network."""
    return {name: net.encoder for name, net in method.named_modules()
            if isinstance(net, Network) and "encoder" in dict(net.named_children())}


@pytest.mark.parametrize("name", METHODS.names())
def test_every_network_starts_from_the_packaged_weights_and_its_encoder_learns(name):
    trained = training(name, **({"method.period": 1} if name == "ad_mt" else {}))  # its teachers learn in turns
    published = weights.state_dict("package", weights.PACKAGED_ENCODER)["conv_stem.weight"]
    found = encoders(trained.method)
    random = [place for place, encoder in found.items()
              if STEM not in dict(encoder.named_parameters())
              or not torch.equal(encoder.get_parameter(STEM).detach(), published)]
    assert found and random == (["transformer"] if name == "cross_teaching" else [])
    before = {place: {key: part.detach().clone() for key, part in encoder.named_parameters()}
              for place, encoder in found.items()}
    trained.method.train()
    for step, plan in enumerate(trained.plans(0, 2)):
        trained.enter_step(step)
        assert torch.isfinite(trained.step(plan)).all()
    for place, encoder in found.items():
        moved = [key for key, part in encoder.named_parameters() if not torch.equal(part.detach(), before[place][key])]
        assert STEM in moved or place in random, f"{place} did not learn"


def test_semimoe_shares_one_pretrained_encoder_where_asked():
    assert len(encoders(training("semimoe").method)) == 3
    shared = training("semimoe", **{"method.encoder": "shared"}).method
    assert list(encoders(shared)) == ["nets.seg"]
    maps = shared.features(torch.zeros(1, 3, SIZE, SIZE))
    assert {tuple(part.shape) for part in maps.values()} == {(1, 16, SIZE, SIZE)}
