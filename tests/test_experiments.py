"""Experiments: what their files mean, and what is wrong with a wrong one."""

from dataclasses import replace

import pytest
import torch

from benchmark.errors import UserError
from benchmark.registry import METHODS
from benchmark.runs.experiment import experiment_names, read_experiment
from benchmark.runs.plan import plan
from benchmark.runs.request import specify
from tests.conftest import refused
from tests.factories import method_testbed


@pytest.mark.parametrize("name", experiment_names())
def test_every_cell_of_every_experiment_can_be_specified(name, tmp_path):
    experiment = read_experiment(name)
    planned = plan(experiment, tmp_path, "cpu")
    assert len(planned) == len(experiment.cells) and {entry.state for entry in planned} <= {"missing", "excluded"}
    assert experiment.about


def test_rows_axes_and_draws():
    cells = read_experiment("glas_light").cells
    assert {cell.row for cell in read_experiment("demo").cells} == {*METHODS.names(), "upper bound"}
    assert [(c.request.fold, c.request.seed) for c in cells if c.row == "upper bound"] == [(0, 0), (1, 1), (2, 2)]
    bcp = [c.request for c in cells if c.row == "bcp" and c.request.ratio == 10]
    assert [(request.fold, request.seed) for request in bcp] == [(0, 0), (1, 0), (2, 0)]
    assert {c.request.ratio for c in cells if c.row == "upper bound"} == {100}


def test_ablations_differ_from_the_method_by_what_they_ablate():
    for name, key in (("ablation_experts", "method.experts"), ("ablation_components", "method.pseudo_labels")):
        found = {cell.row: specify(cell.request, "cpu").spec.values[key] for cell in read_experiment(name).cells}
        assert len(set(found.values())) > 1, name


WEIGHT_ZERO = {cell.row: cell.request for cell in read_experiment("weight_zero").cells}


def test_weight_zero_has_every_method_that_sees_unlabelled_images():
    seeing = {name for name in METHODS.names() if "unlabelled" in METHODS.load(name).views}
    assert seeing == set(WEIGHT_ZERO) - {"supervised"}


@pytest.mark.parametrize("row", sorted(set(WEIGHT_ZERO) - {"supervised"}))
def test_with_weight_zero_unlabelled_images_teach_nothing(row):
    """The gradient is the same whatever they show; with the method's own weight it is not."""
    different = []
    for settings in (WEIGHT_ZERO[row].experiment, {}):
        training = method_testbed(row, **settings).build()
        training.clock.step.fill_(training.steps - 1)  # at the ramp's end, in the last phase
        gradients = []
        for shift in (0.0, 0.7):
            training.enter_step(training.steps - 1)
            training.optimisers.zero_grad()
            batches = training.step.batches(training.plans(0, 1)[0])
            unlabelled = batches["unlabelled"]
            views = {name: values for name, values in unlabelled.tensors.items() if name != "index"}
            if shift:
                vars(unlabelled).update({name: values.roll(5, -1) + shift for name, values in views.items()})
            training.step.learn(batches)
            gradients.append([p.grad.clone() for p in training.optimisers.parameters() if p.grad is not None])
        different.append(any(not torch.equal(a, b) for a, b in zip(*gradients, strict=True)))
    assert different == [False, True]


