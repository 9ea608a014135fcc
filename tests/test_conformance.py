"""Every method keeps the contract; and the suite that says so catches those that do not."""

import math
import sys
from functools import cache

import pytest
import torch

from benchmark.conformance.checks import CHECKS, conformance
from benchmark.conformance.testbed import advance
from benchmark.errors import UserError
from benchmark.registry import METHODS
from benchmark.training.setup import build_method
from tests.batches import task
from tests.conftest import ROOT, demo_run, one_line_error
from tests.factories import method_testbed

BROKEN = ROOT / "tests" / "broken_methods.py"
CAUGHT = [
    ("CountsInAnAttribute", "resumes_exactly", "outside parameters and buffers"),
    ("CountsInAnAttribute", "no_hidden_state", "self.calls is 2 after 2 steps and 4 after 4"),
    ("CountsInTheClass", "no_hidden_state", "CountsInTheClass.calls is "),
    ("CountsInAGlobal", "no_hidden_state", "global 'CALLS' of broken_methods.py"),
    ("CountsInAGlobal", "resumes_exactly", "two runs of one specification differ"),
    ("ForgetsToMix", "labels_are_mixed", "unlabelled.cutmix('strong', ...); a method that only compares"),
    ("RemembersImages", "no_hidden_state", "self.seen"),
    ("DrawsFromItsOwnGenerator", "no_hidden_state", "self.generator"),
    ("DrawsFromPythonsGenerator", "global_generators_are_untouched", "draws from Python's random"),
    ("DrawsFromNumpysGenerator", "global_generators_are_untouched", "NumPy's global generator"),
    ("SeedsTorch", "global_generators_are_untouched", "a step seeds torch's generator"),
    ("SeesImagesForTesting", "hidden_masks_and_test_images_are_unused", "images that are for testing"),
    ("SeesHiddenMasks", "hidden_masks_and_test_images_are_unused", "masks of images whose labels are hidden"),
    ("OpensPreparedArrays", "hidden_masks_and_test_images_are_unused", "masks of images whose labels are hidden"),
    ("LoadsPreparedData", "hidden_masks_and_test_images_are_unused", "masks of images whose labels are hidden"),
    ("ChangesItsBatch", "batches_are_not_modified", "changes unlabelled.weak in place"),
    ("LeavesEvaluationMode", "train_eval_mode_is_restored", "a step leaves 'net' in evaluation mode"),
    ("PredictsInTrainingMode", "train_eval_mode_is_restored", "predict() leaves 'net' in training mode"),
    ("FreezesOnTheWay", "train_eval_mode_is_restored", "' without gradients"),
    ("ReplacesABuffer", "state_is_updated_in_place", "'mean' is replaced"),
    ("AsksTheHost", "step_can_be_captured", "(broken_methods.py, line"),
    ("DividesByZero", "losses_and_gradients_are_finite", "'supervised' is inf at step 3"),
    ("HasAnInfiniteGradient", "losses_and_gradients_are_finite", "gradient of 'net.head.bias' is not finite at step 1"),
    ("CannotBearEmptyMasks", "empty_full_ignored_masks_are_finite", "where every pixel is background"),
    ("TakesUnknownPixelsForBackground", "unknown_pixels_are_no_class", "takes unknown pixels (255) for background"),
    ("TeachesNothing", "losses_are_named_scalars", "no term depends on a parameter"),
    ("GivesANumber", "losses_are_named_scalars", "'weight' is a float"),
    ("GivesALossOfEveryPixel", "losses_are_named_scalars", "'supervised' is a tensor [3, 2, 32, 32]"),
    ("TeachesAPart", "gradients_reach_all_trained_parameters", "is trained but no loss depends on it"),
    ("TrainsWhatItDoesNotHave", "gradients_reach_all_trained_parameters", "no part of the module"),
    ("TrainsItsTeacher", "gradients_reach_all_trained_parameters", "'teacher.net"),
    ("TrainsWhatItDoesNotHave", "tensors_are_registered", "self.extra holds a parameter"),
    ("KeepsAPlainTensor", "tensors_are_registered", "self.kernels holds a tensor"),
    ("KeepsNetworksInAList", "tensors_are_registered", "self.experts holds a module"),
    ("PredictsWithWhatIsNotTrained", "training_changes_the_prediction", "'prediction' is the same"),
    ("PredictsByChance", "predict_has_no_side_effects", "differs between two calls"),
    ("PredictsByTheBatch", "predict_has_no_side_effects", "depends on the rest of its batch"),
    ("PredictsOneClass", "logits_have_shape_and_are_finite", "has shape (1, 1, 32, 32), expected (1, 2, 32, 32)"),
    ("PredictsNoNumbers", "logits_have_shape_and_are_finite", "is not finite"),
    ("PredictsALoss", "logits_have_shape_and_are_finite", "is a float"),
    ("NamesNoOutput", "logits_have_shape_and_are_finite", "no output of this name, but prediction"),
    ("Raises", "losses_and_gradients_are_finite", "KeyError: 'nothing' (broken_methods.py, line"),
]


