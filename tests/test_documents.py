"""What README and the tree promise."""

import ast
import re
import subprocess

from benchmark.config.schema import fields_of
from benchmark.registry import METHODS
from tests.conftest import ROOT
from tools import document_tables, methods_page


def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return listed.stdout.split("\n")[:-1]


def test_every_link_of_a_document_leads_somewhere():
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")):
        for link in re.findall(r"\]\(([^)#:]+)\)", path.read_text()):
            assert (path.parent / link).exists(), f"{path.name}: {link}"


def words_of(text: str) -> set[str]:
    """Identifiers of a source, and the words of its strings; comments and docstrings may cite literature."""
    tree = ast.parse(text)
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    words: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            words |= set(re.findall(r"\w+", node.value))
        for field in ("id", "attr", "name", "arg", "module"):
            words |= set(str(getattr(node, field, None) or "").split("."))
    return words


def test_words_of_code_are_found_and_those_of_docstrings_are_not():
    source = 'def f(x):\n    """As cps does."""\n    return g(x.urpc, method="cct-like")  # ensemble\n'
    assert words_of(source) >= {"urpc", "cct"} and not words_of(source) & {"cps", "ensemble"}


def test_the_harness_names_no_method():
    names = {*METHODS.names(), *(entry.class_name for entry in METHODS.entries())} - {"supervised"}  # plain English
    for path in tracked():
        if path.startswith("benchmark/") and path.endswith(".py"):
            assert not words_of((ROOT / path).read_text()) & names, path


def imported(text: str) -> set[str]:
    """First-level names of `benchmark` that a source imports: all three forms, at any indentation, over lines, too."""
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("benchmark.")}
        elif isinstance(node, ast.ImportFrom):
            package, *rest = (node.module or "").split(".")
            if package == "benchmark":
                names |= {rest[0]} if rest else {alias.name for alias in node.names}
    return names - {"__version__"}


def test_every_form_of_import_is_seen():
    source = (
        "from benchmark import (\n  runs as r,\n  seeds,\n)\nimport os, benchmark.training.step as s\n"
        "def f():\n    from benchmark.report import stats\nfrom benchmark import __version__\nimport benchmarks.x\n"
    )
    assert imported(source) == {"runs", "seeds", "training", "report"}


def test_imports_run_downwards():
    layers = [
        {"console", "docstring", "errors", "files", "machine", "paths", "randomness", "numerics", "ranges"},
        {"registry", "losses", "ema", "targets", "metrics", "protocols"},
        {"batches", "nets"}, {"config", "spec"}, {"data"}, {"method"},
        {"training", "templates"}, {"runs"}, {"profiling", "conformance", "models"},
        {"report"}, {"cli"}, {"__main__"},
    ]
    level = {name: number for number, names in enumerate(layers) for name in names}
    for path in (ROOT / "benchmark").rglob("*.py"):
        mine = path.relative_to(ROOT / "benchmark").parts[0].removesuffix(".py")
        if mine == "__init__":
            continue
        assert not re.search(r"^\s*from \.", path.read_text(), re.M), f"{path.name}: relative import"
        for name in imported(path.read_text()):
            assert level[name] <= level[mine], f"{path.name} ({mine}) imports {name}"


def test_methods_import_the_contract_alone():
    for path in (ROOT / "methods").glob("*.py"):
        for name in re.findall(r"^(?:from|import) benchmark\.(\w+)", path.read_text(), re.M):
            allowed = {"method", "ema", "losses", "ranges", "targets", "nets"}
            assert name in allowed, f"{path.name} imports benchmark.{name}"


def test_the_page_of_methods_is_current():
    """Written anew by `python -m tools.methods_page` from sources, presets, tests and records."""
    assert methods_page.PAGE.read_text() == methods_page.page()


def test_the_tables_of_the_documents_are_current():
    """Made anew by `python -m tools.document_tables` from the records."""
    texts = [path.read_text() for path in document_tables.PAGES]
    assert sorted(re.findall(r"<!-- made: (\w+)", "".join(texts))) == sorted(document_tables.BLOCKS)
    assert texts == [document_tables.page(text) for text in texts]


def test_every_method_says_who_and_when_and_the_test_of_its_mechanism_is_there():
    for entry in METHODS.entries():
        doc, wanted = entry.doc, fields_of(METHODS.load(entry.name))
        assert doc.summary.startswith(f"{entry.display} (") and entry.year and doc.loss, entry.name
        assert doc.arguments.keys() == wanted.keys() == entry.hyperparameters.keys(), entry.name
        assert all(doc.arguments.values()) and (doc.differs or entry.name in {"supervised", "ensemble"}), entry.name
        assert len(list(methods_page.mechanism_tests(entry.name))) >= 3, entry.name


def test_nothing_is_tracked_that_must_not_be():
    for path in tracked():
        assert not re.search(r"(train|testA|testB)_\d+(_anno)?\.(png|bmp|tif)", path), path
        assert not re.match(r"\.venv|data/|results/(runs|predictions|exports)/", path), path


def test_the_commands_of_readme_train_instead_of_finding_committed_records():
    text = (ROOT / "README.md").read_text()
    folder = text.index("export SEMIHISTO_RESULTS=results/local")
    assert folder < text.index("python -m benchmark run") and "/results/local/" in (ROOT / ".gitignore").read_text()
