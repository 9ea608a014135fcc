"""Rendering against NumPy, SciPy and torchvision: geometry, colour, blur, CutMix, and what a batch can do."""

import numpy as np
import pytest
import torch
import torchvision.transforms.functional as oracle
from scipy.ndimage import gaussian_filter
from torch import Tensor

from benchmark.batches.augment import Augment
from benchmark.batches.plan import Planner
from benchmark.batches.render import Renderer, step_of, to_device
from benchmark.batches.transforms import adjust, blur, luma, shift_hue, taps
from benchmark.numerics import Normalisation, Numerics
from benchmark.targets import TARGETS

IMAGES, SIZE, BATCH = 7, 24, 4
DEFAULT = Augment()
MEAN, STD = (0.6, 0.5, 0.7), (0.2, 0.25, 0.15)
NORMAL = Normalisation(MEAN, STD)
VIEWS = ("weak", "strong", "strong2")


def arrays() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (IMAGES, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
    smooth = gaussian_filter(np.random.default_rng(0).normal(size=(IMAGES, SIZE, SIZE)), (0, 2, 2))
    masks = torch.from_numpy((smooth > 0).astype(np.uint8))
    masks[2, 3:6, 10:20] = 255
    return images, masks


def renderer(
    labelled: bool = True, augment: Augment = DEFAULT, views: tuple[str, ...] = VIEWS, precision: str = "fp32",
    channels_last: bool = False,
) -> Renderer:
    images, masks = arrays()
    targets = {name: target(masks.long()) for name, target in TARGETS.items()}
    numerics = Numerics(images.device, precision, torch.channels_last if channels_last else torch.contiguous_format)
    return Renderer(images, masks if labelled else None, targets, views, augment, NORMAL, numerics)


def plan_of(
    augment: Augment = DEFAULT, step: int = 0, views: tuple[str, ...] = VIEWS, seed: int = 0
) -> dict[str, Tensor]:
    block = Planner(seed, "labelled", range(IMAGES), BATCH, SIZE, augment, views).block(0, step + 1)
    return step_of(to_device(block, "cpu"), step)


def normalised(images: Tensor) -> Tensor:
    return (images - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)


def moved(picture: np.ndarray, code: int) -> np.ndarray:
    """The dihedral codes in plain NumPy, rows and columns last."""
    picture = picture[..., ::-1, :] if code & 1 else picture
    picture = picture[..., ::-1] if code & 2 else picture
    return np.swapaxes(picture, -1, -2) if code & 4 else picture


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_weak_view_is_the_stored_image_moved(channels_last: bool) -> None:
    images, masks = arrays()
    for code in range(8):
        plan = {"index": torch.tensor([3, 0, 2, 6]), "code": torch.tensor([code, (code + 1) % 8, 0, (code + 5) % 8])}
        batch = renderer(views=("weak",), channels_last=channels_last)(plan)
        assert batch.weak.is_contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
        for slot, (index, turn) in enumerate(zip(plan["index"].tolist(), plan["code"].tolist(), strict=True)):
            image = torch.from_numpy(moved(images[index].numpy(), turn).copy()) / 255
            torch.testing.assert_close(batch.weak[slot], normalised(image), atol=2e-6, rtol=0)
            np.testing.assert_array_equal(batch.mask[slot], moved(masks[index].numpy(), turn))


def test_targets_are_those_of_the_rendered_mask_exactly() -> None:
    for augment in (Augment(), Augment(crop=0.6)):
        for step in range(6):
            batch = renderer(augment=augment)(plan_of(augment, step))
            assert batch.mask.dtype == batch.boundary.dtype == torch.int64 and batch.sdf.dtype == torch.float32
            for name, target in TARGETS.items():
                assert torch.equal(getattr(batch, name), target(batch.mask)), name


def test_a_crop_is_cut_and_resized() -> None:
    images, masks = arrays()
    crop = torch.tensor([[2.0, 3, 18], [0, 0, SIZE]])
    plan = {"index": torch.tensor([1, 2]), "code": torch.tensor([6, 3]), "crop": crop}
    batch = renderer(augment=Augment(crop=1.0), views=("weak",))(plan)
    cut = torch.from_numpy(moved(images[1].numpy(), 6)[:, 2:20, 3:21].copy())[None] / 255
    resized = torch.nn.functional.interpolate(cut, size=(SIZE, SIZE), mode="bilinear", align_corners=False)
    torch.testing.assert_close(batch.weak[0], normalised(resized[0]), atol=1e-5, rtol=0)
    label = torch.from_numpy(moved(masks[1].numpy(), 6)[2:20, 3:21].copy())[None, None].float()
    nearest = torch.nn.functional.interpolate(label, size=(SIZE, SIZE), mode="nearest-exact")
    assert torch.equal(batch.mask[0], nearest[0, 0].long())
    # the slot whose crop is off is left alone, to the last bit
    off = renderer(views=("weak",))({"index": plan["index"], "code": plan["code"]})
    assert torch.equal(batch.weak[1], off.weak[1]) and torch.equal(batch.mask[1], off.mask[1])


@pytest.mark.parametrize("crop", [0.0, 1.0])
def test_restore_undoes_apply(crop: float) -> None:
    augment = Augment(crop=crop, crop_scale=0.7)
    for step in range(4):
        batch = renderer(augment=augment)(plan_of(augment, step))
        whole = torch.randint(0, 9, (BATCH, 2, SIZE, SIZE), generator=torch.Generator().manual_seed(step))
        ramp = (torch.arange(SIZE)[:, None] + 2.0 * torch.arange(SIZE)).expand(BATCH, 1, SIZE, SIZE)
        back, real = batch.restore(batch.apply(whole), fill=-1), batch.restore(batch.apply(ramp), fill=-1)
        seen = back != -1
        assert torch.equal(seen[:, :1], real != -1)
        assert torch.equal(back[seen], whole[seen])
        if crop:
            assert (seen.flatten(1).sum(1) == 2 * 17 * 17).all()
            # a ramp survives interpolation twice, but for the edges, which repeat
            off = (real - ramp).abs()[seen[:, :1]]
            assert off.median() < 1e-4 and off.max() < 2
        else:
            assert seen.all() and torch.equal(real, ramp)


def test_apply_moves_what_a_method_keeps_like_the_batch() -> None:
    images, masks = arrays()
    augment = Augment(crop=0.5)
    for step in range(4):
        batch = renderer(augment=augment)(plan_of(augment, step))
        assert torch.equal(batch.apply(masks[batch.index]).long(), batch.mask)
        torch.testing.assert_close(normalised(batch.apply(images[batch.index] / 255)), batch.weak, atol=1e-5, rtol=0)


def test_colour_is_torchvisions() -> None:
    images = arrays()[0][:4] / 255
    images[3] = 0.4  # grey: no hue
    colour = torch.tensor(
        [[1.4, 0.6, 1.5, 0.2, 0], [0.5, 1.5, 0.5, -0.25, 0], [1, 1, 1, 0, 1], [1.2, 0.7, 1.3, 0.1, 0]],
        dtype=torch.float32,
    )
    ours = adjust(images, colour)
    for image, (brightness, contrast, saturation, hue, grey), result in zip(images, colour.tolist(), ours, strict=True):
        expected = oracle.adjust_brightness(image, brightness)
        expected = oracle.adjust_contrast(expected, contrast)
        expected = oracle.adjust_saturation(expected, saturation)
        expected = oracle.adjust_hue(expected, hue)
        expected = oracle.rgb_to_grayscale(expected, 3) if grey else expected
        torch.testing.assert_close(result, expected, atol=1e-5, rtol=0)
    assert ours.min() >= 0 and ours.max() <= 1


def test_colour_that_is_off_changes_nothing() -> None:
    images = arrays()[0] / 255
    before = images.clone()
    off = torch.tensor([1.0, 1, 1, 0, 0]).expand(IMAGES, 5)
    torch.testing.assert_close(adjust(images, off), images, atol=1e-6, rtol=0)
    assert torch.equal(images, before)
    torch.testing.assert_close(luma(images), oracle.rgb_to_grayscale(images), atol=1e-6, rtol=0)
    # a whole turn of the colour circle in thirds moves red to green to blue
    red = torch.tensor([0.9, 0.1, 0.1]).view(1, 3, 1, 1)
    third = torch.full((1, 1, 1, 1), 1 / 3)
    torch.testing.assert_close(shift_hue(red, third).flatten(), torch.tensor([0.1, 0.9, 0.1]))
    torch.testing.assert_close(shift_hue(red, -third).flatten(), torch.tensor([0.1, 0.1, 0.9]))


def test_blur_is_a_gaussian_with_mirrored_edges() -> None:
    images = arrays()[0][:4] / 255
    sigma, radius = torch.tensor([0.0, 0.3, 0.8, 1.5]), 5
    ours = blur(images, sigma, taps(SIZE, radius))
    assert torch.equal(ours[0], images[0])
    for image, width, result in zip(images[1:].numpy(), sigma[1:].tolist(), ours[1:].numpy(), strict=True):
        expected = gaussian_filter(image, (0, width, width), mode="mirror", radius=(0, radius, radius))
        np.testing.assert_allclose(result, expected, atol=2e-6)
    theirs = oracle.gaussian_blur(images[3], [2 * radius + 1] * 2, [1.5, 1.5])
    torch.testing.assert_close(ours[3], theirs, atol=2e-6, rtol=0)


def test_strong_views_are_colour_then_blur_then_cutmix_on_the_weak_geometry() -> None:
    augment = Augment(crop=0.5, grey=0.3, cutmix=1.0)
    plan = plan_of(augment)
    batch = renderer(augment=augment)(plan)
    weak = batch.weak * torch.tensor(STD).view(3, 1, 1) + torch.tensor(MEAN).view(3, 1, 1)
    for view in ("strong", "strong2"):
        each = [
            blur(adjust(image[None], colour[None]), sigma[None], taps(SIZE, augment.blur_radius(SIZE)))[0]
            for image, colour, sigma in zip(weak, plan[f"{view}.colour"], plan[f"{view}.blur"], strict=True)
        ]
        for slot, (y0, x0, y1, x1) in enumerate(plan[f"{view}.mix"].tolist()):
            expected = each[slot].clone()
            expected[:, y0:y1, x0:x1] = each[(slot + 1) % BATCH][:, y0:y1, x0:x1]
            torch.testing.assert_close(getattr(batch, view)[slot], normalised(expected), atol=2e-5, rtol=0)
    assert not torch.equal(batch.strong, batch.strong2)


def test_mix_pastes_the_same_rectangle_into_anything() -> None:
    augment = Augment(jitter=0, blur=0, cutmix=1.0)
    plan = plan_of(augment)
    batch = renderer(augment=augment)(plan)
    assert torch.equal(batch.cutmix("strong", batch.weak), batch.strong)
    labels = torch.arange(BATCH).view(BATCH, 1, 1).expand(BATCH, SIZE, SIZE)
    for view in ("strong", "strong2"):
        mixed = batch.cutmix(view, labels)
        for slot, (y0, x0, y1, x1) in enumerate(plan[f"{view}.mix"].tolist()):
            assert plan["index"][slot] != plan["index"][(slot + 1) % BATCH]
            expected = np.full((SIZE, SIZE), slot)
            expected[y0:y1, x0:x1] = (slot + 1) % BATCH
            np.testing.assert_array_equal(mixed[slot], expected)
    probabilities = torch.rand(BATCH, 5, 2, SIZE, SIZE)
    assert torch.equal(batch.cutmix("strong", probabilities)[:, 1, 0], batch.cutmix("strong", probabilities[:, 1, 0]))
    assert batch.cutmix("weak", labels) is labels


def test_rendering_stays_exact_under_autocast_and_comes_in_float64() -> None:
    augment = Augment(crop=0.5)
    plain = renderer(augment=augment)(plan_of(augment))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(renderer(augment=augment)(plan_of(augment)).strong, plain.strong)
    double = renderer(augment=augment, precision="fp64")(plan_of(augment))
    assert double.weak.dtype == double.sdf.dtype == torch.float64 and torch.equal(double.weak.float(), plain.weak)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_captured_graph_renders_what_the_cpu_renders() -> None:
    augment = Augment(crop=0.5, grey=0.2)
    images, masks = (values.cuda() for values in arrays())
    targets = {name: target(masks.long()) for name, target in TARGETS.items()}
    render = Renderer(images, masks, targets, VIEWS, augment, NORMAL, Numerics(images.device))
    slots = {name: values.cuda() for name, values in plan_of(augment, 0).items()}
    render(slots)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        batch = render(slots)
    for step in range(3):
        plan = plan_of(augment, step)
        for name, values in plan.items():
            slots[name].copy_(values)
        graph.replay()
        expected = renderer(augment=augment)(plan)
        assert torch.equal(batch.mask.cpu(), expected.mask) and torch.equal(batch.boundary.cpu(), expected.boundary)
        torch.testing.assert_close(batch.sdf.cpu(), expected.sdf, atol=1e-6, rtol=0)
        for name in VIEWS:
            # TF32, where it is on, moves a pixel by less than a quarter of a grey level
            torch.testing.assert_close(getattr(batch, name).cpu(), getattr(expected, name), atol=1e-2, rtol=0)
