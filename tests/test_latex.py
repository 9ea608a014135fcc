"""LaTeX and CSV say what the Markdown says, and LaTeX compiles as it is and inside another document."""

import csv
import io
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmark.report.build import group_tables, group_texts
from benchmark.report.csv_file import comma_separated
from benchmark.report.render import Bold, Table, latex, latex_document, markdown
from tests.made_records import native, only, record

ODD = Table(
    "50 % of $5 & more_#~^\\", "A {caption} | with <tags> “quotes”, ±, –, →, ß and 中.", ["[method]", "a_b"],
    [["[x] first", Bold("81.20 ± 0.30 [80, 82]")], ["\\input{/etc/passwd}", "–"]], ["A note: 100 %."],
)  # fmt: skip


def group():
    draws = [native((8, 2, 2), (6, 4, 4)), native((9, 1, 1), (7, 3, 3)), native((5, 5, 5), (5, 5, 5))]  # .7, .8, .5
    whole = [record("alpha", fold=fold, counts=counts) for fold, counts in enumerate(draws)]
    part = [record("beta", fold=0, counts=draws[0]), record("beta", fold=1, status="failed", reason="a | b & c_d")]
    return only(*whole, *part)


def whole_file(made, command):
    texts = group_texts([made], {made.name: group_tables(made, "strict")}, command, "strict")
    return next(text for path, text in texts.items() if path.suffix == ".tex")


def test_the_three_formats_agree_with_a_hand_calculation():
    made, tables = group(), group_tables(group(), "strict")
    text = markdown(tables[0])
    assert "| alpha | 66.67 ± 15.28 (n=3) [60.00, 73.33] |" in text.replace("**", "").replace("\\]", "]")
    assert "| beta | 70.00 (1/3) [60.00, 80.00] |" in text.replace("**", "").replace("\\]", "]")
    assert r"beta & 70.00 (1/3) {[}60.00, 80.00] \\" in latex(tables[0], "t", "glas")
    lines = list(csv.DictReader(io.StringIO(comma_separated(made, "abc"))))
    (alpha,) = [x for x in lines if (x["row"], x["protocol"], x["metric"]) == ("alpha", "strict", "dice")]
    shown = {key: alpha[key] for key in ("n", "wanted", "mean", "sd", "low", "high", "resampled_units", "labelled")}
    assert shown == {
        "n": "3", "wanted": "3", "mean": "0.666667", "sd": "0.152753", "low": "0.600000", "high": "0.733333",
        "resampled_units": "2", "labelled": "17",
    }  # fmt: skip
    (beta,) = [x for x in lines if (x["row"], x["protocol"], x["metric"]) == ("beta", "strict", "dice")]
    assert (beta["n"], beta["wanted"], beta["sd"], beta["status"]) == ("1", "3", "", "failed")
    assert {line["records"] for line in lines} == {"abc"} and alpha["devices"] == "a CPU" and alpha["engines"] == "1"


def test_cells_without_a_score_are_in_every_format():
    lost = [record("alpha", fold=fold, status="diverged", reason="nan") for fold in (0, 1)]
    made = only(*lost, record("beta", counts=native((8, 2, 2), patients="p")), record("beta", fold=1))
    tables = group_tables(made, "strict")
    assert "| alpha | diverged (0/2) |" in markdown(tables[0])
    assert r"alpha & diverged (0/2) \\" in latex(tables[0], "t", "glas")
    lines = list(csv.DictReader(io.StringIO(comma_separated(made, ""))))
    alpha = [line for line in lines if line["row"] == "alpha"]
    assert {(line["n"], line["wanted"], line["mean"], line["status"]) for line in alpha} == {("0", "2", "", "diverged")}


def test_tables_can_be_referred_to_and_warnings_travel_with_them():
    tex = whole_file(only(record("alpha"), record("beta", device="a GPU")), "a command")
    assert r"\label{tab:made-official-quick-dice-strict}" in tex and tex.count("Careful:") == tex.count(r"\label{")
    assert "2 models of a device" in tex
    assert r"\caption{Dice, strict (made, split official, preset quick).}" in tex
    shown = latex(Table("A", "", ["", "x"], [["a-1", "-0.5 [-1.2, +3]"]]), "t", "glas")
    assert r"a-1 & $-$0.5 {[}$-$1.2, +3]" in shown


def test_what_all_commands_set_beside_the_preset_is_told():
    made = [record("alpha"), record("beta")]
    for (content, _), settings in zip(made, ("--set train.steps=6 --set a=1", "--set train.steps=6"), strict=True):
        content["command"] = f"python -m benchmark run --method x --preset quick {settings}"
    assert "All runs change the preset quick: train.steps=6." in whole_file(only(*made), "a command")
    made[1][0]["command"] = "python -m benchmark run --method x"
    assert "All runs change" not in whole_file(only(*made), "a command")


def test_bold_stays_bold_and_nothing_of_a_name_is_a_command():
    text = latex(ODD, "t", "glas")
    assert "**81.20 ± 0.30 [80, 82]**" in markdown(ODD).replace("\\]", "]")
    assert r"\textbf{81.20 $\pm$ 0.30 {[}80, 82]}" in text
    assert r"\textbackslash{}input\{/etc/passwd\}" in text and "[U+4E2D]" in text
    assert r"50 \% of \$5 \& more\_\#" in text
    assert not re.search(r"(?<!\\)[#$&%_]", re.sub(r"\$\\\w+\$| & |{%\n", "", text)), "one that is not escaped"


@pytest.mark.tex
def test_latex_compiles_as_it_is_and_inside_another_document(tmp_path: Path):
    if not shutil.which("pdflatex"):
        pytest.skip("needs pdflatex with booktabs (Debian's texlive-latex-recommended)")
    (tmp_path / "tables.tex").write_text(whole_file(group(), "a command with 100 % _"), encoding="utf-8")
    (tmp_path / "odd.tex").write_text(latex_document([ODD], ["a comment\nin lines"], "odd", "glas"), encoding="utf-8")
    outer = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}Before."
    outer += r"\input{tables}\input{odd}After.\end{document}"
    (tmp_path / "paper.tex").write_text(outer)
    for name in ("tables", "odd", "paper"):
        line = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", f"{name}.tex"]
        made = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, errors="replace")
        assert made.returncode == 0 and (tmp_path / f"{name}.pdf").stat().st_size > 10_000, made.stdout[-2000:]