@cache
def shared_testbed(method):
    """One for all checks of a method: most of them look at the same run."""
    return method_testbed(method)


CORE = (
    "losses_are_named_scalars", "losses_and_gradients_are_finite", "gradients_reach_all_trained_parameters",
    "logits_have_shape_and_are_finite", "hidden_masks_and_test_images_are_unused", "labels_are_mixed",
    "no_hidden_state", "train_eval_mode_is_restored",
)  # of every method; the other checks in the quick tests of some, and of all in `test --all`
WHOLLY = ("supervised", "mean_teacher", "unimatch", "st_plus_plus")


@pytest.mark.parametrize(("method", "check"), [
    pytest.param(method, check, marks=[pytest.mark.xdist_group(f"check {method}")]
                 + [pytest.mark.slow] * (method not in WHOLLY and check not in CORE))
    for method in METHODS.names() for check in CHECKS
])
def test_every_method_keeps_the_contract(method, check):
    CHECKS[check](shared_testbed(method))


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [{"method.encoder": "shared"}, {"method.pseudo_labels": "single"}, {"method.loss": "linear"},
     {"method.experts": ("seg", "bnd")}],
)
def test_ablations_keep_it_too(overrides):
    only = ("resumes_exactly", "step_can_be_captured", "gradients_reach_all_trained_parameters")
    assert not any(dict(conformance(method_testbed("semimoe", **overrides), only)).values())


@pytest.mark.parametrize(("name", "check", "words"), CAUGHT)
def test_what_breaks_the_contract_is_caught_in_one_line_that_says_what_and_where(name, check, words):
    ((_, complaint),) = conformance(method_testbed(f"{BROKEN}:{name}"), only=(check,))
    assert complaint is not None, f"{check} did not catch {name}"
    assert words in complaint


def test_every_check_has_caught_something_and_every_broken_method_is_caught():
    assert {check for _, check, _ in CAUGHT} == set(CHECKS)
    kinds = vars(sys.modules[METHODS.load(f"{BROKEN}:Honest").__module__]).values()
    made = {kind.__name__ for kind in kinds if isinstance(kind, type) and kind.__base__.__name__ == "Honest"}
    assert {name for name, _, _ in CAUGHT} == made


def test_a_strong_view_needs_no_mixed_labels_where_a_method_says_so(monkeypatch):
    forgetful = f"{BROKEN}:ForgetsToMix"
    monkeypatch.setattr(METHODS.load(forgetful), "mixes_labels", False, raising=False)
    CHECKS["labels_are_mixed"](method_testbed(forgetful))


def test_what_the_broken_ones_are_made_from_keeps_the_contract():
    assert not any(dict(conformance(method_testbed(f"{BROKEN}:Honest"))).values())


def test_an_unlabelled_batch_has_no_mask():
    training = method_testbed("mean_teacher").build()
    batch = training.step.batches(training.plans(0, 1)[0])["unlabelled"]
    for name in ("mask", "sdf", "boundary"):
        with pytest.raises(AttributeError, match="unlabelled batches carry no mask"):
            getattr(batch, name)
    pixels = training.step.renderers["unlabelled"].pixels.view(torch.uint8)
    assert not hasattr(batch, "mask") and not pixels.view(-1, 4)[:, 3].any()  # nor in the bytes beside the colours


def test_the_first_network_starts_equal_in_every_method_and_the_second_differs():
    first = method_testbed("supervised").build().method.net.state_dict()
    for name, net in (("mean_teacher", "net"), ("semimoe", "nets.seg")):
        other = method_testbed(name).build().method.get_submodule(net).state_dict()
        assert all(torch.equal(first[key], other[key]) for key in first)
    nets = method_testbed("semimoe").build().method.nets
    assert not torch.equal(nets["seg"].head.weight, nets["bnd"].head.weight)


