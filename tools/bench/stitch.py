"""Four ways to put tiles together, scored on GlaS: plain and Gaussian means, of logits and of probabilities.

    python -m tools.bench.stitch [--data FOLDER] [--steps 300] [--overlap 96]
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from benchmark.data.dataset import boxes
from benchmark.data.images import resize
from benchmark.data.load import load_dataset
from benchmark.data.splits import load_split
from benchmark.losses import cross_entropy, dice_loss
from benchmark.nets import build
from benchmark.numerics import Normalisation, Normaliser, Numerics
from benchmark.paths import raw_folder
from benchmark.training.stitch import gaussian
from tools.command import at_least, run

SIZE, TILE = 64, 192


def main() -> None:
    """Train a small U-Net on tiles of the training images, and print the mean strict Dice of each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data")
    parser.add_argument("--steps", type=at_least(1), default=300)
    parser.add_argument("--overlap", type=int, default=96)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dataset, rng = load_dataset("glas"), np.random.default_rng(0)
    items = {item.id: item for item in dataset.items(dataset.find(raw_folder(arguments.data)))}
    split = load_split(dataset, "official", 100, 0)

    def tiles_of(name: str, overlap: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, list]:
        """Small tiles of an image and of its mask, the mask whole, and the boxes."""
        image, mask = dataset.read_image(items[name]), (dataset.read_mask(items[name]) > 0).astype(np.uint8)
        cut = boxes(mask.shape[0], mask.shape[1], TILE, overlap)
        parts = [[resize(whole[y : y + h, x : x + w], SIZE, how) for y, x, h, w in cut] for whole, how in
                 ((image, Image.Resampling.BILINEAR), (mask, Image.Resampling.NEAREST))]
        return np.stack(parts[0]), np.stack(parts[1]), mask, cut

    images, masks = (np.concatenate(part) for part in zip(*(tiles_of(n, 0)[:2] for n in split.labelled), strict=True))
    channels = Normalisation(tuple(images.mean((0, 1, 2)) / 255), tuple(images.std((0, 1, 2)) / 255))
    normalise, net = Normaliser(channels, Numerics(torch.device("cpu"))), build("unet_small", channels=3, classes=2)
    optimiser = torch.optim.AdamW(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, arguments.steps)
    for _ in range(arguments.steps):
        rows = rng.integers(0, len(images), 8)
        logits, target = net(normalise(images[rows])), torch.from_numpy(masks[rows]).long()
        loss = cross_entropy(logits, target) + dice_loss(logits, target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    net.eval()
    scores: dict[str, list[float]] = {}
    for name in split.test[::2]:
        small, _, truth, cut = tiles_of(name, arguments.overlap)
        with torch.inference_mode():
            logits = net(normalise(small))
        for way in ("mean logits", "mean probabilities", "Gaussian logits", "Gaussian probabilities"):
            found = put_together(logits, cut, truth.shape, way)
            scores.setdefault(way, []).append(2 * (found & truth).sum() / max(1, found.sum() + truth.sum()))
    for way, values in scores.items():
        print(f"{way:<24}{100 * np.mean(values):.2f}")


def put_together(logits: Tensor, cut: list, shape: tuple[int, int], way: str) -> np.ndarray:
    """Class indices [H, W]."""
    total = torch.zeros(2, *shape)
    for tile, (y, x, height, width) in zip(logits, cut, strict=True):
        value = functional.interpolate(tile[None], size=(height, width), mode="bilinear", align_corners=False)[0]
        value = value.softmax(0) if "probabilities" in way else value
        weight = gaussian(height, tile)[:, None] * gaussian(width, tile) if "Gaussian" in way else 1.0
        total[:, y : y + height, x : x + width] += weight * value
    return total.argmax(0).numpy().astype(np.uint8)


if __name__ == "__main__":
    run(main)
