"""Plans: the generator is the published one, steps are independent of blocks, epochs are permutations."""

import itertools

import numpy as np
import pytest

from benchmark.batches.augment import Augment
from benchmark.batches.plan import Planner, dihedral
from benchmark.config.schema import convert, fields_of
from benchmark.errors import UserError
from benchmark.randomness import uniform

VIEWS = ("weak", "strong", "strong2")
ALL = Augment(crop=0.5, grey=0.2)


def planner(
    seed: int = 0, stream: str = "labelled", images: int = 9, batch: int = 4, size: int = 96,
    augment: Augment = ALL, views: tuple[str, ...] = VIEWS,
) -> Planner:  # fmt: skip
    return Planner(seed, stream, range(100, 100 + images), batch, size, augment, views)


def test_words_are_philox_4x64_10() -> None:
    # the known answer of Random123 for key 0 and counter 0; NumPy counts up before it draws
    generator = np.random.Philox(key=0, counter=2**256 - 1)
    known = [0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B]
    assert generator.random_raw(4).tolist() == known


def test_golden_plan() -> None:
    """Plans are part of every record's meaning: a change here changes every run."""
    plan = planner(seed=7).block(1001, 1)
    assert plan["index"].tolist() == [[108, 106, 105, 100]]
    assert plan["code"].tolist() == [[1, 7, 3, 6]]
    assert plan["crop"].tolist() == [[[0.0, 0.0, 96.0], [12.0, 11.0, 84.0], [0.0, 0.0, 96.0], [0.0, 0.0, 96.0]]]
    assert plan["strong.mix"].tolist() == [[[3, 43, 70, 83], [0, 0, 0, 0], [6, 24, 71, 80], [0, 0, 0, 0]]]


def test_steps_do_not_depend_on_the_block() -> None:
    for images, batch in ((9, 4), (5, 4), (85, 8), (4, 4), (3, 5), (7, 1), (13, 6)):
        augment = ALL if batch > 1 else Augment(cutmix=0)
        draw = planner(images=images, batch=batch, augment=augment)
        whole = draw.block(0, 60)
        for first, count in ((0, 1), (17, 1), (5, 30), (59, 1), (40, 20)):
            part = draw.block(first, count)
            assert part.keys() == whole.keys()
            for name, values in part.items():
                np.testing.assert_array_equal(values, whole[name][first : first + count], err_msg=name)