def test_every_method_sees_the_same_labelled_images_in_the_same_order():
    plans = [method_testbed(name).build().plans(0, 5) for name in METHODS.names()]
    for other in plans[1:]:
        for mine, yours in zip(plans[0], other, strict=True):
            assert all(torch.equal(mine["labelled"][key], yours["labelled"][key]) for key in mine["labelled"])


STUDENT, NET = {"student": "net", "teacher": "teacher"}, {"prediction": "net"}
OUTPUTS = {  # the official one first, and the part of the method that predicts it
    "cps": {"first": "first", "second": "second"}, "cross_teaching": {"cnn": "cnn", "transformer": "transformer"},
    "ad_mt": {"student": "net", "first": "first", "second": "second"},
    **dict.fromkeys(("mean_teacher", "ua_mt", "ict", "toposemiseg", "bcp", "augseg", "unimatch_v2",
                     "weak_teacher_student"), STUDENT),
    **dict.fromkeys(("supervised", "entropy_minimisation", "fixmatch", "freematch", "unimatch", "corrmatch", "ss_net",
                     "st_plus_plus", "cct", "urpc", "dtc"), NET),
}


@pytest.mark.parametrize("method", OUTPUTS)
def test_the_first_output_is_the_official_one_and_each_comes_from_its_own_part(method):
    made, image = METHODS.load(method)(task()).eval(), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for parameter in made.parameters():  # no two parts agree
            parameter.mul_(1 + 0.5 * torch.rand_like(parameter))
        found = made.predict(image)
        found = found if isinstance(found, dict) else {"prediction": found}
        assert list(found) == list(OUTPUTS[method])
        for name, part in OUTPUTS[method].items():
            assert torch.equal(found[name], made.get_submodule(part)(image))


def with_losses(change):
    """A training of an honest method, its loss and the clock given to `change`, which says what `losses` answers."""
    training = method_testbed(f"{BROKEN}:Honest").build()
    honest = training.method.loss
    training.method.losses = lambda labelled, unlabelled, clock: change(honest(labelled), clock)
    return training


def test_a_loss_that_is_not_finite_moves_nothing():
    training = with_losses(lambda loss, clock: {"supervised": torch.where(clock.step == 3, float("nan"), 1.0) * loss})
    advance(training, 0, 3)
    parameters = [p.detach().clone() for p in training.method.parameters()]
    rows = advance(training, 3, 2)
    assert math.isnan(rows[0]["supervised"])
    assert all(torch.equal(a, b) for a, b in zip(parameters, training.method.parameters(), strict=True))


def test_terms_must_keep_their_names():
    training = with_losses(lambda loss, clock: {"a" if clock.step < 1 else "b": loss})
    with pytest.raises(UserError, match="other terms"):
        advance(training, 0, 2)


def test_tables_call_a_method_as_its_own_class_does_or_by_the_name_of_the_class(tmp_path):
    own, heir = tmp_path / "own.py", tmp_path / "heir.py"
    own.write_text("from methods.unimatch import UniMatch\nclass Own(UniMatch): display = 'My Own'\n")
    heir.write_text("from methods.unimatch import UniMatch\nclass Heir(UniMatch): pass\n")
    names = ("ua_mt", "semimoe", own, f"{own}:Own", f"{heir}:Heir", "a/own.py:Gone", "of_another_machine")
    shown = [METHODS.display(str(name)) for name in names]
    assert shown == ["UA-MT", "Semi-MoE", "My Own", "My Own", "Heir", "Gone", "of_another_machine"]


def test_a_batch_that_cannot_work_is_told_without_data_of_this_size():
    spec = method_testbed("fixmatch").spec.with_values({"train.batch_labelled": 1, "data.size": 16})
    with pytest.raises(UserError, match="BatchNorm cannot work on one value a channel"):
        build_method(spec, (3, 3, 6), 2)


def test_a_run_of_a_method_that_cannot_predict_ends_in_one_line_before_it_trains(tmp_path):
    told = one_line_error(demo_run(tmp_path, f"{BROKEN}:PredictsOneClass"))
    assert "predict(): output 'prediction' has shape (3, 1, 32, 32), expected (3, 2, 32, 32)" in told
    assert not list((tmp_path / "records").glob("*")) and not any(log.read_text() for log in tmp_path.rglob("*.jsonl"))
    assert demo_run(tmp_path, f"{BROKEN}:Honest").returncode == 0
    assert len(list((tmp_path / "records").glob("*.json"))) == 1
