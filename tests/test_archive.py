"""Archives: plain ones are extracted, others are refused in one line, and nothing leaves the target folder."""

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from benchmark.data.source import extract
from tests.conftest import complaint

CONTENT = {"glas/train_1.bmp": bytes(range(256)) * 30, "glas/deep/er/Grade.csv": b"two"}


def make(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path
    with tarfile.open(path, f"w:{path.suffix.removeprefix('.').removeprefix('tar')}") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return path


def refused(archive: Path, folder: Path, words: str, **options: int) -> None:
    text = complaint(extract, archive, folder, **options)
    assert str(archive) in text and words in text


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tar.xz"])
def test_whole_damaged_and_false_archives(tmp_path: Path, name: str) -> None:
    archive, folder = make(tmp_path / name, CONTENT), tmp_path / "target"
    extract(archive, folder)
    assert {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")} == CONTENT
    for content in (archive.read_bytes()[: archive.stat().st_size // 3], b"<html>404</html>" * 50):
        archive.write_bytes(content)
        refused(archive, tmp_path / "other", "could not be extracted")


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/tmp/evil-of-a-test.txt"])
def test_nothing_is_written_outside_the_target(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "deep" / "target"
    if name[0] != "/":  # tarfile takes the leading slash away, zipfile dots, too
        refused(make(tmp_path / "a.tar.gz", {name: b"x"}), folder, "could not be extracted")
    extract(make(tmp_path / "a.zip", {name: b"x"}), folder)
    assert not list(tmp_path.glob("*.txt")) + list(folder.parent.glob("*.txt")) and not Path(name).is_file()
    for kind in (tarfile.SYMTYPE, tarfile.CHRTYPE):
        refused(make(tmp_path / "a.tar", {"train_1.bmp": b""}, kind), folder, "could not be extracted")


@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_the_total_size_has_a_limit(tmp_path: Path, name: str) -> None:
    archive, folder = make(tmp_path / name, {str(number): bytes(1000) for number in range(3)}), tmp_path / "target"
    refused(archive, folder, "declare more than", limit=2999)
    assert not folder.exists(), "nothing is written before all sizes are known"
    extract(archive, folder, limit=3000)
