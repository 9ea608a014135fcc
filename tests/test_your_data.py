"""docs/your-data.md does what it says: its commands, as they stand there, on generated folders."""

import re
import shlex
from pathlib import Path

import pytest

from benchmark.data.folder_dataset import Description
from tests.conftest import ROOT, invoke, read_records
from tests.own_folder import write_folder

pytestmark = pytest.mark.slow

PAGE = (ROOT / "docs" / "your-data.md").read_text()
TINY = ("    set: {train.steps: 6, data.size: 32, train.batch_labelled: 2, train.batch_unlabelled: 2, "
        "evaluate.times: 2}\n")


def commands() -> list[list[str]]:
    """The words of each command in the page's first block of commands, without its comment."""
    block, *_ = re.findall(r"```bash\n(.*?)```", PAGE, re.S)
    return [shlex.split(line, comments=True) for line in block.splitlines()]


def experiment(text: str) -> str:
    """The page's experiment, at the size of a test: another preset and fewer steps, one fold."""
    assert "preset: quick\n" in text and "  four: {methods: [" in text
    text = text.replace("preset: quick\n", "preset: demo\ndraws: [0]\n")
    return re.sub(r"  four: \{methods: (\[.*?\])\}\n", rf"  four:\n    methods: \1\n{TINY}", text)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMIHISTO_PREPARED", str(tmp_path / "prepared"))
    monkeypatch.setenv("SEMIHISTO_RESULTS", str(tmp_path / "results"))
    return tmp_path


def given(words: list[str]) -> str:
    """What a command of the page prints; it must succeed."""
    assert words[:3] == ["python", "-m", "benchmark"]
    result = invoke(*words[3:])
    assert result.returncode == 0, f"{words}: {result.stderr}"
    return result.stdout + result.stderr


def test_five_commands_lead_from_a_folder_to_a_table_of_four_methods(place: Path):
    write_folder(place / "my-data", images=20, bare=4, classes=3)
    (text,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (place / "my-data" / "four.yaml").write_text(experiment(text))
    assert [words[3] for words in commands()] == ["data", "data", "data", "grid", "report"]
    told = [given(words) for words in commands()]
    assert "taken for classes" in told[0] and "4 without a mask" in told[1] and "folds.json" in told[2]
    records = [record for record, _ in read_records(place / "results" / "records")]
    methods = {record["spec"]["method"] for record in records}
    assert methods == {"supervised", "mean_teacher", "fixmatch", "unimatch"} and len(records) == 4
    assert all(record["status"] == "done" and record["spec"]["split"] == "folds" for record in records)
    assert all(record["data"]["unlabelled"] > record["data"]["labelled"] for record in records)
    for method in ("Supervised", "Mean Teacher", "FixMatch", "UniMatch"):
        assert re.search(rf"^\| {method} \|.*\d\d\.\d\d", told[4], re.M), f"{method} has a row with a number"
    assert (place / "results" / "tables").is_dir()


def test_the_reference_has_every_key_and_no_other():
    reference = PAGE.partition("## dataset.yaml\n")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `(\w+)` \|", reference, re.M)
    assert sorted(named) == sorted(Description.model_fields)
