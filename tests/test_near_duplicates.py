"""Near-duplicates: copies are found in every position and however they were saved, tissue that is alike is not."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter
from scipy.fft import idctn

from benchmark.data.load import load_prepared
from benchmark.data.near_duplicates import POSITIONS, near_duplicates

COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG": lambda image: _jpeg(image, 20),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(2)),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.7),
    "a little turned": lambda image: image.rotate(1, Image.Resampling.BICUBIC, fillcolor=(220, 180, 220)),
}
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "": lambda image: image, "mirrored left to right": np.fliplr, "mirrored top to bottom": np.flipud,
    "turned by 90 degrees": lambda image: np.rot90(image, -1),
    "turned by 180 degrees": lambda image: np.rot90(image, 2), "turned by 270 degrees": np.rot90,
    "mirrored on the diagonal": lambda image: image.swapaxes(0, 1),
    "mirrored on the other diagonal": lambda image: np.rot90(image, 2).swapaxes(0, 1),
}


def _jpeg(image: Image.Image, quality: int) -> Image.Image:
    stream = BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(stream)


@pytest.fixture(scope="module")
def tissue() -> np.ndarray:
    """uint8 [84, 96, 96, 3]: generated, no two images of one place."""
    return np.array(load_prepared("synthetic", 96).images)


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_of_each_image_is_found_and_nothing_else(tissue: np.ndarray, kind: str) -> None:
    copies = np.stack([np.asarray(COPIES[kind](Image.fromarray(image)).convert("RGB")) for image in tissue])
    found = near_duplicates(np.concatenate([tissue, copies] * 2))  # more than one block of comparisons
    pairs = {(first, second) for first, second, *_ in found}
    assert pairs == {(one, other) for one in range(336) for other in range(one + 1, 336) if (other - one) % 84 == 0}
    assert {position for _, _, position, _ in found} == {""}


@pytest.mark.parametrize("position", TURNS)
def test_a_turned_copy_is_found_and_its_position_told(tissue: np.ndarray, position: str) -> None:
    assert set(TURNS) == set(POSITIONS.values())
    found = near_duplicates(np.stack([tissue[5], tissue[9], TURNS[position](tissue[5])]))
    assert [pair[:3] for pair in found] == [(0, 2, position)] and found[0][3] > 0.99


def test_smooth_images_agree_in_what_is_coarse_and_are_not_alike() -> None:
    """One illumination, other details: nearly the pixels agree, too."""
    random = np.random.Generator(np.random.PCG64(0))
    waves = np.zeros((96, 96))
    waves[:8, :8] = 300 * random.choice([-1, 1], (8, 8))
    light = 128 + idctn(waves, norm="ortho")
    images = np.clip(light + random.normal(0, 12, (2, 96, 96)), 0, 255).astype(np.uint8)
    images = np.repeat(images[..., None], 3, -1)
    first, second = images[..., 0].astype(float)
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.7, "what a plain correlation would say"
    assert near_duplicates(images) == []
    assert len(near_duplicates(np.stack([images[0], np.asarray(_jpeg(Image.fromarray(images[0]), 90))]))) == 1


def test_empty_slides_are_passed_over() -> None:
    assert near_duplicates(np.full((50, 32, 32, 3), 240, np.uint8)) == []
    assert near_duplicates(np.zeros((0, 32, 32, 3), np.uint8)) == []
