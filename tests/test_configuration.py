"""Settings: layers, types, near misses, and YAML without its traps."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import pytest

from benchmark.config import yaml_files
from benchmark.config.compose import Configuration, compose, parse_overrides, preset_names, read_preset
from benchmark.config.validate import bind, fields_of
from benchmark.errors import UserError
from benchmark.paths import CONFIGS
from benchmark.ranges import Count, Positive, Range, Share, ShareBelow1, allowed
from benchmark.registry import DATASETS, METHODS
from benchmark.spec import Spec


@dataclasses.dataclass
class Example:
    """A schema with every kind of field."""

    name: str = "a"
    count: int = 1
    share: float | None = 0.5
    on: bool = False
    parts: tuple[str, ...] = ("x",)


@pytest.mark.parametrize(
    ("given", "expected"),
    [({"share": 3}, 3.0), ({"share": None}, None), ({"count": 2.0}, 2), ({"parts": ["p", "q"]}, ("p", "q")),
     ({"parts": "p,q"}, ("p", "q")), ({"on": True}, True)],
)
def test_values_that_lose_nothing_are_converted(given, expected):
    assert next(iter(bind(fields_of(Example), given, "here").values())) == expected


@pytest.mark.parametrize(
    ("given", "words"),
    [({"cuont": 1}, ["cuont", "Did you mean 'count'?"]), ({"count": 1.5}, ["count", "int", "1.5"]),
     ({"count": True}, ["count", "bool"]), ({"on": 1}, ["on", "bool"]), ({"name": 3}, ["name", "str"]),
     ({"share": "half"}, ["share", "float"]), ({"share": float("nan")}, ["share", "nan"])],
)
def test_wrong_names_and_types_say_where_and_what(given, words):
    with pytest.raises(UserError) as error:
        bind(fields_of(Example), given, "here")
    assert str(error.value).startswith("here") and "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)


def test_yaml_reads_as_people_do():
    text = "a: no\nb: 10:30\nc: 1e-3\nd: true\ne: 012\nf: [1, 2.5]\ng: null\nh: on\ni: .5"
    assert yaml_files.parse(text, "t") == {
        "a": "no", "b": "10:30", "c": 1e-3, "d": True, "e": 12, "f": [1, 2.5], "g": None, "h": "on", "i": 0.5,
    }


@pytest.mark.parametrize("text", ["a: 1\na: 2", "a: [1", "a: !!python/object:os.system x"])
def test_yaml_mistakes_name_the_line(text):
    with pytest.raises(UserError, match="line"):
        yaml_files.parse(text, "file.yaml")


def test_layers_later_wins_and_says_so():
    kind = METHODS.load("semimoe")
    settings = compose("semimoe", kind, "glas", "paper", {"train.steps": 7}).settings
    assert settings["method.weight_max"].value == 5.0 and settings["method.weight_max"].source == "paper"
    assert settings["method.weight_max"].layer == "recipe paper/semimoe/any"
    assert settings["optimiser.name"].value == "sgd" and settings["optimiser.name"].layer == "preset paper"
    assert settings["train.steps"].layer == "--set" and settings["train.epochs"].value is None
    assert compose("semimoe", kind, "glas", "paper").values()["train.epochs"] == 200
    assert settings["method.dropout"].layer == "signature"
    assert compose("semimoe", kind, "crag", "paper").settings["method.gamma"].value == 0.8
    assert compose("semimoe", kind, "synthetic", "paper").settings["data.normalise"].value == "training"


def test_paper_and_released_code_are_two_recipes():
    kind = METHODS.load("semimoe")
    paper, code = (compose("semimoe", kind, "glas", preset).values() for preset in ("paper", "released"))
    assert (paper["method.weight_max"], code["method.weight_max"]) == (5.0, 0.5)
    assert (paper["method.sdf_scale"], code["method.sdf_scale"]) == (1.0, 0.5)
    assert (paper["augment.crop"], code["augment.crop"]) == (0.0, 0.5)


@pytest.mark.parametrize("preset", preset_names())
def test_every_preset_binds_for_every_method_and_dataset(preset):
    for method in METHODS.names():
        for dataset in DATASETS.names():
            compose(method, METHODS.load(method), dataset, preset)
    recipes = read_preset(preset).recipes
    assert set(recipes) <= set(METHODS.names())


@pytest.mark.parametrize(
    ("values", "word"),
    [({"train.stesp": 1}, "Did you mean 'steps'?"), ({"steps": 1}, "unknown key 'steps'"),
     ({"train.steps": "many"}, "int"), ({"optimiser.name": "adamW"}, "Did you mean 'adamw'?"),
     ({"method.decya": 1}, "Did you mean 'decay'?"), ({"train.steps": {"value": 1, "from": "x"}}, "source"),
     ({"train.steps": {"value": 1, "source": "rumour"}}, "rumour")],
)
def test_unknown_keys_and_wrong_types_are_refused(values, word):
    configuration = Configuration("mean_teacher", METHODS.load("mean_teacher"))
    with pytest.raises(UserError, match="preset x") as error:
        configuration.update(values, "preset x")
    assert word in str(error.value)


def test_overrides_need_an_equals_sign():
    assert parse_overrides(["a.b=1e-3", "c.d=[x, y]"]) == {"a.b": 1e-3, "c.d": ["x", "y"]}
    with pytest.raises(UserError, match="KEY=VALUE"):
        parse_overrides(["train.steps"])


def test_every_dataset_file_names_a_dataset():
    known = {path.stem for path in (CONFIGS / "datasets").glob("*.yaml")}
    assert known <= set(DATASETS.names())


def test_identity_ignores_the_presets_name_and_nothing_else():
    spec = Spec("m", "d", "official", 20, 0, 0, "fair", {"train.steps": 5, "method.experts": ("a", "b")})
    assert Spec.from_json(spec.to_json()) == spec
    assert dataclasses.replace(spec, preset="other").run_id == spec.run_id
    for change in ({"ratio": 10}, {"seed": 1}, {"fold": 1}, {"split": "s"}, {"values": {"train.steps": 6}}):
        assert dataclasses.replace(spec, **change).run_id != spec.run_id


@dataclasses.dataclass
class Ranged:
    """A schema with every kind of range."""

    share: Share = 0.5
    rate: ShareBelow1 = 0.0
    count: Count | None = None
    few: Annotated[int, Range("[2, 100]")] = 3
    length: Positive = 1.0


@pytest.mark.parametrize(
    ("given", "words"),
    [({"share": 1.5}, "share must lie in [0, 1], not 1.5"), ({"rate": 1}, "rate must lie in [0, 1), not 1"),
     ({"count": 0}, "count must be at least 1, not 0"), ({"few": 1}, "few must lie in [2, 100], not 1"),
     ({"length": 0}, "length must be above 0, not 0"), ({"count": 1.5}, "count must be int, not 1.5 (float)")],
)
def test_a_value_out_of_range_is_told_with_the_range(given, words):
    with pytest.raises(UserError) as error:
        bind(fields_of(Ranged), given, "here")
    assert str(error.value) == f"here: {words}"


def test_the_ends_of_a_range_are_as_it_is_written():
    assert bind(fields_of(Ranged), {"share": 1, "rate": 0, "count": None, "few": 100}, "here")["few"] == 100
    assert [allowed(field.type) for field in fields_of(Ranged).values()] == [
        "in [0, 1]", "in [0, 1)", "at least 1", "in [2, 100]", "above 0"]


@pytest.mark.parametrize(
    ("method", "given"),
    [("mean_teacher", "noise=-1"), ("mean_teacher", "decay=1.5"), ("ua_mt", "passes=0"), ("ua_mt", "dropout=1"),
     ("cct", "ramp_until=0"), ("cct", "vat=-1"), ("cps", "weight=-1"), ("urpc", "weight=-0.1"),
     ("cross_teaching", "transformer_lr=0"), ("cross_teaching", "transformer_decay=-0.1"), ("xnet", "width=0"),
     ("fixmatch", "threshold=1.5"), ("unimatch", "dropout=1"), ("entropy_minimisation", "labelled_weight=-1"),
     ("toposemiseg", "tile=0"), ("toposemiseg", "start=1.1"), ("semimoe", "gamma=0"), ("semimoe", "dropout=1"),
     ("semimoe_homogeneous", "experts=1"), ("semimoe_homogeneous", "balance=-1"), ("ensemble", "members=0")],
)
def test_hyperparameters_out_of_range_are_refused(method, given):
    with pytest.raises(UserError, match=rf"--set: method\.{given.split('=')[0]} must (lie in|be)"):
        compose(method, METHODS.load(method), "glas", "fair", parse_overrides([f"method.{given}"]))


def test_every_number_has_a_range():
    free = {f"{name}.{key}" for name in METHODS.names() for key, field in fields_of(METHODS.load(name)).items()
            if isinstance(field.default, int | float) and not allowed(field.type)}
    assert free == {"semimoe.sdf_scale"}  # of any sign


@pytest.mark.parametrize(
    "given", ["train.steps=0", "train.epochs=0", "optimiser.decay=0", "optimiser.momentum=1", "augment.hue=0.6"]
)
def test_settings_of_all_sections_have_ranges(given):
    with pytest.raises(UserError, match=rf"--set: {given.split('=')[0]} must (lie in|be)"):
        compose("supervised", METHODS.load("supervised"), "glas", "fair", parse_overrides([given]))


def test_the_schema_and_the_preset_fair_say_the_same():
    defaults = Configuration("supervised", METHODS.load("supervised")).values()
    fair = {key: each["value"] if isinstance(each, dict) else each for key, each in read_preset("fair").values.items()}
    assert {key: defaults[key] for key in fair} == fair
