"""The lower bound's mechanism."""

import torch

from benchmark.batches.batch import Batch, paste
from benchmark.method import Clock
from methods.supervised import Supervised
from tests.batches import batch, task, terms


def test_its_loss_is_the_criterion_of_labelled_images_alone():
    method = Supervised(task(loss="dice"))
    found = terms(method, batch(), None, Clock(10))
    assert list(found) == ["supervised"]
    assert torch.equal(found["supervised"], method.task.criterion(method.net(batch().weak), batch().mask))


def test_the_strong_view_learns_its_own_mixed_label():
    """Of the pasted rectangle the label of the image that it was taken from; twice the weight is twice the loss."""
    plain, box = batch(), torch.tensor([[4, 6, 20, 26], [0, 0, 0, 0]])
    strong = paste(0.6 * plain.weak, box)
    data = Batch(plain.index, weak=plain.weak, mask=plain.mask, strong=strong, boxes={"strong": box})
    method = Supervised(task(), strong=2.0)
    assert method.views == {"labelled": ("weak", "strong")}
    found = terms(method, data, None, Clock(10))
    assert list(found) == ["supervised", "strong"]
    label = plain.mask.clone()
    label[0, 4:20, 6:26] = plain.mask[1, 4:20, 6:26]
    assert not torch.equal(label, plain.mask)
    assert torch.allclose(found["strong"], 2 * method.task.criterion(method.net(strong), label))
    assert torch.equal(found["supervised"], method.task.criterion(method.net(plain.weak), plain.mask))


def test_ignored_pixels_give_no_gradient_and_the_others_do():
    method, data = Supervised(task()), batch()
    data.mask[:, :16] = 255
    logits = method.net(data.weak).detach().requires_grad_()
    method.task.criterion(logits, data.mask).backward()
    assert not logits.grad[:, :, :16].any() and (logits.grad[:, :, 16:] != 0).all()
