"""`report EXPERIMENT` from runs to files: what is written, what is checked, what is refused."""

import shutil

import pytest

from benchmark.report.gather import gather
from benchmark.runs.experiment import experiment_names, read_experiment
from benchmark.runs.run import RunOptions, run_or_load
from tests.conftest import ROOT, edit_json, invoke, one_line_error

EXPERIMENT = """about: Two rows & a <tag>.
preset: demo
datasets: [synthetic]
draws: [0, 1]
reference: one
rows:
  two: {method: mean_teacher, set: &tiny {data.size: 32, train.steps: 4, train.batch_labelled: 2, evaluate.times: 1}}
  one: {method: supervised, set: *tiny}
  three: {method: supervised, set: {<<: 1}}
exclude:
  - {row: three, reason: never asked for}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """An experiment of three rows, of which one is whole, one half done and one left out; and its results."""
    folder = tmp_path_factory.mktemp("report")
    path = folder / "mine.yaml"
    tiny = "{data.size: 32, train.steps: 5, train.batch_labelled: 2, evaluate.times: 1}"
    path.write_text(EXPERIMENT.replace("{<<: 1}", tiny))
    for cell in read_experiment(str(path)).cells:
        if cell.row == "one" or (cell.row == "two" and cell.request.fold == 0):
            run_or_load(cell.request, RunOptions(folder))
    return path, folder


def report(path, folder, *more):
    return invoke("report", path, "--results", folder, *more)


def test_every_file_is_written_under_the_experiments_name_and_is_current(made):
    path, folder = made
    said = report(path, folder)
    assert said.returncode == 0, said.stderr
    for name in ("tables/mine.md", "tables/mine.tex", "tables/mine.csv", "figures/mine-panel.png", "pages/mine.html"):
        assert f"wrote {folder / name}" in said.stderr and (folder / name).stat().st_size > 500
    assert said.stderr.splitlines()[-1] == f"wrote {folder}/pages/mine.html", "the page comes last"
    text = (folder / "tables" / "mine.md").read_text()
    rows = [line.split(" | ")[0].strip("| ") for line in text.split("### Jaccard")[0].splitlines() if "| " in line]
    assert rows[-4:-1] == ["two", "one", "three"], "in the experiment's order"
    assert "(1/2)" in text and "excluded (0/2)" in text and "never asked for" in text
    assert "Dice, strict, against one" in text and f"python -m benchmark report {path}" in text
    assert report(path, folder, "--check").returncode == 0
    before = {file: file.read_bytes() for file in (folder / "tables").iterdir()}
    assert report(path, folder, "--format", "md,tex,csv").returncode == 0
    assert {file: file.read_bytes() for file in (folder / "tables").iterdir()} == before


def test_what_is_not_current_is_named_and_nothing_is_written(made):
    path, folder = made
    assert report(path, folder, "--format", "md,tex,csv").returncode == 0
    table = folder / "tables" / "mine.csv"
    table.write_text(table.read_text().replace("supervised", "my own"))
    complaint = one_line_error(report(path, folder, "--check"), code=4)
    assert str(table) in complaint and "mine.md" not in complaint and "my own" in table.read_text()


def test_records_of_other_code_are_left_out_and_told(made, tmp_path):
    path, folder = made
    shutil.copytree(folder / "records", tmp_path / "records")
    for file in (tmp_path / "records").glob("mean_teacher*.json"):
        edit_json(file, numerics={"engine": 0, "method": 1, "dataset": 1})
    (group,) = gather(read_experiment(str(path)), tmp_path)
    cell = group.cells.loc["two", 20]
    assert cell.finished == 0 and cell.states == ["missing", "stale"]
    text = report(path, tmp_path, "--format", "md").stdout
    assert "missing, stale (0/2)" in text and "grid --retry stale" in text


def test_every_damaged_record_is_named_and_nothing_is_written(made, tmp_path):
    path, folder = made
    shutil.copytree(folder / "records", tmp_path / "records")
    one, two, three = sorted((tmp_path / "records").glob("*.json"))
    one.write_text('{"schema": 9}')
    two.write_text("{")
    three.with_suffix(".npz").write_bytes(b"PK")
    for complaint in (one_line_error(report(path, tmp_path)), one_line_error(invoke("report", "--results", tmp_path))):
        assert all(str(file) in complaint for file in (one, two, three.with_suffix(""))), complaint
        for words in ("3 records cannot be used", "update SemiHisto", "not JSON", "damaged, or not the counts of"):
            assert words in complaint
    assert not (tmp_path / "tables").exists(), "no table that looks whole and is not"


def test_a_part_of_an_experiment_is_reported_under_a_name_of_its_own(made):
    path, folder = made
    whole = {file: file.read_bytes() for file in (folder / "tables").glob("mine.*")}
    said = report(path, folder, "--only", "row=one", "--format", "md,tex,csv")
    assert said.returncode == 0 and "row one only" in said.stdout and "| two " not in said.stdout
    assert (folder / "tables" / "mine-row_one.md").is_file() and "--only row=one" in said.stdout
    assert {file: file.read_bytes() for file in (folder / "tables").glob("mine.*")} == whole
    assert report(path, folder, "--only", "row=one", "--format", "md,html").returncode == 0
    assert report(path, folder, "--only", "row=one", "--check").returncode == 0
    assert "there is one, three, two. Did you mean 'one'" in one_line_error(report(path, folder, "--only", "row=on"))


def test_another_experiments_tables_are_not_written_over(made, tmp_path):
    path, folder = made
    shutil.copytree(folder / "records", tmp_path / "results" / "records")
    results = tmp_path / "results"
    for name in ("実験", "対照", "a b", "a_b", "here/mine", "there/mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / f"{name}.yaml")
    for first, second, kinds in (("実験", "対照", "tex"), ("a b", "a_b", "md"), ("here/mine", "there/mine", "md,tex")):
        one, two = tmp_path / f"{first}.yaml", tmp_path / f"{second}.yaml"
        assert report(one, results, "--format", kinds).returncode == 0
        before = {file: file.read_bytes() for file in (results / "tables").iterdir()}
        complaint = one_line_error(report(two, results, "--format", kinds))
        assert str(one) in complaint and "rename one of the two" in complaint
        assert {file: file.read_bytes() for file in (results / "tables").iterdir()} == before
        assert report(one, results, "--format", kinds).returncode == 0
        one.unlink()  # the same name in another folder, after the experiment was moved
        if first.endswith("mine"):
            assert report(two, results, "--format", "md,tex").returncode == 0


def test_nothing_to_compare_with_published_numbers_is_an_error(made):
    assert "names no published table" in one_line_error(report(*made, "--against", "paper"))
    said = invoke("report", "reproduction", "--against", "paper", "--results", made[1])
    assert "no records of experiment reproduction" in one_line_error(said)


REPORTED = [name for name in experiment_names() if (ROOT / "results" / "pages" / f"{name}.html").exists()]


@pytest.mark.parametrize("name", REPORTED)
def test_the_committed_tables_are_those_of_the_committed_records(name):
    said = invoke("report", name, "--check", "--results", ROOT / "results")
    assert said.returncode == 0, said.stderr