FILE = """about: A test.
datasets: [synthetic]
preset: demo
rows:
  one: {method: supervised, ratios: [20]}
  two:
    method: supervised
    ratios: [10]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: supervised\n    ratios: [10]", "method: superwised", "line 6: unknown method 'superwised'. Did you"),
        ("ratios: [10]", "ratio: [10]", "line 8: unknown key 'ratio'. Did you mean 'ratios'"),
        ("datasets: [synthetic]", "datasets: []", "line 2: datasets must have an entry"),
        ("ratios: [10]", "set: {train.stops: 3}", "line 6: experiment: unknown key 'train.stops'"),
        ("ratios: [10]", "ratios: [20]", "'two' is the same run as 'one'"),
        ("  two:", "  a: {methods: [supervised], ratios: [10], set: {train.steps: 2}}\n  supervised:",
         "is called 'supervised', too"),
        ("  two:", "  5: supervised\n  '5':", "rows has two rows of one name"),
        ("ratios: [10]", "draws: [-1]", "line 6: "),
        ("datasets: [synthetic]", "datasets: [nowhere]", "unknown dataset 'nowhere'"),
        ("rows:", "rosw:", "unknown key 'rosw'. Did you mean 'rows'"),
        ("ratios: [10]", "ratios: [10]\nexclude:\n  - {row: two}", "line 10: reason is missing"),
        ("preset: demo", "preset: dmeo", "unknown preset 'dmeo'"),
        ("preset: demo", "preset: [demo]", "line 3: preset must be a string, not ['demo']"),
        ("datasets: [synthetic]", "datasets: [{glas: 1}]", "line 2: entry 1 of datasets must be a string"),
        ("ratios: [10]", "ratios: [[10]]", "line 8: entry 1 of ratios must be a whole number, not [10]"),
        ("ratios: [10]", "ratios: [10, 10]", "line 8: ratios has 10 twice"),
        ("ratios: [10]", "ratios: [10]\nexclude: 5", "line 9: exclude must be a list"),
        ("ratios: [10]", "ratios: [10]\nexclude:\n  - {row: tow, reason: x}", "line 10: this `exclude` entry"),
        ("preset: demo", "split: 5", "line 3: split must be a name, or pairs of a data set and its split, not 5"),
        ("preset: demo", "split: {synthetic: [official]}", "line 3: split must be a name, or pairs"),
        ("preset: demo", "split: {syntetic: official}", "line 3: split names 'syntetic', which is not under"),
        ("ratios: [10]", "split: {glas: official}", "line 8: split names 'glas', which is not under `datasets`"),
        ("preset: demo", "split: {synthetic: officail}", "no split 'officail'"),
    ],
)
def test_mistakes_name_the_file_the_line_and_what_to_do(old, new, message, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE.replace(old, new, 1))
    with refused(message, str(path)):
        plan(read_experiment(str(path)), tmp_path, "cpu")


def test_an_exception_keeps_its_reason_and_means_what_is_written_whatever_its_type(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(FILE.replace("two:", "5:") + 'exclude:\n  - {row: 5, draw: "1", reason: it never ends}\n')
    planned = plan(read_experiment(str(path)), tmp_path, "cpu")
    left_out = [entry for entry in planned if entry.state == "excluded"]
    assert [(e.cell.row, e.spec.fold, e.cell.reason) for e in left_out] == [("5", 1, "it never ends")]


def test_settings_of_the_file_are_every_rows_unless_it_has_its_own(tmp_path):
    path = tmp_path / "mine.yaml"
    text = FILE.replace("rows:", "set: {train.steps: 7, data.size: 32}\nrows:")
    text = text.replace("ratios: [20]", "ratios: [20], set: {train.steps: 9}")
    path.write_text(text)
    cells = {cell.row: cell.request for cell in read_experiment(str(path)).cells}
    steps = {row: specify(request, "cpu").spec.values["train.steps"] for row, request in cells.items()}
    assert steps == {"one": 9, "two": 7} and "--set data.size=32" in cells["one"].command
    path.write_text(text.replace("train.steps: 7", "train.stops: 7"))
    with pytest.raises(UserError, match=r"unknown key 'train\.stops'"):
        plan(read_experiment(str(path)), tmp_path, "cpu")


def test_an_experiments_settings_are_those_of_the_same_run_with_set():
    cell = read_experiment("ablation_experts").cells[0]
    by_hand = replace(cell.request, overrides=cell.request.experiment, experiment={})
    assert specify(cell.request, "cpu").spec.run_id == specify(by_hand, "cpu").spec.run_id
    assert by_hand.command == cell.request.command


def test_runs_on_data_sets_with_splits_of_their_own_are_those_of_experiments_with_one_split():
    def ids(name, **fixed):
        cells = [cell.request for cell in read_experiment(name).cells]
        return {specify(r, "cpu").spec.run_id for r in cells if all(getattr(r, k) == v for k, v in fixed.items())}

    both, on_glas, on_ebhi = ids("ranks_light"), ids("glas_light"), ids("ebhi_light")
    assert len(both) == 2 * len(both & on_ebhi) == 2 * 2 * len(METHODS.names())
    without = ids("ranks_light", method="mpamatch") | ids("ranks_light", method="weak_teacher_student")
    assert both - on_ebhi - on_glas == without - on_ebhi


def test_a_data_set_without_a_split_in_the_mapping_has_its_own_first_and_a_row_may_have_another(tmp_path):
    path = tmp_path / "mine.yaml"
    text = FILE.replace("[synthetic]", "[synthetic, ebhi_gland]\nsplit: {ebhi_gland: quarter}")
    path.write_text(text.replace("    ratios: [10]", "    split: whole\n    ratios: [10]"))
    found = {(c.row, c.request.dataset, c.request.split) for c in read_experiment(str(path)).cells}
    assert found == {("one", "synthetic", None), ("one", "ebhi_gland", "quarter"),
                     ("two", "synthetic", "whole"), ("two", "ebhi_gland", "whole")}  # fmt: skip
