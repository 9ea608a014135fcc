"""Settings: layers, types, near misses, and YAML without its traps."""

import dataclasses
from typing import Annotated

import pytest

from benchmark.config import yaml_files
from benchmark.config.compose import Configuration, compose, layered, parse_overrides, read_preset
from benchmark.config.schema import convert, fields_of
from benchmark.errors import UserError
from benchmark.ranges import Count, Positive, Range, Share, ShareBelow1, allowed
from benchmark.registry import METHODS
from benchmark.spec import Spec
from tests.conftest import complaint, refused


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [(float | None, 3, 3.0), (float | None, None, None), (int, 2.0, 2), (tuple[str, ...], ["p", "q"], ("p", "q")),
     (tuple[str, ...], "p,q", ("p", "q")), (bool, True, True)],
)
def test_values_that_lose_nothing_are_converted(kind, given, expected):
    assert convert(kind, given, "here") == expected and type(convert(kind, given, "here")) is type(expected)


@pytest.mark.parametrize(
    ("kind", "given", "words"),
    [(int, 1.5, "must be int, not 1.5 (float)"), (int, True, "must be int, not True (bool)"),
     (bool, 1, "must be bool, not 1 (int)"), (str, 3, "must be str, not 3 (int)"),
     (float | None, "half", "must be float, not 'half' (str)"), (float, float("nan"), "must be float, not nan (float)"),
     (Share, 1.5, "must lie in [0, 1], not 1.5"), (ShareBelow1, 1, "must lie in [0, 1), not 1"),
     (Count | None, 0, "must be at least 1, not 0"), (Positive, 0, "must be above 0, not 0"),
     (Annotated[int, Range("[2, 100]")], 1, "must lie in [2, 100], not 1")],
)
def test_a_wrong_type_and_a_value_out_of_range_are_told_with_what_may_be(kind, given, words):
    assert complaint(convert, kind, given, "here") == f"here {words}"


def test_the_ends_of_a_range_are_as_it_is_written():
    few = Annotated[int, Range("[2, 100]")]
    assert [convert(*each, "here") for each in ((Share, 1), (ShareBelow1, 0), (few, 100))] == [1, 0, 100]
    assert [allowed(kind) for kind in (Share, ShareBelow1, Count | None, few, Positive)] == [
        "in [0, 1]", "in [0, 1)", "at least 1", "in [2, 100]", "above 0"]


