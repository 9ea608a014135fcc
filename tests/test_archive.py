"""Archives: plain ones are extracted, others are refused in one line, and nothing leaves the target folder."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.data.archive import extract
from benchmark.errors import UserError

CONTENT = {"glas/train_1.bmp": b"one", "glas/deep/er/Grade.csv": b"two", "__MACOSX/glas/._train_1.bmp": b"junk"}


def make_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def make_tar(path: Path, members: dict[str, bytes], kind: bytes = tarfile.REGTYPE, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            archive.addfile(info, io.BytesIO(content))
    return path


def complaint(archive: Path, tmp_path: Path, limit: int = 1 << 30) -> str:
    with pytest.raises(UserError) as caught:
        extract(archive, tmp_path / "deep" / "target", limit)
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz"])
def test_good_archive(tmp_path: Path, mode: str) -> None:
    if mode == "zip":
        extract(make_zip(tmp_path / "a.zip", CONTENT), tmp_path / "target")
    else:
        extract(make_tar(tmp_path / "a.tar", CONTENT, mode=mode), tmp_path / "target")
    files = {str(path.relative_to(tmp_path / "target")): path for path in (tmp_path / "target").rglob("*.*")}
    assert set(files) == {"glas/train_1.bmp", "glas/deep/er/Grade.csv"}
    assert files["glas/train_1.bmp"].read_bytes() == b"one"


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/tmp/evil-of-a-test.txt"])
def test_nothing_is_written_outside_the_target(tmp_path: Path, name: str) -> None:
    (tmp_path / "deep").mkdir()
    if name[0] != "/":  # tarfile takes the leading slash away, zipfile dots, too
        assert "refused" in complaint(make_tar(tmp_path / "a.tar.gz", {name: b"x"}), tmp_path)
    extract(make_zip(tmp_path / "a.zip", {name: b"x"}), tmp_path / "deep" / "target")
    assert not list(tmp_path.glob("*.txt")) + list((tmp_path / "deep").glob("*.txt")) and not Path(name).is_file()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.CHRTYPE])
def test_links_out_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    assert "refused" in complaint(make_tar(tmp_path / "a.tar", {"train_1.bmp": b""}, kind), tmp_path)


def test_the_total_size_has_a_limit(tmp_path: Path) -> None:
    many = {str(number): bytes(1000) for number in range(3)}
    for archive in (make_zip(tmp_path / "a.zip", many), make_tar(tmp_path / "a.tar.gz", many)):
        assert "declare more than" in complaint(archive, tmp_path, limit=2999)
        assert not (tmp_path / "deep").exists(), "nothing is written before all sizes are known"
        extract(archive, tmp_path / archive.name.replace(".", "_"), limit=3000)


@pytest.mark.parametrize("spoil", [lambda data: data[: len(data) // 2], lambda data: b"<html>404</html>" * 50])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_damaged_and_missing(tmp_path: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    path = (make_zip if name == "a.zip" else make_tar)(tmp_path / name, {"a": bytes(range(256)) * 8, "b": b"x"})
    path.write_bytes(spoil(path.read_bytes()))
    assert "damaged" in complaint(path, tmp_path)
    path.unlink()
    assert "no such archive" in complaint(path, tmp_path)
