"""ST++'s mechanism: stages, reliability, labels made anew."""

import numpy as np
import pytest
import torch

from benchmark.batches.transforms import Geometry
from benchmark.conformance.testbed import advance
from benchmark.losses import IGNORE
from methods.st_plus_plus import STPlusPlus, mean_iou
from tests.batches import batch, blobs, calls, task, terms, unlabelled
from tests.factories import method_testbed


def test_mean_iou_agrees_with_numpy_and_leaves_out_classes_that_neither_has():
    first, second = blobs(3, seed=0), blobs(3, seed=1)
    first[2], second[2] = 0, 0
    for row, found in enumerate(mean_iou(first, second, 3).tolist()):
        a, b = first[row].numpy(), second[row].numpy()
        pairs = [((a == k) & (b == k), (a == k) | (b == k)) for k in (0, 1, 2)]
        ious = [both.sum() / either.sum() for both, either in pairs if either.any()]
        assert found == pytest.approx(np.mean(ious), rel=1e-6)
    assert mean_iou(first, first, 3).eq(1).all()


class Fixed(torch.nn.Module):
    """A network that calls as foreground what its bound leaves of the first channel."""

    def __init__(self, bound):
        super().__init__()
        self.bound = bound

    def forward(self, image):
        assert not self.training
        return torch.stack([torch.zeros_like(image[:, 0]), image[:, 0] - self.bound], 1)


def labelled_by(early, middle, last, share=0.5):
    """A method after its labelling of eight images, in batches of three, where networks have these bounds."""
    method = STPlusPlus(task())
    method.net, method.early, method.middle = Fixed(last), Fixed(early).eval(), Fixed(middle).eval()
    ramp = torch.linspace(0, 1, 32 * 32).view(1, 1, 32, 32)
    image = torch.cat([ramp ** (1 + k) for k in range(8)]).expand(8, 3, 32, 32)
    rows = torch.arange(4, 12)
    method.label([batch_of(image[k : k + 3], rows[k : k + 3]) for k in (0, 3, 6)], share)
    return method, image


def batch_of(image, index):
    found = unlabelled(count=len(image))
    found.weak, found.index = image, index
    return found


def test_the_half_whose_predictions_moved_least_is_labelled_by_the_last_network():
    method, image = labelled_by(early=0.3, middle=0.4, last=0.5)
    label = (image[:, 0] > 0.5).long()
    moved = [mean_iou((image[:, 0] > bound).long(), label, 2) for bound in (0.3, 0.4)]
    best = torch.stack(moved).mean(0).argsort(descending=True)
    for rank, k in enumerate(best.tolist()):
        wanted = label[k] if rank < 4 else torch.full((32, 32), IGNORE)
        assert torch.equal(method.pseudo_mask[4 + k].long(), wanted)
    assert (method.pseudo_mask[:4] == IGNORE).all()  # labelled images


def test_equal_checkpoints_are_fully_reliable_and_with_share_1_all_are_labelled():
    assert mean_iou(blobs(2), blobs(2), 2).tolist() == [1, 1]
    method, image = labelled_by(0.3, 0.4, 0.5, share=1.0)
    assert torch.equal(method.pseudo_mask[4:].long(), (image[:, 0] > 0.5).long()) and method.net.training


def test_the_last_stage_labels_only_images_that_have_no_label():
    method, image = labelled_by(0.3, 0.4, 0.5)
    first, method.net = method.pseudo_mask.clone(), Fixed(0.7)
    method.early = method.middle = None  # not asked
    method.label([batch_of(image, torch.arange(4, 12))], None)
    for k in range(8):
        had = (first[4 + k] != IGNORE).all()
        wanted = first[4 + k].long() if had else (image[k, 0] > 0.7).long()
        assert torch.equal(method.pseudo_mask[4 + k].long(), wanted)


def test_stages_keep_two_earlier_networks_and_start_from_a_fresh_one():
    training = method_testbed("st_plus_plus", train__steps=9).build()
    method, kept, ended = training.method, [], []
    for step in range(9):
        training.enter_step(step)
        kept.append({k: v.clone() for k, v in method.net.state_dict().items()})
        training.step(training.plans(step, 1)[0])
        ended.append(next(iter(method.net.parameters())).clone())
    for teacher, step in ((method.early, 1), (method.middle, 2)):
        assert all(torch.equal(v, kept[step][k]) for k, v in teacher.net.state_dict().items())
    first = next(iter(kept[0]))
    went_on = [torch.equal(kept[step][first], ended[step - 1]) for step in range(1, 9)]
    assert went_on == [True, True, False, True, True, False, True, True]
    assert not torch.equal(kept[3][first], kept[6][first])
    assert all(method.phases[name].fresh_optimiser for name in ("reliable", "all"))


def test_half_of_the_images_teach_in_the_second_stage_and_all_in_the_third():
    training = method_testbed("st_plus_plus", train__steps=9).build()
    method, counts = training.method, []
    for step in range(9):
        advance(training, step, 1)
        counts.append(int((method.pseudo_mask != IGNORE).flatten(1).any(1).sum()))
    images = method.task.unlabelled
    assert counts == [0] * 3 + [round(0.5 * images)] * 3 + [images] * 3


def test_a_box_without_label_is_cut_and_labels_follow_the_image():
    method = STPlusPlus(task(), cutout=1.0)
    images = unlabelled(geometry=Geometry(torch.tensor([1, 6]), None, 32))
    images.photometric = images.weak
    method.phase = "all"
    method.pseudo_mask[:2] = batch(seed=5).mask.to(torch.uint8)
    seen = calls(method.net)
    found = terms(method, batch(), images, None)["pseudo"]
    view, logits = seen[-1]
    cut = (view == 0).all(1)
    assert 0.01 < cut.float().mean() < 0.45 and torch.equal(view[~cut[:, None].expand_as(view)],
                                                            images.weak[~cut[:, None].expand_as(view)])
    label = torch.where(cut, IGNORE, images.apply(batch(seed=5).mask))
    assert found.item() == pytest.approx(method.task.criterion(logits, label).item(), rel=1e-6)
