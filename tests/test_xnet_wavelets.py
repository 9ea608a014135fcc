"""The wavelet split of XNet: PyWavelets' coefficients, and two images that see one half of the frequencies each."""

import numpy as np
import pytest
import pywt
import torch

from methods._xnet_parts import dwt2, high_frequency, low_frequency

MEAN, STD = (0.7, 0.5, 0.6), (0.1, 0.2, 0.3)


def plain(size: int = 32, count: int = 2) -> torch.Tensor:
    """Images in [0, 1] that are not normalised."""
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def normalised(image: torch.Tensor) -> torch.Tensor:
    return (image - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def high(image: torch.Tensor, wavelet: str = "db2") -> torch.Tensor:
    return high_frequency(normalised(image), wavelet, MEAN, STD)


def enlarged(band: np.ndarray) -> np.ndarray:
    """A band of 8 x 8 at 16 x 16, bilinear between pixels' centres, standardised."""
    place = np.clip((np.arange(16) - 0.5) / 2, 0, 7)
    columns = np.stack([np.interp(place, np.arange(8), line) for line in band])
    large = np.stack([np.interp(place, np.arange(8), line) for line in columns.T]).T
    return (large - large.mean()) / large.std()


@pytest.mark.parametrize("shape", [(32, 32), (17, 20), (6, 4)])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior1.5", "dmey"])
def test_coefficients_are_those_of_pywavelets(wavelet, shape):
    image = np.random.default_rng(0).normal(size=(2, *shape))
    smooth, details = pywt.dwt2(image, wavelet, mode="symmetric")
    for found, expected in zip(dwt2(torch.from_numpy(image), wavelet), (smooth, *details), strict=True):
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_low_frequency_image_is_the_standardised_ll_band_of_every_colour():
    image = plain(16)
    found = low_frequency(normalised(image), "haar").numpy()
    for row in range(2):
        for channel in range(3):
            band, _ = pywt.dwt2(image[row, channel].double().numpy(), "haar")
            np.testing.assert_allclose(found[row, channel], enlarged(band), atol=1e-4)


def test_high_frequency_image_is_the_sum_of_the_stretched_details_of_the_grey_image():
    image = plain(16)
    found = high(image, "haar").numpy()
    for row in range(2):
        grey = np.tensordot([0.299, 0.587, 0.114], image[row].double().numpy(), 1)
        total = sum((band - band.min()) / np.ptp(band) for band in pywt.dwt2(grey, "haar")[1])
        np.testing.assert_allclose(found[row, 0], enlarged(total), atol=1e-3)


@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_a_constant_image_gives_zeros(value):
    image = torch.full((1, 3, 32, 32), value) + 1e-7 * torch.randn(1, 3, 32, 32)  # as interpolation leaves it
    assert low_frequency(normalised(image), "db2").abs().max() < 0.1
    assert high(image).abs().max() < 0.1
    exact = torch.full((1, 3, 32, 32), value)
    assert high(exact).abs().max() == 0


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior1.5"])
def test_a_fine_checkerboard_is_invisible_to_low_and_visible_to_high(wavelet):
    place = torch.arange(64)
    smooth = torch.sin(place / 10).expand(1, 3, 64, 64) / 4 + 0.5
    board = torch.zeros(64, 64)
    board[20:44, 20:44] = 0.1 * (-1.0) ** (place[:24, None] + place[:24])
    inner = slice(30, 34)  # away from the patch's edge, by more than the longest filter
    without, found = (low_frequency(normalised(image), wavelet) for image in (smooth, smooth + board))
    assert (without - found)[..., inner, inner].abs().max() < 1e-3 * without.abs().max()
    without, found = high(smooth, wavelet), high(smooth + board, wavelet)
    assert (found - without)[..., inner, inner].abs().mean() > 0.5


@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior1.5", "db8", "dmey"])
def test_what_is_seen_lies_where_it_is_in_the_image(wavelet):
    """Coefficients of the mirrored border are left out, not squeezed in with the rest."""
    place = torch.arange(96.0)
    for centre in (20.0, 48.0, 75.0):
        bump = torch.exp(-((place[:, None] - centre) ** 2 + (place - 48) ** 2) / 18)
        image = 0.5 + 0.3 * bump.expand(1, 3, 96, 96)
        lit = low_frequency(normalised(image), wavelet)[0, 0].clamp(min=0).square()
        assert (lit.sum(1) * place).sum() / lit.sum() == pytest.approx(centre, abs=1)
    for edge in (21, 49, 75):  # odd: the pairs of haar straddle it
        step = torch.full((1, 3, 96, 96), 0.3)
        step[:, :, edge:] = 0.8
        seen = high(step, wavelet)[0, 0]
        brightest = (seen - seen.median()).square().sum(1).argmax()
        assert brightest.item() == pytest.approx(edge - 0.5, abs=2)


def test_a_split_has_no_gradient():
    image = normalised(plain()).requires_grad_()
    assert not low_frequency(image, "db2").requires_grad
    assert not high_frequency(image, "db2", MEAN, STD).requires_grad
