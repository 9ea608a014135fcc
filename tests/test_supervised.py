"""The lower bound's mechanism."""

import torch

from benchmark.method import Clock
from methods.supervised import Supervised
from tests.batches import batch, task, terms, unlabelled


def test_it_sees_no_unlabelled_image():
    assert "unlabelled" not in Supervised.views


def test_its_loss_is_the_criterion_of_labelled_images_alone():
    method = Supervised(task(loss="dice"))
    found = terms(method, batch(), None, Clock(10))
    assert list(found) == ["supervised"]
    assert torch.equal(found["supervised"], method.task.criterion(method.net(batch().weak), batch().mask))


def test_ignored_pixels_give_no_gradient_and_the_others_do():
    method, data = Supervised(task()), batch()
    data.mask[:, :16] = 255
    logits = method.net(data.weak).detach().requires_grad_()
    method.task.criterion(logits, data.mask).backward()
    assert not logits.grad[:, :, :16].any() and (logits.grad[:, :, 16:] != 0).all()


def test_prediction_is_the_networks():
    method = Supervised(task()).eval()
    image = unlabelled().weak
    assert torch.equal(method.predict(image), method.net(image))
