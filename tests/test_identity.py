"""A run's identity: what is added later with its neutral value changes no recorded run's name."""

import dataclasses
import json

import pytest

from benchmark.config import schema
from benchmark.registry import METHODS
from benchmark.spec import Spec
from tests.conftest import ROOT

RECORDS = sorted((ROOT / "results" / "records").glob("*.json"))


def spec_of(path, **more):
    content = json.loads(path.read_text())["spec"]
    return Spec.from_json({**content, "values": {**content["values"], **more}})


def test_every_committed_record_still_has_its_name():
    assert RECORDS and [spec_of(path).run_id for path in RECORDS] == [path.stem for path in RECORDS]


@pytest.fixture
def elastic(monkeypatch):
    """A section with one more field than when the records were made."""
    kind = dataclasses.make_dataclass(
        "Augment", [("elastic", float, schema.later(0.0))], bases=(schema.SECTIONS["augment"],), frozen=True
    )
    monkeypatch.setitem(schema.SECTIONS, "augment", kind)


def test_a_setting_added_later_is_left_out_while_it_is_neutral(elastic):
    path = RECORDS[0]
    assert spec_of(path, **{"augment.elastic": 0.0}).run_id == path.stem
    assert spec_of(path, **{"augment.never_declared": 0.0}).run_id != path.stem
    assert spec_of(path, **{"augment.elastic": 0.1}).run_id != path.stem
    assert spec_of(path).section("augment").elastic == 0.0  # a record without it means the neutral value


def test_a_hyperparameter_added_later_changes_no_name(monkeypatch):
    path = next(path for path in RECORDS if path.stem.startswith("semimoe-"))
    entry = METHODS.describe("semimoe")
    later = {**entry.later, "gates": "default"}
    monkeypatch.setattr(METHODS, "describe", lambda name: dataclasses.replace(entry, later=later))
    assert spec_of(path, **{"method.gates": "default"}).run_id == path.stem
    assert spec_of(path, **{"method.gates": "kaiming"}).run_id != path.stem


def test_what_a_method_says_was_added_later_is_read_from_its_source(tmp_path):
    source = "class Method: pass\n\nclass FolderDataset(Method):\n    later = {'gates': 'default', 'sizes': [1, 2]}\n"
    (tmp_path / "own.py").write_text(source)
    assert METHODS.later(str(tmp_path / "own.py")) == {"gates": "default", "sizes": [1, 2]}
    assert METHODS.later("of_another_machine") == {}


def test_a_removed_setting_is_read_from_older_records_as_what_runs_still_do():
    older = spec_of(RECORDS[0], **{"train.forward": "separate"})
    assert older.run_id == RECORDS[0].stem and older.section("train") and "train.forward" not in older.values
    assert spec_of(RECORDS[0], **{"train.forward": "joint"}).run_id != RECORDS[0].stem


def test_what_is_declared_later_has_its_neutral_value_as_default():
    """Else a record that lacks the key would mean another run."""
    for name in METHODS.names():
        fields = schema.fields_of(METHODS.load(name))
        for key, neutral in METHODS.later(name).items():
            assert fields[key].default == neutral, f"{name}.{key}"
