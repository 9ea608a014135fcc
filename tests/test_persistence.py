"""Components of foreground maps, their matching, and the loss that compares two maps by them."""

from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from methods._persistence import diagram, matching, topological_terms


def flooded(image):
    """A second implementation: pixels enter from the highest on and join 4-neighbours; no two may be equal.

    {(birth pixel, death pixel)}, -1 for the one that never dies.
    """
    group_of, pairs = {}, set()
    for place in np.argsort(-image.ravel()).tolist():
        y, x = divmod(place, image.shape[1])
        near = [(y + dy) * image.shape[1] + x + dx for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
                if 0 <= y + dy < image.shape[0] and 0 <= x + dx < image.shape[1]]
        groups = {id(group_of[n]): group_of[n] for n in near if n in group_of}
        by_age = sorted(groups.values(), key=lambda group: -image.ravel()[group[0]])  # a group's first is its birth
        oldest = by_age[0] if by_age else []
        oldest.append(place)
        group_of[place] = oldest
        for group in by_age[1:]:
            pairs.add((group[0], place))
            oldest.extend(group)
            group_of.update(dict.fromkeys(group, oldest))
    return pairs | {(int(image.argmax()), -1)}


def bumps(*peaks, floor=0.05):
    """Single pixels of given heights in a row, three apart, on a flat floor."""
    image = np.full((9, 15), floor, dtype=np.float32)
    image[4, 2 : 2 + 3 * len(peaks) : 3] = peaks
    return image


def loss(student, teacher, **more):
    """Both terms of one map together, and their gradient."""
    leaf = torch.from_numpy(np.array(student))[None].requires_grad_()
    value = sum(topological_terms(leaf, torch.from_numpy(np.array(teacher))[None], **more))
    value.backward()
    return value.item(), leaf.grad[0].numpy()


@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (1, 7), (7, 1), (1, 1), (13, 11)])
def test_births_and_deaths_are_those_of_flooding_by_four_neighbours_and_lie_where_they_should(shape):
    generator = np.random.default_rng(3)
    for _ in range(10):
        image = generator.permutation(shape[0] * shape[1]).reshape(shape) / 200 + 0.01
        found = diagram(image)
        assert {tuple(pair) for pair in found.pixels.tolist()} == flooded(image)
        flat = np.append(image.ravel(), 0.0)  # place -1: P = 0
        assert np.array_equal(found.points, flat[found.pixels])
        assert (found.persistence > 0).all()


@pytest.mark.parametrize("levels", [3, 10])
def test_with_equal_pixels_births_and_deaths_are_those_of_slightly_different_ones(levels):
    """Adding less than any difference of two levels, falling in row-major order, breaks ties and moves no value far."""
    generator = np.random.default_rng(levels)
    for shape in ((1, 9), (12, 7), (20, 31)):
        image = np.ceil(generator.random(shape) * levels) / levels
        split = image - 1e-6 * np.arange(image.size).reshape(shape) / image.size
        flat = np.append(split.ravel(), 0.0)
        expected = [(flat[birth], flat[death]) for birth, death in flooded(split)]
        expected = sorted(tuple(np.round(pair, 3)) for pair in expected if pair[0] - pair[1] > 1e-3)
        for laid_out in (image, np.asfortranarray(image)):
            assert sorted(tuple(np.round(pair, 3)) for pair in diagram(laid_out).points) == expected


def test_a_constant_map_has_one_component_that_never_dies():
    for value in (0.0, 0.3, 1.0):
        assert diagram(np.full((4, 5), value)).points.tolist() == [[value, 0.0]]


def distance(first, second, rows, columns):
    """Squared 2-Wasserstein cost of a set of pairs, the others going to the diagonal's nearest point."""
    def alone(points, taken):
        return sum(sum((v - (a + b) / 2) ** 2 for v in (a, b)) for i, (a, b) in enumerate(points) if i not in taken)

    pairs = sum(((first[i] - second[j]) ** 2).sum() for i, j in zip(rows, columns, strict=True))
    return pairs + alone(first, set(rows)) + alone(second, set(columns))


@pytest.mark.parametrize("sizes", [(3, 3), (4, 2), (2, 4), (0, 3), (3, 0), (0, 0)])
def test_matching_is_the_cheapest_of_all(sizes):
    generator = np.random.default_rng(sum(sizes))
    for _ in range(5):
        first, second = (np.sort(generator.random((n, 2)))[:, ::-1] for n in sizes)
        every = [
            distance(first, second, rows, columns) for k in range(min(sizes) + 1)
            for rows in combinations(range(sizes[0]), k) for columns in permutations(range(sizes[1]), k)
        ]
        rows, columns = matching(first, second)
        assert distance(first, second, rows.tolist(), columns.tolist()) == pytest.approx(min(every), abs=1e-12)


@pytest.mark.parametrize("signal", [0.0, 0.3, 0.7, 1.0])
def test_the_signal_term_is_0_for_equal_maps_whatever_they_hold(signal):
    rough = torch.rand(2, 12, 12, generator=torch.Generator().manual_seed(0), requires_grad=True)
    topology, noise = topological_terms(rough, rough.detach().clone(), signal=signal)
    (gradient,) = torch.autograd.grad(topology, rough)
    assert topology.item() == 0 and not gradient.any()
    assert (noise.item() > 0) == (signal > 0)  # with 0 every component is signal


