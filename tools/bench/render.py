"""Images a second on one core: our rendering beside loaders in the published style, measured side by side.

    python -m tools.bench.render [--size 96] [--batch 8] [--seconds 1.5] [--data FOLDER]

`published_style` is what the published code does for every sample: read the image and its mask from disk,
resize, flip and turn, compute the boundary and the signed distance, normalise. `per_sample` does the same
from images that are already resized and in memory. All variants take turns, and each is given its best round,
since other work on the machine only ever slows one down. Without --data (a folder with `<id>` and `<id>_anno`
images) 16 noise pictures of 775 x 522 pixels are written to a temporary folder.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import binary_dilation, distance_transform_edt, gaussian_filter
from skimage.morphology import disk
from skimage.segmentation import find_boundaries

from benchmark.batches.augment import Augment
from benchmark.batches.plan import Planner
from benchmark.batches.render import Renderer, step_of, to_device
from benchmark.cli.common_args import seconds
from benchmark.errors import UserError
from benchmark.numerics import Normalisation, Numerics
from benchmark.targets import TARGETS
from tools.command import at_least, run

MEAN, STD = np.array([0.75, 0.5, 0.7], np.float32), np.array([0.15, 0.2, 0.15], np.float32)
PUBLISHED = (44, 81)  # images a second and worker, as reported for two published loaders
STEPS = 50


def write_pictures(folder: Path, count: int = 16) -> None:
    """Blobs of noise, as hard to decode as tissue: a smooth colour field, fine noise, a mask of objects."""
    rng = np.random.default_rng(0)
    for number in range(count):
        field = gaussian_filter(rng.normal(size=(522, 775)), 20)
        colour = 150 + 1500 * field[..., None] * rng.uniform(0.5, 1, 3) + rng.normal(0, 12, (522, 775, 3))
        Image.fromarray(colour.clip(0, 255).astype(np.uint8)).save(folder / f"train_{number}.png")
        Image.fromarray((field > 0).astype(np.uint8)).save(folder / f"train_{number}_anno.png")


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    found = sorted(folder.glob("*_anno.*"))
    return [(path.with_name(path.name.replace("_anno", "")), path) for path in found]


def read(paths: tuple[Path, Path], size: int) -> tuple[np.ndarray, np.ndarray]:
    image, mask = (Image.open(path) for path in paths)
    resized = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
    labels = np.asarray(mask.resize((size, size), Image.Resampling.NEAREST)) > 0
    return np.asarray(resized), labels.astype(np.uint8)


def sample(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
    """Augment one sample and compute its targets, one after the other, as the published loaders do."""
    if rng.random() < 0.75:
        axis = int(rng.integers(2))
        image, mask = np.flip(image, axis), np.flip(mask, axis)
    if rng.random() < 0.5:
        image, mask = image.transpose(1, 0, 2), mask.T
    turns = int(rng.integers(4))
    image, mask = np.rot90(image, turns), np.rot90(mask, turns)
    ring = binary_dilation(mask, disk(2)).astype(np.int64) - mask
    inside, outside = distance_transform_edt(mask), distance_transform_edt(1 - mask)
    distance = inside / max(inside.max(), 1) - outside / max(outside.max(), 1)
    distance[find_boundaries(mask, mode="inner")] = 0
    normal = (image.astype(np.float32) / 255 - MEAN) / STD
    arrays = (normal.transpose(2, 0, 1), mask.astype(np.int64), ring, distance[None].astype(np.float32))
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def per_sample(load: Callable[[int], tuple[np.ndarray, np.ndarray]], count: int, batch: int) -> Iterator[int]:
    rng = np.random.default_rng(0)
    while True:
        samples = [sample(*load(int(index)), rng) for index in rng.permutation(count)[:batch]]
        [torch.stack(part) for part in zip(*samples, strict=True)]
        yield len(samples)


def ours(
    images: torch.Tensor, masks: torch.Tensor, batch: int, augment: Augment, views: tuple[str, ...]
) -> Iterator[int]:
    """Planning included, with blocks of plans as long as training takes them."""
    size = masks.shape[-1]
    targets = {name: target(masks) for name, target in TARGETS.items()}
    planner = Planner(0, "labelled", range(len(images)), batch, size, augment, views)
    normalisation = Normalisation(tuple(MEAN.tolist()), tuple(STD.tolist()))
    numerics = Numerics(images.device, memory_format=torch.channels_last)
    render = Renderer(images, masks, targets, views, augment, normalisation, numerics)
    for first in range(0, 10**9, STEPS):
        block = to_device(planner.block(first, STEPS), "cpu")
        for step in range(STEPS):
            render(step_of(block, step))
            yield batch


def race(variants: dict[str, Iterator[int]], seconds: float, rounds: int = 5) -> dict[str, float]:
    """Images a second of each: the best of `rounds`, in which all take turns."""
    best = dict.fromkeys(variants, 0.0)
    for variant in variants.values():
        next(variant)
    for _ in range(rounds):
        for name, variant in variants.items():
            images, begin = 0, time.perf_counter()
            while (passed := time.perf_counter() - begin) < seconds / rounds or not images:
                images += next(variant)
            best[name] = max(best[name], images / passed)
    return best


def measure(folder: Path, size: int, batch: int, seconds: float) -> dict[str, object]:
    files = pairs(folder)
    if not files:
        raise UserError(f"{folder}: no images called NAME.* and NAME_anno.*")
    loaded = [read(pair, size) for pair in files]
    images = torch.from_numpy(np.stack([image for image, _ in loaded])).permute(0, 3, 1, 2).contiguous()
    masks = torch.from_numpy(np.stack([mask for _, mask in loaded]))
    weak, strong = ("weak",), ("weak", "strong")
    rates = race(
        {
            "flips_and_turns": ours(images, masks, batch, Augment(), weak),
            "with_crops": ours(images, masks, batch, Augment(crop=0.5), weak),
            "with_strong_view": ours(images, masks, batch, Augment(), strong),
            "published_style": per_sample(lambda index: read(files[index], size), len(files), batch),
            "per_sample": per_sample(lambda index: loaded[index], len(files), batch),
        },
        seconds,
    )
    loaders = ("published_style", "per_sample")
    ratios = {
        f"{ours}_over": {name: round(rates[ours] / rates[name], 1) for name in loaders}
        for ours in rates
        if ours not in loaders
    }
    return {
        "size": size, "batch": batch, "images": len(files), "threads": 1,
        "images_per_second": {name: round(rate, 1) for name, rate in rates.items()},
        **ratios, "published_reports": PUBLISHED,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=at_least(1), default=96, help="side in pixels")
    parser.add_argument("--batch", type=at_least(1), default=8)
    parser.add_argument("--seconds", type=seconds, default=1.5, help="for each variant")
    parser.add_argument("--data", type=Path, help="a folder with GlaS-like files")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.data or Path(temporary)
        if arguments.data is None:
            write_pictures(folder)
        print(json.dumps(measure(folder, arguments.size, arguments.batch, arguments.seconds), indent=1))


if __name__ == "__main__":
    run(main)
