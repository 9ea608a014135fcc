"""What tests share: one thread, a small prepared synthetic set, and a way to call the command line."""

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).resolve().parent.parent
TINY = {
    "data.size": 32, "train.steps": 12, "train.batch_labelled": 3, "train.batch_unlabelled": 3, "evaluate.times": 2,
}


@pytest.fixture(autouse=True, scope="session")
def _prepared_root(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Prepared data of the tests lie in one temporary folder, for all workers and the processes that tests start."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["SEMIHISTO_PREPARED"] = str(shared / "prepared")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A file's tests run in one worker, unless they name another group; files that take long come first.

    Those that mostly wait come before all: no core idles at the end.
    """
    for item in items:
        if item.get_closest_marker("xdist_group") is None:
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    ranks: dict[Path, int] = {}
    for item in items:
        marks = {marker.name for marker in item.iter_markers()}
        rank = 0 if marks & {"slurm", "kill"} else 1 if "slow" in marks else 2
        ranks[item.path] = min(rank, ranks.get(item.path, 2))
    items.sort(key=lambda item: ranks[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """In CI, which installs what `tex`, `browser`, `slurm` and `minilm` tests need, one that is skipped has failed."""
    report = yield
    tools = {"tex", "browser", "slurm", "minilm"} & {marker.name for marker in item.iter_markers()}
    if report.skipped and tools and os.environ.get("SEMIHISTO_TOOLS") == "all":
        report.outcome, report.longrepr = "failed", f"skipped although all tools should be here: {report.longrepr}"
    return report


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _folder_with(name: str, images: int) -> Path:
    """The folder of raw data sets that has this one, of so many images and masks: the user's, or the one beside us."""
    for folder in (Path(os.environ.get("SEMIHISTO_DATA") or ROOT / "data"), ROOT.parent / "shared" / "data"):
        if sum(path.suffix in {".bmp", ".png"} for path in (folder / name).rglob("*")) == images:
            return folder
    pytest.skip(f"the images of {name} are not here")


@pytest.fixture(scope="session")
def real_glas() -> Path:
    """A folder of raw data sets, with the real GlaS."""
    return _folder_with("glas", 330)


@pytest.fixture(scope="session")
def real_ebhi() -> Path:
    """A folder of raw data sets, with the quarter of EBHI-Seg that has lists in configs/splits."""
    return _folder_with("ebhi-seg", 1066)


def command(*arguments: str, timeout: float = 300, **options) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmark ARGUMENTS` from the repository's root."""
    line = [sys.executable, "-m", "benchmark", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=timeout, **options)


@contextlib.contextmanager
def handlers_kept() -> Iterator[None]:
    """Signals are handled afterwards as they were before."""
    told = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
    handlers = {number: signal.getsignal(number) for number in told}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def invoke(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The same in this process, which has torch imported already."""
    from benchmark.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with handlers_kept(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main([str(argument) for argument in arguments])
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def tiny_settings(**more: object) -> list[str]:
    """`--set` arguments that make a run of a second."""
    pairs = TINY | {key.replace("__", "."): value for key, value in more.items()}
    return [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]


def demo_run(
    results: Path, method: str = "supervised", *more: object, dataset: object = "synthetic", **settings: object,
) -> subprocess.CompletedProcess[str]:
    """A run of a second in this process."""
    line = ["--method", method, "--dataset", dataset, "--preset", "demo", "--results", results]
    return invoke("run", *line, *tiny_settings(**settings), *more)


def edit_json(path: Path, **changes: object) -> dict[str, Any]:
    """Write a JSON file anew with these keys; its content before."""
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | changes))
    return content


def one_line_error(result: subprocess.CompletedProcess[str], code: int = 2) -> str:
    """Assert the exit code and that stderr ends in one clear line without a traceback; returns that line."""
    assert result.returncode == code, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


@contextlib.contextmanager
def refused(*words: str) -> Iterator[None]:
    """What is done in the block is a user's mistake, which is told in these words, among others."""
    from benchmark.errors import UserError

    with pytest.raises(UserError) as caught:
        yield
    assert all(word in str(caught.value) for word in words), str(caught.value)


def complaint(function: Callable[..., object], *arguments: Any, **options: Any) -> str:
    """What a user is told by a function that refuses these arguments."""
    from benchmark.errors import UserError

    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    return str(caught.value)


def read_records(folder: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """All records of a folder in order of their names, each with its counts."""
    from benchmark.runs.run_files import read_counts, read_record, record_files

    return [(record := read_record(path), read_counts(path, record)) for path in record_files(folder)]
