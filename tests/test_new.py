"""`new method`: what it writes works at once, and it overwrites nothing."""

import json
import subprocess
import sys

import pytest

from benchmark import templates
from tests.conftest import invoke, one_line_error


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_its_tests_notice_a_method_that_is_not_what_they_say(here):
    invoke("new", "method", "very_own")
    source = (here / "very_own.py").read_text()
    (here / "very_own.py").write_text(source.replace("unlabelled.cutmix(\"strong\", label)", "label"))
    line = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_very_own.py"]
    tested = subprocess.run(line, cwd=here, capture_output=True, text=True)
    assert tested.returncode == 1 and "1 failed" in tested.stdout


def test_the_names_of_the_template_are_replaced_everywhere(here):
    said = json.loads(invoke("new", "method", "very_own", "--output", "a folder/mine.py", "--json").stdout)
    assert (said["class"], said["method"], said["tests"]) == ("VeryOwn", "a folder/mine.py", "a folder/test_mine.py")
    assert said["next"][0] == "python -m benchmark check 'a folder/mine.py:VeryOwn'"
    folder = here / "a folder"
    for path in (folder / "mine.py", folder / "test_mine.py"):
        assert templates.MODULE not in path.read_text() and templates.CLASS not in path.read_text()
    assert "from mine import VeryOwn" in (folder / "test_mine.py").read_text()
    shown = invoke("new", "method", "very_own", "--output", "a folder/other.py").stdout
    assert "python -m benchmark check 'a folder/other.py:VeryOwn'" in shown


def test_in_the_repository_it_goes_where_methods_and_tests_are(tmp_path, monkeypatch):
    for name in ("methods", "tests"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(templates, "ROOT", tmp_path)
    said = invoke("new", "method", "very_own", "--in-repository").stdout
    assert "python -m benchmark check very_own\n" in said
    assert (tmp_path / "methods" / "very_own.py").is_file()
    assert "from methods.very_own import VeryOwn" in (tmp_path / "tests" / "test_very_own.py").read_text()


@pytest.mark.parametrize("there", ["very_own.py", "test_very_own.py"])
def test_nothing_is_overwritten_and_nothing_half_written(there, here):
    (here / there).write_text("mine")
    assert there in one_line_error(invoke("new", "method", "very_own"))
    assert (here / there).read_text() == "mine" and len(list(here.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["VeryOwn"], ["lower-case", "as in very_own"]), (["very-own"], ["as in very_own"]), (["2nd"], ["cannot be"]),
        (["_own"], ["as in own"]), (["lambda"], ["word of Python"]), (["match"], ["word of Python"]),
        (["supervised"], ["a method 'supervised' exists"]), (["torch"], ["hide Python's module 'torch'"]),
        (["very_own", "--output", "very own.py"], ["can be imported"]),
        (["very_own", "--output", "own"], ["Python file"]),
        (["very_own", "--output", "own.py", "--in-repository"], ["not allowed with"]), ([], ["name"]),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_line(arguments, words, here):
    line = one_line_error(invoke("new", "method", *arguments))
    assert all(word in line for word in words), line
    assert not list(here.iterdir())