def test_noise_costs_twice_its_squared_persistence():
    image = bumps(0.95, 0.5, 0.3)
    noise = (0.5 - 0.05) ** 2 + (0.3 - 0.05) ** 2
    assert loss(image, image)[0] == pytest.approx(2 * noise, rel=1e-5)
    assert loss(bumps(0.6), bumps(0.6))[0] == pytest.approx(0.6**2, rel=1e-5)  # never dies: no pixel to pull at death


def test_matched_components_move_to_the_teacher_s_births_and_deaths():
    student, teacher = bumps(0.95, 0.80), bumps(0.97, 0.90, floor=0.02)
    value, gradient = loss(student, teacher)
    expected = (0.95 - 0.97) ** 2 + (0.80 - 0.90) ** 2 + (0.05 - 0.02) ** 2  # the first never dies
    assert value == pytest.approx(expected, rel=1e-4)
    place, step = (4, 5), 1e-3
    raised = student.copy()
    raised[place] += step
    assert gradient[place] == pytest.approx((loss(raised, teacher)[0] - value) / step - step, rel=2e-2)
    assert gradient[4, 2] < 0 and gradient[place] < 0  # peaks rise
    assert gradient.max() == pytest.approx(2 * (0.05 - 0.02), rel=1e-4) and (gradient != 0).sum() == 3  # the pass falls


def test_a_component_that_the_teacher_lacks_is_levelled():
    student, teacher = bumps(0.95, 0.85), bumps(0.95)
    value, gradient = loss(student, teacher)
    assert value == pytest.approx(2 * (0.85 - 0.05) ** 2, rel=1e-5)
    assert gradient[4, 5] == pytest.approx(2 * 0.8, rel=1e-5)  # the peak falls
    assert gradient.min() == pytest.approx(-2 * 0.8, rel=1e-5) and (gradient != 0).sum() == 2  # the pass rises
    moved = student - 0.1 * gradient
    assert loss(moved, teacher)[0] < value
    assert sorted(diagram(moved).persistence)[-2] < 0.8 - 0.15


def test_a_component_too_faint_to_be_signal_fades_even_where_the_teacher_has_it():
    _, gradient = loss(bumps(0.95, 0.5), bumps(0.95, 0.9))
    assert gradient[4, 5] > 0
    _, gradient = loss(bumps(0.95, 0.78), bumps(0.95, 0.9))
    assert gradient[4, 5] < 0


def test_released_targets_are_not_zero_for_equal_maps_and_pull_peaks_down():
    image = bumps(0.95, 0.95)
    value, gradient = loss(image, image, released=True)
    # births 0.95 against 0.05, twice, and the death 0.05 against 0.95
    assert value == pytest.approx(3 * 0.9**2, rel=1e-5)
    assert gradient[4, 2] == gradient[4, 5] == pytest.approx(2 * 0.9, rel=1e-5)
    assert loss(image, image)[0] == 0


def test_released_targets_leave_the_pull_to_the_diagonal_as_it_is():
    student, teacher = bumps(0.6, 0.3), bumps(0.95, 0.9)  # all noise: nothing is matched
    assert loss(student, teacher, released=True)[0] == loss(student, teacher)[0] > 0


def test_components_that_die_at_one_pixel_both_pull_it():
    image = np.full((3, 3), 0.0, dtype=np.float32)
    image[1, 0], image[1, 2], image[0, 1], image[1, 1] = 0.95, 0.5, 0.4, 0.2
    value, gradient = loss(image, image)
    assert value == pytest.approx(2 * (0.3**2 + 0.2**2), rel=1e-5)
    assert gradient[1, 1] == pytest.approx(-2 * (0.3 + 0.2), rel=1e-5)


def test_tiles_are_maps_of_their_own_and_the_last_ones_smaller():
    generator = np.random.default_rng(8)
    student, teacher = (generator.random((10, 14)).astype(np.float32) for _ in range(2))
    value, gradient = loss(student, teacher, tile=6)
    parts = [np.s_[y : y + 6, x : x + 6] for y in (0, 6) for x in (0, 6, 12)]
    alone = [loss(student[part], teacher[part], tile=100) for part in parts]
    assert value == pytest.approx(sum(part for part, _ in alone), rel=1e-5)
    for part, (_, expected) in zip(parts, alone, strict=True):
        assert np.allclose(gradient[part], expected, atol=1e-6)
    assert value != pytest.approx(loss(student, teacher)[0], rel=1e-3)


def test_images_are_averaged_and_points_summed():
    student, teacher = torch.rand(3, 8, 10), torch.rand(3, 8, 10)
    alone = [sum(topological_terms(a[None], b[None])).item() for a, b in zip(student, teacher, strict=True)]
    assert sum(topological_terms(student, teacher)).item() == pytest.approx(sum(alone) / 3, rel=1e-5)


def test_what_is_not_a_number_reaches_the_loss_and_stops_nothing():
    bad = torch.full((1, 5, 5), torch.nan)
    assert torch.isnan(sum(topological_terms(bad, torch.rand(1, 5, 5))))
    assert torch.isfinite(sum(topological_terms(torch.rand(1, 5, 5), bad)))
