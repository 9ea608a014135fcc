"""AD-MT's mechanism, against NumPy, on batches with real CutMix."""

import numpy as np
import pytest
import torch

from benchmark.losses import IGNORE
from benchmark.method import Clock
from methods.ad_mt import ADMT, weighted_mean
from tests.batches import batch, calls, mixed, softmax, task, terms

BOX = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
BOX[..., 5:20, 9:30] = True


def images():
    """Three unlabelled images with a photometric view."""
    found = mixed()
    found.photometric = 0.7 * found.weak
    return found


def learner(turn=0, **more):
    """A method whose teachers and student are three different networks."""
    method = ADMT(task(), ramp="constant", **more)
    for teacher in (method.first, method.second):
        teacher.net.load_state_dict(method.task.network().state_dict())
    method.turn.fill_(turn)
    return method


def expected_labels(method, image):
    """In NumPy: the teachers' labels weighed by their entropies, the student's where it differs and is surer."""
    p1, p2, own = (softmax(net(image)) for net in (method.first, method.second, method.net))
    w1, w2 = (np.exp((p * np.log(p)).sum(1, keepdims=True)) for p in (p1, p2))
    q = (w1 * p1 + w2 * p2) / (w1 + w2)
    wins = (own.argmax(1) != q.argmax(1)) & (own.max(1) > q.max(1))
    if method.student_wins == "conflicts":
        wins &= p1.argmax(1) != p2.argmax(1)
    label = np.where(wins, own.argmax(1), q.argmax(1))
    return np.where(np.where(wins, own.max(1), q.max(1)) >= method.threshold, label, IGNORE), wins


def test_weights_sum_to_1_and_the_surer_teacher_has_the_larger_one():
    sure, unsure = torch.tensor([4.0, 0.0]).view(1, 2, 1, 1), torch.tensor([0.0, 0.5]).view(1, 2, 1, 1)
    found, (p1, p2) = weighted_mean(sure, unsure), (softmax(z)[0, :, 0, 0] for z in (sure, unsure))
    w1, w2 = (np.exp((p * np.log(p)).sum()) for p in (p1, p2))
    np.testing.assert_allclose(found[0, :, 0, 0], (w1 * p1 + w2 * p2) / (w1 + w2), rtol=1e-5)
    assert found.sum().item() == pytest.approx(1) and w1 > w2


@pytest.mark.parametrize("student_wins", ["everywhere", "conflicts"])
def test_labels_are_the_teachers_unless_the_student_differs_and_is_surer(student_wins):
    method = learner(threshold=0.6, student_wins=student_wins)
    expected, wins = expected_labels(method, images().weak)
    assert np.array_equal(method.labels(images().weak).numpy(), expected)
    assert 0 < wins.mean() < 0.9 and method.logged["student wins"].item() == pytest.approx(wins.mean())


def test_two_teachers_that_agree_cannot_be_overruled_where_only_conflicts_may_be():
    method, answers = learner(threshold=0.0, student_wins="conflicts"), {}
    for name, logits in (("first", [2.0, 0.0]), ("second", [1.0, 0.0]), ("net", [0.0, 5.0])):
        answers[name] = torch.tensor(logits).view(1, 2, 1, 1)
        getattr(method, name).forward = lambda image, name=name: answers[name]
    assert method.labels(images().weak).item() == 0
    answers["second"] = -answers["second"]
    assert method.labels(images().weak).item() == 1


@pytest.mark.parametrize("turn", [0, 1])
def test_the_view_changes_with_the_turn_and_labels_are_mixed_with_it(turn, monkeypatch):
    monkeypatch.setattr("methods.ad_mt.random_boxes", lambda image, area: BOX.expand(3, 1, 32, 32))
    method, batch_u = learner(turn, threshold=0.55, weight=3.0), images()
    labels, _ = expected_labels(method, batch_u.weak)
    seen = calls(method.net)
    found = terms(method, batch(), batch_u, Clock(10))["taught"].item()
    view, logits = seen[-1]
    if turn:
        labels = np.where(BOX[:, 0], np.roll(labels, -1, 0), labels)
        assert torch.equal(view, torch.where(BOX, batch_u.weak[[1, 2, 0]], batch_u.weak))
    else:
        assert torch.equal(view, batch_u.photometric)
    p, valid = softmax(logits), labels != IGNORE
    hot = np.stack([labels == 0, labels == 1], 1)
    overlap, mass = (p * hot).sum((2, 3)), (p**2 * valid[:, None]).sum((2, 3)) + hot.sum((2, 3))
    assert found == pytest.approx(3 * (1 - (2 * overlap + 1) / (mass + 1)).mean(), rel=1e-4)


def test_exactly_one_teacher_follows_in_each_step_and_turns_alternate_with_lengths_up_to_the_period():
    torch.manual_seed(0)
    method, clock, followed = learner(period=4), Clock(500), []
    method.net, method.first.net, method.second.net = (torch.nn.Linear(1, 1) for _ in range(3))
    for step in range(300):
        clock.step.fill_(step)
        torch.nn.init.normal_(method.net.weight)
        before = [teacher.net.weight.item() for teacher in (method.first, method.second)]
        turn = int(method.turn)
        method.after_step(clock)
        moved = [teacher.net.weight.item() != old for teacher, old in zip(
            (method.first, method.second), before, strict=True)]
        assert moved == [turn == 0, turn == 1]
        followed.append(turn)
    switches = np.flatnonzero(np.diff(followed))
    assert set(np.diff(switches)) == {1, 2, 3, 4}


def test_the_first_turn_has_a_drawn_length_too():
    lengths = set()
    for seed in range(40):
        torch.manual_seed(seed)
        method, steps = learner(period=4), 0
        method.net, method.first.net, method.second.net = (torch.nn.Linear(1, 1) for _ in range(3))
        while method.turn == 0:
            method.after_step(Clock(10))
            steps += 1
        lengths.add(steps)
    assert lengths == {1, 2, 3, 4}


def test_a_teacher_copies_at_its_first_update_however_late_and_averages_by_its_own_number_of_updates():
    method, clock = learner(period=50, decay=0.99), Clock(500)
    method.net, method.first.net, method.second.net = (torch.nn.Linear(1, 1) for _ in range(3))
    for turn, teacher in ((0, method.first), (1, method.second)):
        method.turn.fill_(turn), method.left.fill_(50)
        seen = []
        for _ in range(4):  # 1 - 1 / (n + 1) makes the plain mean
            torch.nn.init.normal_(method.net.weight)
            seen.append(method.net.weight.item())
            method.after_step(clock)
            clock.step += 1
            assert teacher.net.weight.item() == pytest.approx(np.mean(seen), rel=1e-4, abs=1e-6)
    before = method.second.net.weight.item()
    clock.stopped.fill_(True)
    torch.nn.init.normal_(method.net.weight)
    method.after_step(clock)
    assert method.second.net.weight.item() == before and method.updates.tolist() == [4, 4]