@pytest.mark.parametrize(
    ("images", "batch"), [(9, 4), (5, 4), (17, 4), (85, 8), (4, 4), (6, 4), (11, 8), (13, 6), (7, 1)]
)
def test_epochs_are_permutations_and_batches_hold_no_image_twice(images: int, batch: int) -> None:
    steps = 40 * images // batch
    index = planner(images=images, batch=batch, augment=Augment(cutmix=0)).block(0, steps)["index"]
    slots = index.reshape(-1)
    for epoch in slots[: len(slots) // images * images].reshape(-1, images):
        assert sorted(epoch) == list(range(100, 100 + images))
    assert all(len(set(row)) == batch for row in index.tolist())
    assert len(set(map(tuple, index.tolist()))) > 1 or images == 1


def test_small_sets_repeat_and_never_mix_an_image_with_itself() -> None:
    plan = planner(images=3, batch=5, augment=Augment(cutmix=1.0)).block(0, 200)
    slots = plan["index"].reshape(-1)
    assert all(sorted(epoch) == [100, 101, 102] for epoch in slots[:999].reshape(-1, 3))
    same = plan["index"] == np.roll(plan["index"], -1, axis=1)
    off = (plan["strong.mix"] == 0).all(-1)
    assert same.any() and (off == same).all()


def test_uniform_numbers_are_the_top_53_bits_of_words() -> None:
    numbers = np.array([2**64 - 1, 0, 3 << 62, 2**11 - 1], dtype=np.uint64)
    assert uniform(numbers).tolist() == [1 - 2**-53, 0.0, 0.75, 0.0]


def test_permutations_are_uniform() -> None:
    index = planner(images=4, batch=4, augment=Augment(cutmix=0)).block(0, 4800)["index"]
    orders, counts = np.unique(index, axis=0, return_counts=True)
    assert len(orders) == 24
    # chi-square, 23 degrees of freedom
    assert 5 < ((counts - 200) ** 2 / 200).sum() < 60


def test_codes_and_switches_have_their_probabilities() -> None:
    plan = planner(images=50, batch=10, views=("weak", "strong"), augment=Augment(crop=0.3, grey=0.2)).block(0, 1000)
    counts = np.bincount(plan["code"].reshape(-1), minlength=8)
    assert 0 < ((counts - 1250) ** 2 / 1250).sum() < 30
    shares = {
        "crop": (plan["crop"][..., 2] < 96).mean(),
        "grey": plan["strong.colour"][..., 4].mean(),
        "jitter": (plan["strong.colour"][..., 0] != 1).mean(),
        "blur": (plan["strong.blur"] > 0).mean(),
        "cutmix": (plan["strong.mix"][..., 2] > 0).mean(),
    }
    expected = {"crop": 0.3, "grey": 0.2, "jitter": 0.8, "blur": 0.5, "cutmix": 0.5}
    assert shares == pytest.approx(expected, abs=0.025)


def test_values_lie_in_their_ranges() -> None:
    plan = planner(images=50, batch=10, augment=Augment(crop=0.5, cutmix=1.0, hue=0.2)).block(0, 500)
    y, x, side = np.moveaxis(plan["crop"], -1, 0)
    assert set(np.unique(side)) == {84, 96}
    assert (y >= 0).all() and (y + side <= 96).all() and (x + side <= 96).all() and y.max() == 12 == x.max()
    colour = plan["strong.colour"]
    assert colour[..., :3].min() >= 0.5 and colour[..., :3].max() <= 1.5 and abs(colour[..., 3]).max() <= 0.2
    sigma = plan["strong.blur"][plan["strong.blur"] > 0]
    assert sigma.min() >= 0.1 * 96 / 256 - 1e-6 and sigma.max() <= 2 * 96 / 256 + 1e-6
    y0, x0, y1, x1 = np.moveaxis(plan["strong.mix"], -1, 0)
    assert all(((low >= 0) & (low < high) & (high <= 96)).all() for low, high in ((y0, y1), (x0, x1)))
    area = (y1 - y0) * (x1 - x0) / 96**2
    assert area.min() > 0.015 and area.max() < 0.42 and 0.18 < area.mean() < 0.24
    ratio = (y1 - y0) / (x1 - x0)
    assert ratio.min() > 0.25 and ratio.max() < 4 and 0.4 < (ratio > 1).mean() < 0.6


def test_streams_seeds_views_and_fields_are_independent() -> None:
    base = planner(seed=1).block(0, 50)
    for other in (planner(seed=2), planner(seed=1, stream="unlabelled"), planner(seed=2**64 - 1), planner(seed=-5)):
        plan = other.block(0, 50)
        assert all((plan[name] != base[name]).any() for name in plan)
    assert (base["strong.mix"] != base["strong2.mix"]).any() and (base["strong.colour"] != base["strong2.colour"]).any()
    flips = base["code"] & 1, base["code"] >> 1 & 1, base["code"] >> 2
    for one, two in itertools.combinations(flips, 2):
        assert (one != two).any()


def test_an_option_never_shifts_another_field() -> None:
    """The point of keys by field: asking for more, or with other strengths, leaves the rest as it was."""
    full = planner().block(3, 20)
    lean = planner(augment=Augment(jitter=0, blur=0, cutmix=0), views=("weak",)).block(3, 20)
    assert lean.keys() == {"index", "code"}
    np.testing.assert_array_equal(full["index"], lean["index"])
    np.testing.assert_array_equal(full["code"], lean["code"])
    other = planner(augment=Augment(crop=0.5, grey=0.2, hue=0.1, cutmix=0), views=("weak", "strong")).block(3, 20)
    np.testing.assert_array_equal(full["strong.blur"], other["strong.blur"])
    np.testing.assert_array_equal(full["strong.colour"][..., :3], other["strong.colour"][..., :3])
    assert "strong.mix" not in other


def test_dihedral_codes_compose() -> None:
    picture = np.arange(9).reshape(3, 3)
    seen = set()
    for vertical, horizontal, transpose, turns in itertools.product((0, 1), (0, 1), (0, 1), range(4)):
        expected = picture[::-1] if vertical else picture
        expected = expected[:, ::-1] if horizontal else expected
        expected = np.rot90(expected.T if transpose else expected, turns)
        code = int(dihedral(*(np.array([v]) for v in (vertical, horizontal, transpose, turns)))[0])
        ours = picture[::-1] if code & 1 else picture
        ours = ours[:, ::-1] if code & 2 else ours
        np.testing.assert_array_equal(ours.T if code & 4 else ours, expected)
        seen.add(code)
    assert seen == set(range(8))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": 0}, "0 images"),
        ({"batch": 0}, "batches of 0"),
        ({"views": ("weak", "stong")}, "Did you mean 'strong'"),
        ({"images": 1}, "second image"),
        ({"batch": 1}, "second image"),
    ],
)
def test_what_cannot_be_planned_is_a_user_error(change: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        planner(**change)


@pytest.mark.parametrize(
    "change", [{"flip": 1.1}, {"hue": 0.6}, {"crop_scale": 0}, {"blur_sigma_min": 3.0}, {"jitter": float("nan")}]
)
def test_a_wrong_augment_is_a_user_error(change: dict) -> None:
    with pytest.raises(UserError, match=r"augment.*(must lie in|must be at least|must not be above|must be float)"):
        fields = fields_of(Augment)
        Augment(**{key: convert(fields[key].type, value, f"augment.{key}") for key, value in change.items()})
