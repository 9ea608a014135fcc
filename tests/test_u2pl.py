"""U2PL's mechanism, against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods._pixel_contrast import PixelMemory, info_nce, sample
from methods.u2pl import NEGATIVES, U2PL, most_certain
from tests.batches import batch, calls, gradients, labels_of, mixed, nll, pasted, softmax, task, terms, train


def learner(**more):
    """A method whose teacher is another network than its student."""
    method = U2PL(task(), **more)
    method.teacher.net.net.load_state_dict(method.task.network().state_dict())
    return method


@pytest.mark.parametrize(("step", "share"), [(0, 0.8), (5, 0.9), (10, 1.0)])
def test_the_dropped_share_falls_to_nothing_and_the_weight_makes_up_for_it(step, share):
    method, images, clock = learner(weight=3.0), mixed(), Clock(10)
    heads = calls(method.student.net.head)
    clock.step.fill_(step)
    found = terms(method, batch(), images, clock)["reliable"].item()
    teacher = method.teacher.net.net
    p = softmax(teacher(images.strong))
    entropy = -(p * np.log(p)).sum(1)
    kept = entropy <= np.sort(entropy, axis=None)[int(np.ceil(share * entropy.size)) - 1]
    assert kept.mean() == pytest.approx(share, abs=1e-3)
    labels = np.where(kept, pasted(labels_of(teacher(images.weak), 0.0), "strong"), IGNORE)
    expected = nll(heads[-1][1], labels) / kept.mean() / kept.mean()
    assert found == pytest.approx(3 * expected, rel=1e-3)


def test_the_most_certain_pixels_are_exactly_that_share():
    logits = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    kept = most_certain(logits, torch.tensor(0.75))
    confidence = logits.softmax(1).amax(1)
    assert kept.float().mean() == 0.75 and confidence[kept].mean() > confidence[~kept].mean()


@pytest.mark.parametrize(("classes", "rank"), [(2, 3), (4, 3), (4, 2), (6, 3)])
def test_a_dropped_pixel_is_a_negative_of_unlikely_classes_only_and_there_are_some(classes, rank):
    method = U2PL(task(classes=classes), rank=rank)
    order = torch.rand(500, classes, generator=torch.Generator().manual_seed(0)).argsort(1)
    label, dropped = torch.full((500,), IGNORE), torch.arange(500) < 400
    for kind in range(classes):
        negative = method.negatives(kind, order, label, dropped, torch.zeros(500, dtype=torch.bool))
        place = (order == kind).int().argmax(1)
        assert torch.equal(negative, dropped & (place >= min(rank, classes - 1)))
        assert negative.any() and (order[negative, 0] != kind).all()


def test_info_nce_agrees_with_numpy():
    generator = torch.Generator().manual_seed(0)
    anchors, positive = torch.randn(5, 8, generator=generator), torch.randn(8, generator=generator)
    negatives = torch.randn(5, 3, 8, generator=generator)
    a, z, n = (x.double().numpy() for x in (anchors, positive, negatives))
    for row, found in enumerate(info_nce(anchors, positive, negatives).tolist()):
        cosine = [a[row] @ other / np.linalg.norm(a[row]) / np.linalg.norm(other) for other in (z, *n[row])]
        assert found == pytest.approx(-np.log(np.exp(2 * cosine[0]) / np.exp(2 * np.array(cosine)).sum()), rel=1e-5)


def test_the_contrast_of_a_whole_step_agrees_with_numpy():
    """Four classes, the last without any pixel; two likely classes; every anchor sees the same negatives."""
    method, rank, known = U2PL(task(classes=4), rank=2), 2, 1
    generator = torch.Generator().manual_seed(3)
    own, others = torch.randn(2, 3, 64, 6, 6, generator=generator)
    logits = 2 * torch.randn(3, 4, 6, 6, generator=generator)
    label = torch.randint(0, 3, (3, 6, 6), generator=generator)
    label[torch.rand(label.shape, generator=generator) < 0.4] = IGNORE
    memory = method.memory
    memory.draw = lambda kind, count: memory.rows[kind][torch.arange(count) % NEGATIVES % memory.stored[kind].clamp(1)]
    found = method.contrastive(own, others, logits, label, known).item()

    a, z = (values.double().numpy().transpose(0, 2, 3, 1).reshape(-1, 64) for values in (own, others))
    p = softmax(logits.movedim(1, -1).reshape(-1, 4))
    y, first = label.numpy().ravel(), np.arange(3 * 36) < known * 36
    losses = []
    for kind in range(4):
        likely = (p > p[:, [kind]]).sum(1) < rank
        negative = np.where(first, (y != kind) & (y != IGNORE) & likely, (y == IGNORE) & ~likely)
        held = memory.rows[kind, : memory.stored[kind]].double().numpy()
        assert negative.any() and np.allclose(np.sort(held, 0), np.sort(z[negative], 0))
        anchors = a[(y == kind) & (p[:, kind] > 0.3)]
        if kind == 3:
            assert not len(anchors)
            continue
        against = np.stack([z[y == kind].mean(0), *held[np.arange(NEGATIVES) % len(held)]])
        cosine = anchors @ against.T / np.linalg.norm(anchors, axis=1)[:, None] / np.linalg.norm(against, axis=1)
        losses.append(np.mean(np.log(np.exp(2 * cosine).sum(1)) - 2 * cosine[:, 0]))
    assert found == pytest.approx(np.mean(losses), rel=1e-5)


def test_the_memory_replaces_the_oldest_and_draws_what_it_holds():
    memory, features = PixelMemory(2, 4, 1), torch.arange(1.0, 7).unsqueeze(1)
    memory.add(1, features, torch.tensor([True, True, False, False, False, False]), 3)
    assert set(memory.rows[1].flatten().tolist()) == {0, 1, 2} and memory.stored.tolist() == [0, 2]
    assert set(memory.draw(1, 50).flatten().tolist()) == {1, 2}
    memory.add(1, features, torch.tensor([False, False, True, True, True, False]), 3)
    held = memory.rows[1].flatten().tolist()
    assert {3, 4, 5} < set(held) and len(set(held) & {1, 2}) == 1 and memory.rows[0].eq(0).all()


def test_sampled_places_are_distinct_and_chosen():
    chosen = torch.rand(100, generator=torch.Generator().manual_seed(0)) < 0.3
    places, real = sample(chosen, 10)
    assert real.all() and chosen[places].all() and len(set(places.tolist())) == 10
    places, real = sample(chosen, 60)
    assert real.sum() == chosen.sum() and torch.equal(real, chosen[places])


def test_the_contrast_is_of_the_teachers_features_weighed_and_on_the_grid_of_features():
    method, images, handed = learner(contrast=3.0), mixed(), []
    method.contrastive = lambda *given: handed.extend(given) or torch.tensor(2.0)
    assert terms(method, batch(), images, Clock(10))["contrast"].item() == 6
    own, features, logits, label, known = handed
    views = [method.teacher(image) for image in (batch().weak, images.strong)]
    assert torch.allclose(features, torch.cat([view[1] for view in views]), atol=1e-5) and own.requires_grad
    assert torch.allclose(logits, torch.cat([view[0] for view in views])[..., ::4, ::4], atol=1e-5)
    assert known == 2 and torch.equal(label[:2], batch().mask[:, ::4, ::4]) and (label[2:] == IGNORE).any()


def test_a_class_without_a_negative_costs_nothing():
    features, logits = torch.randn(1, 64, 4, 4), torch.randn(1, 2, 4, 4)
    method = learner()
    assert method.contrastive(features, features, logits, torch.zeros(1, 4, 4, dtype=torch.int64), 1).item() == 0
    assert method.memory.stored[0] == 0 < method.memory.stored[1]


def test_the_teacher_follows_the_student():
    method, clock = learner(decay=0.9), Clock(1000)
    clock.step.fill_(900)
    before = [p.clone() for p in method.teacher.parameters()]
    train(method, clock, 1, mixed())
    for old, now, student in zip(before, method.teacher.parameters(), method.student.parameters(), strict=True):
        assert torch.allclose(now, 0.9 * old + 0.1 * student, atol=1e-6)


def test_the_warm_up_learns_from_labels_alone_and_the_teacher_is_a_copy_at_its_end():
    method = learner(warmup=0.25, decay=0.9)
    assert {name: phase.start for name, phase in method.phases.items()} == {"warm-up": 0.0, "train": 0.25}
    assert set(terms(method, batch(), mixed(), Clock(20))) == {"supervised"}
    method.phase, clock = "train", Clock(20)
    method.begin_phase("train", {})
    for mine, yours in zip(method.teacher.net.state_dict().values(), method.student.state_dict().values(), strict=True):
        assert torch.equal(mine, yours)
    clock.step.fill_(5)
    clock.phase_steps = range(5, 20)
    train(method, clock, 1, mixed())  # counted from the phase's start: the first update copies
    for mine, yours in zip(method.teacher.parameters(), method.student.parameters(), strict=True):
        assert torch.equal(mine, yours)


def test_without_a_warm_up_there_is_one_phase_and_all_terms_from_the_first_step():
    method = learner()
    assert list(method.phases) == ["train"]
    assert set(terms(method, batch(), mixed(), Clock(20))) == {"supervised", "reliable", "contrast"}


def test_the_contrast_teaches_the_student_alone_and_only_real_classes_count():
    method = learner()
    found = terms(method, batch(), mixed(), Clock(10))["contrast"]
    found.backward()
    assert found.item() > 0 and gradients(method.student.project) and not gradients(method.teacher)
    assert (method.memory.stored > 0).any()
    features, logits = torch.randn(1, 64, 4, 4), torch.randn(1, 2, 4, 4)
    nothing = torch.full((1, 4, 4), IGNORE)
    assert learner().contrastive(features, features, logits, nothing, 1).item() == 0
