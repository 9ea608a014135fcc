"""Every method keeps the contract; and the suite that says so catches those that do not."""

from __future__ import annotations

import math
import re

import pytest
import torch

from benchmark.conformance.checks import CHECKS, conformance
from benchmark.conformance.global_state import SEED, surroundings
from benchmark.conformance.testbed import advance
from benchmark.errors import UserError
from benchmark.method import Method
from benchmark.registry import METHODS
from tests.conftest import ROOT
from tests.factories import method_testbed

pytestmark = pytest.mark.slow

@pytest.mark.parametrize("check", list(CHECKS))
@pytest.mark.parametrize("method", METHODS.names())
def test_every_method_keeps_the_contract(method, check):
    CHECKS[check](method_testbed(method))


@pytest.mark.parametrize(
    "overrides",
    [{"method.encoder": "shared"}, {"method.pseudo_labels": "single"}, {"method.loss": "linear"},
     {"method.experts": ("seg", "bnd")}],
)
@pytest.mark.parametrize("check", ["resumes_exactly", "step_can_be_captured", "gradients_reach_what_is_trained"])
def test_ablations_keep_it_too(overrides, check):
    CHECKS[check](method_testbed("semimoe", **overrides))


NAUGHTY = ROOT / "tests" / "broken_methods.py"
CAUGHT = [
    ("CountsInAnAttribute", "resumes_exactly", "outside parameters and buffers"),
    ("CountsWithoutAConsequence", "nothing_is_remembered_elsewhere", "self.calls is 2 after 2 steps and 4 after 4"),
    ("CountsInTheClass", "nothing_is_remembered_elsewhere", "CountsInTheClass.calls is "),
    ("CountsInAGlobal", "nothing_is_remembered_elsewhere", "global 'CALLS' of broken_methods.py"),
    ("CountsInAGlobal", "repeats", "chance or state outside the module"),
    ("ForgetsToMix", "labels_are_mixed", "unlabelled.cutmix('strong', ...); or set mixes_labels = False"),
    ("RemembersImages", "nothing_is_remembered_elsewhere", "self.beliefs"),
    ("DrawsFromItsOwnGenerator", "resumes_exactly", "outside parameters and buffers"),
    ("DrawsFromItsOwnGenerator", "nothing_is_remembered_elsewhere", "self.generator"),
    ("DrawsFromPythonsGenerator", "repeats", "chance"),
    ("DrawsFromPythonsGenerator", "process_is_left_alone", "a step changes the generator of Python's random"),
    ("DrawsFromNumpysGenerator", "process_is_left_alone", "NumPy's global generator"),
    ("LooksAtTheTime", "repeats", "chance"),
    ("SeedsTorch", "process_is_left_alone", "a step changes the seed of torch's generator"),
    ("SetsTheDefaultDtype", "process_is_left_alone", "the constructor changes torch's default dtype (torch.float32"),
    ("SwitchesGradientsOff", "process_is_left_alone", "torch's gradient mode (True becomes False)"),
    ("ChangesThreadsToPredict", "process_is_left_alone", "predict() changes torch's number of threads (1 becomes 2)"),
    ("SeesImagesForTesting", "images_for_testing_change_nothing", "images that are for testing"),
    ("SeesHiddenMasks", "hidden_masks_change_nothing", "masks of images whose labels are hidden"),
    ("AsksForAHiddenMask", "losses_are_finite", "unlabelled batches carry no mask (broken_methods.py, line"),
    ("OpensAFile", "files_are_left_alone", "opens {root}/LICENSE (broken_methods.py, line"),
    ("OpensPreparedArrays", "files_are_left_alone", "masks.npy (broken_methods.py, line"),
    ("StartsAProcess", "files_are_left_alone", "starts ['true'] (broken_methods.py, line"),
    ("ChangesItsBatch", "batches_are_left_alone", "changes unlabelled.weak in place"),
    ("LeavesEvaluationMode", "modes_are_kept", "a step leaves 'net' in evaluation mode"),
    ("PredictsInTrainingMode", "modes_are_kept", "predict() leaves 'net' in training mode"),
    ("FreezesOnTheWay", "modes_are_kept", "' without gradients"),
    ("ReplacesAParameter", "state_stays_in_place", "'net.head.bias' is replaced"),
    ("ReplacesABuffer", "state_stays_in_place", "'mean' is replaced"),
    ("AsksTheHost", "step_can_be_captured", "(broken_methods.py, line"),
    ("HasShapesThatDependOnData", "step_can_be_captured", "(broken_methods.py, line"),
    ("DividesByZero", "losses_are_finite", "'supervised' is inf at step 3"),
    ("HasAnInfiniteGradient", "losses_are_finite", "the gradient of 'net.head.bias' is not finite at step 1"),
    ("CannotBearEmptyMasks", "extreme_masks_are_borne", "where every pixel is background"),
    ("TeachesNothing", "losses_are_named_scalars", "no term depends on a parameter"),
    ("TeachesAPart", "gradients_reach_what_is_trained", "is trained but no loss depends on it"),
    ("TrainsWhatItDoesNotHave", "gradients_reach_what_is_trained", "no part of the module"),
    ("TrainsItsTeacher", "gradients_reach_what_is_trained", "'teacher.net"),
    ("TrainsWhatItDoesNotHave", "tensors_are_registered", "self.extra holds a parameter"),
    ("KeepsAPlainTensor", "tensors_are_registered", "self.kernels holds a tensor"),
    ("KeepsNetworksInAList", "tensors_are_registered", "self.experts holds a module"),
    ("PredictsWithWhatIsNotTrained", "training_changes_the_prediction", "'prediction' is the same"),
    ("PredictsByChance", "evaluation_is_pure", "differs between two calls"),
    ("PredictsByTheBatch", "evaluation_is_pure", "depends on the rest of its batch"),
    ("PredictsOneClass", "prediction_has_shape", "has shape (1, 1, 32, 32), expected (1, 2, 32, 32)"),
    ("GivesANumber", "losses_are_named_scalars", "'weight' is a float"),
    ("GivesOneTensor", "losses_are_named_scalars", "a Tensor, not a mapping"),
    ("GivesALossOfEveryPixel", "losses_are_named_scalars", "'supervised' is a tensor [3, 2, 32, 32]"),
    ("Raises", "repeats", "KeyError: 'nothing' (broken_methods.py, line"),
]