def test_yaml_reads_as_people_do():
    text = "a: no\nb: 10:30\nc: 1e-3\nd: true\ne: 012\nf: [1, 2.5]\ng: null\nh: on\ni: .5"
    assert yaml_files.parse(text, "t") == {
        "a": "no", "b": "10:30", "c": 1e-3, "d": True, "e": 12, "f": [1, 2.5], "g": None, "h": "on", "i": 0.5,
    }


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: [1", "a: !!python/object:os.system x"])
def test_yaml_mistakes_name_the_line(text):
    with pytest.raises(UserError, match="line"):
        yaml_files.parse(text, "file.yaml")


@pytest.mark.parametrize("value", [
    3, 0.5, 1e-5, True, None, "text", "true", "3", "für/Modèle.pth", "a: b", "it's", "a,b", "", "~/w.pth", [0.5, 1.0],
])
def test_a_written_value_is_read_back(value):
    assert yaml_files.parse(yaml_files.written(value), "") == value


@pytest.mark.parametrize("names", [[], ["2024"], ["a", "b"], ["a,b"], ["a b", "true"]])
def test_a_written_list_of_names_is_read_back(names):
    assert convert(tuple[str, ...], yaml_files.parse(yaml_files.written(names), ""), "") == tuple(names)


def test_layers_later_wins_and_says_so():
    kind = METHODS.load("semimoe")
    settings = compose("semimoe", kind, "glas", "paper", {"train.steps": 7}).settings
    assert settings["method.weight_max"].value == 5.0 and settings["method.weight_max"].source == "paper"
    assert settings["method.weight_max"].layer == "recipe paper/semimoe/any"
    assert settings["optimiser.name"].value == "sgd" and settings["optimiser.name"].layer == "preset paper"
    assert settings["train.steps"].layer == "--set" and settings["train.epochs"].value is None
    assert compose("semimoe", kind, "glas", "paper").values()["train.epochs"] == 200
    file, row = {"train.epochs": 2, "optimiser.lr": 0.1}, {"train.steps": 7}
    assert layered(file, row) == {"optimiser.lr": 0.1, "train.steps": 7}, "a row's steps lift the file's epochs"
    assert layered(file, {"method.weight": 1}) == file | {"method.weight": 1}
    assert settings["method.dropout"].layer == "default"
    assert compose("semimoe", kind, "crag", "paper").settings["method.gamma"].value == 0.8
    assert compose("semimoe", kind, "synthetic", "paper").settings["data.normalise"].value == "training"


def test_paper_and_released_code_are_two_recipes():
    kind = METHODS.load("semimoe")
    paper, code = (compose("semimoe", kind, "glas", preset).values() for preset in ("paper", "released"))
    assert (paper["method.weight_max"], code["method.weight_max"]) == (5.0, 0.5)
    assert (paper["method.sdf_scale"], code["method.sdf_scale"]) == (1.0, 0.5)
    assert (paper["augment.crop"], code["augment.crop"]) == (0.0, 0.5)


@pytest.mark.parametrize(
    ("values", "word"),
    [({"train.stesp": 1}, "Did you mean 'train.steps'?"), ({"steps": 1}, "Did you mean 'train.steps'?"),
     ({"optimiser.steps": 1}, "Did you mean 'train.steps'?"), ({"train.steps": [1, 2]}, "give each a row"),
     ({"train.steps": "many"}, "int"), ({"optimiser.name": "adamW"}, "Did you mean 'adamw'?"),
     ({"method.decya": 1}, "Did you mean 'method.decay'?"), ({"train.steps": {"value": 1, "from": "x"}}, "source"),
     ({"train.steps": {"value": 1, "source": "rumour"}}, "rumour")],
)
def test_unknown_keys_and_wrong_types_are_refused(values, word):
    configuration = Configuration(METHODS.load("mean_teacher"))
    with refused("preset x", word):
        configuration.update(values, "preset x")


def test_the_values_of_overrides_are_yaml():
    assert parse_overrides(["a.b=1e-3", "c.d=[x, y]"]) == {"a.b": 1e-3, "c.d": ["x", "y"]}


def test_identity_ignores_the_presets_name_and_nothing_else():
    spec = Spec("m", "d", "official", 20, 0, 0, "fair", {"train.steps": 5, "method.experts": ("a", "b")})
    assert Spec.from_json(spec.to_json()) == spec
    assert dataclasses.replace(spec, preset="other").run_id == spec.run_id
    changes = [{"dataset": "other"}, {"split": "s"}, {"ratio": 10}, {"fold": 1}, {"seed": 1}]
    for change in [*changes, {"values": {"train.steps": 6}}]:
        assert dataclasses.replace(spec, **change).run_id != spec.run_id


@pytest.mark.parametrize(
    ("method", "given"),
    [("mean_teacher", "method.noise=-1"), ("ua_mt", "method.passes=0"), ("fixmatch", "method.threshold=1.5"),
     ("supervised", "train.steps=0"), ("supervised", "optimiser.momentum=1"), ("supervised", "augment.hue=0.6")],
)
def test_settings_and_hyperparameters_out_of_range_are_refused(method, given):
    with pytest.raises(UserError, match=rf"--set: {given.split('=')[0]} must (lie in|be)"):
        compose(method, METHODS.load(method), "glas", "fair", parse_overrides([given]))


def test_every_number_has_a_range():
    free = {f"{name}.{key}" for name in METHODS.names() for key, field in fields_of(METHODS.load(name)).items()
            if isinstance(field.default, int | float) and not allowed(field.type)}
    assert not free


def test_the_schema_and_the_preset_fair_say_the_same():
    defaults = Configuration(METHODS.load("supervised")).values()
    fair = {key: each["value"] if isinstance(each, dict) else each for key, each in read_preset("fair").values.items()}
    assert {key: defaults[key] for key in fair} == fair