@pytest.mark.parametrize(("name", "check", "words"), CAUGHT)
def test_what_breaks_the_contract_is_caught_in_one_line_that_says_what_and_where(name, check, words):
    ((_, complaint),) = conformance(method_testbed(f"{NAUGHTY}:{name}"), only=(check,))
    assert complaint is not None, f"{check} did not catch {name}"
    assert words.format(root=ROOT) in complaint and "\n" not in complaint


def test_every_check_has_caught_something_and_everything_naughty_is_caught():
    assert {check for _, check, _ in CAUGHT} == set(CHECKS)
    classes = set(re.findall(r"^class (\w+)\(", NAUGHTY.read_text(), re.M))
    assert {name for name, _, _ in CAUGHT} == classes - {"Honest"}


def test_a_strong_view_needs_no_mixed_labels_where_a_method_says_so(tmp_path):
    path = tmp_path / "own.py"
    path.write_text("""
from tests.broken_methods import ForgetsToMix, Honest, Method

class Declares(ForgetsToMix, Method):
    mixes_labels = False
""")
    CHECKS["labels_are_mixed"](method_testbed(f"{path}:Declares"))
    for method in ("fixmatch", "unimatch"):
        CHECKS["labels_are_mixed"](method_testbed(method))


def test_what_the_naughty_ones_are_made_from_keeps_the_contract():
    assert not any(dict(conformance(method_testbed(f"{NAUGHTY}:Honest"))).values())


def test_what_a_method_does_to_the_process_is_put_back():
    before = surroundings()
    for name in ("SetsTheDefaultDtype", "SwitchesGradientsOff", "ChangesThreadsToPredict", "DrawsFromNumpysGenerator"):
        only = ("process_is_left_alone", "losses_are_named_scalars")
        list(conformance(method_testbed(f"{NAUGHTY}:{name}"), only=only))
        after = surroundings()
        assert [key for key in before if key != SEED and before[key] != after[key]] == []


HEADER = """
from tests.broken_methods import Honest
import torch

class Broken(Honest):
    '''Nobody 2026: a method with a fault.'''
"""


def test_an_unlabelled_batch_has_no_mask():
    training = method_testbed("mean_teacher").build()
    batch = training.step.batches(training.plans(0, 1)[0])["unlabelled"]
    for name in ("mask", "sdf", "boundary"):
        with pytest.raises(AttributeError, match="no mask"):
            getattr(batch, name)


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


def test_a_loss_that_is_not_finite_moves_nothing(tmp_path):
    path = tmp_path / "late.py"
    path.write_text(HEADER + """
    def losses(self, labelled, unlabelled, clock):
        bad = torch.where(clock.step == 3, float("nan"), 1.0)
        return {"supervised": bad * self.loss(labelled)}
""")
    training = method_testbed(f"{path}:Broken").build()
    advance(training, 0, 3)
    parameters = [p.detach().clone() for p in training.method.parameters()]
    rows = advance(training, 3, 2)
    assert math.isnan(rows[0]["supervised"])
    assert all(torch.equal(a, b) for a, b in zip(parameters, training.method.parameters(), strict=True))


def test_terms_must_keep_their_names(tmp_path):
    path = tmp_path / "names.py"
    path.write_text(HEADER + """
    def losses(self, labelled, unlabelled, clock):
        return {"a" if clock.step < 1 else "b": self.loss(labelled)}
""")
    training = method_testbed(f"{path}:Broken").build()
    with pytest.raises(UserError, match="other terms"):
        advance(training, 0, 2)


def test_a_method_is_a_module_with_documented_origin():
    for entry in METHODS.entries():
        assert issubclass(METHODS.load(entry.name), Method)
        assert entry.year and entry.text


def test_tables_call_a_method_as_its_paper_does_and_one_from_elsewhere_by_its_class():
    assert [METHODS.describe(name).display for name in ("ua_mt", "semimoe")] == ["UA-MT", "Semi-MoE"]
    assert [METHODS.describe(name).display for name in ("a/own.py:FolderDataset", "of_another_machine")] == [
        "FolderDataset", "of_another_machine"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"train.batch_unlabelled": 1}, "CutMix needs a second image"),
        ({"train.batch_labelled": 1, "data.size": 16}, "BatchNorm cannot work on one value a channel"),
        ({"data.size": 40}, "sides must be multiples of 16, such as 32 or 48"),
        ({"method.threshold": 1.5}, r"method\.threshold must lie in \[0, 1\], not 1\.5"),
    ],
)
def test_what_cannot_work_is_told_before_training_starts(overrides, message):
    with pytest.raises(UserError, match=message):
        method_testbed("fixmatch", **overrides).build()
