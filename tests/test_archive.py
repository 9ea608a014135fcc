"""Archives that attack are refused in one line, before anything is written."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmark.data.archive import Limits, extract
from benchmark.errors import UserError

DEFAULT = Limits()
CONTENT = {"glas/train_1.bmp": b"one", "glas/deep/er/Grade.csv": b"two", "__MACOSX/glas/._train_1.bmp": b"junk"}


def make_zip(path: Path, members: dict[str, bytes], mode: int = 0, flags: int = 0) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            archive.writestr(info, content)
    return path


def make_tar(path: Path, members: list[tarfile.TarInfo], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(b"x" * member.size) if member.isreg() else None)
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


def refused(archive: Path, tmp_path: Path, *words: str, limits: Limits = DEFAULT) -> None:
    """One line that names the archive and the cause, and nothing new on the disk."""
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        extract(archive, tmp_path / "target", limits)
    text = str(caught.value)
    assert str(archive) in text and "\n" not in text
    assert all(word in text for word in words), text
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:xz"])
def test_good_archive(tmp_path: Path, mode: str) -> None:
    archive = tmp_path / ("a.zip" if mode == "zip" else "a.tar")
    if mode == "zip":
        make_zip(archive, CONTENT, mode=0o104777)
    else:
        with tarfile.open(archive, mode) as file:
            for name, content in CONTENT.items():
                file.addfile(member(name, size=len(content)), io.BytesIO(content))
    extract(archive, tmp_path / "target")
    files = {str(path.relative_to(tmp_path / "target")): path for path in (tmp_path / "target").rglob("*.*")}
    assert set(files) == {"glas/train_1.bmp", "glas/deep/er/Grade.csv"}
    assert files["glas/train_1.bmp"].read_bytes() == b"one"
    assert not files["glas/train_1.bmp"].stat().st_mode & 0o6111, "neither set-user-id nor executable"


@pytest.mark.parametrize("name", ["../evil.txt", "a/../../evil.txt", "/tmp/evil.txt", "C:\\evil.txt", "..\\evil.txt",
                                  "a\x00b.txt", "line\nbreak.txt"])
def test_paths_outside(tmp_path: Path, name: str) -> None:
    if "\x00" not in name:
        refused(make_tar(tmp_path / "a.tar.gz", [member(name, size=3)]), tmp_path, "outside")
    path = make_zip(tmp_path / "a.zip", {name.replace("\x00", "@"): b"x"})
    if "\x00" in name:
        path.write_bytes(path.read_bytes().replace(b"a@b", b"a\x00b"))
    refused(path, tmp_path, "outside")


@pytest.mark.parametrize(
    ("kind", "word"),
    [(tarfile.SYMTYPE, "a link"), (tarfile.LNKTYPE, "a link"), (tarfile.CHRTYPE, "neither"),
     (tarfile.BLKTYPE, "neither"), (tarfile.FIFOTYPE, "neither")],
)
def test_links_and_devices_in_tar(tmp_path: Path, kind: bytes, word: str) -> None:
    refused(make_tar(tmp_path / "a.tar", [member("train_1.bmp", kind, link="/etc/passwd")], "w"), tmp_path, word)


@pytest.mark.parametrize(("mode", "word"), [(0o120777, "a link"), (0o020666, "a device"), (0o010666, "a pipe")])
def test_links_and_devices_in_zip(tmp_path: Path, mode: int, word: str) -> None:
    refused(make_zip(tmp_path / "a.zip", {"train_1.bmp": b"/etc/passwd"}, mode), tmp_path, "train_1.bmp", word)


def test_absurd_sizes(tmp_path: Path) -> None:
    small = Limits(member_bytes=1000, total_bytes=2500, ratio=50, ratio_from_bytes=500, members=5)
    refused(make_zip(tmp_path / "a.zip", {"a": bytes(1001)}), tmp_path, "declared size", limits=small)
    many = {str(number): bytes(range(250)) * 3 for number in range(4)}
    refused(make_zip(tmp_path / "b.zip", many), tmp_path, "declared size", limits=small)
    refused(make_zip(tmp_path / "c.zip", {str(n): b"" for n in range(6)}), tmp_path, "members", limits=small)
    bomb = Limits(ratio=50, ratio_from_bytes=500)
    refused(make_zip(tmp_path / "d.zip", {"a": bytes(100_000)}), tmp_path, "to 1", limits=bomb)
    refused(make_tar(tmp_path / "e.tar.gz", [member("a", size=1_000_000)]), tmp_path, "to 1", limits=bomb)


def test_a_zip_that_lies_about_its_size(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": bytes(1 << 20)})
    path.write_bytes(path.read_bytes().replace(struct.pack("<L", 1 << 20), struct.pack("<L", 64)))
    with pytest.raises(UserError, match="damaged"):
        extract(path, tmp_path / "target")
    assert sum(file.stat().st_size for file in tmp_path.rglob("target/*")) <= 64


def test_a_tar_header_of_absurd_size(tmp_path: Path) -> None:
    """tarfile reads a long name at once: its declared size must not become memory."""
    header = bytearray(member("././@LongLink", tarfile.GNUTYPE_LONGNAME, size=7 << 30).tobuf(tarfile.GNU_FORMAT))
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) + bytes(10240))
    refused(path, tmp_path, "header")


@pytest.mark.parametrize("spoil", [
    lambda data: data[: len(data) // 2], lambda data: b"", lambda data: b"<html>404</html>" * 50,
    lambda data: data[:40] + b"\xff" * 20 + data[60:],
])
@pytest.mark.parametrize("name", ["a.zip", "a.tar.gz"])
def test_damaged(tmp_path: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / name
    if name == "a.zip":
        make_zip(path, {"a": bytes(range(256)) * 8})
    else:
        make_tar(path, [member("a", size=2048), member("b", size=99)])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UserError, match="damaged") as caught:
        extract(path, tmp_path / "target")
    assert str(path) in str(caught.value)


def test_encrypted_twice_and_missing(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", {"a": b"secret"})
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    refused(path, tmp_path, "encrypted")
    refused(make_tar(tmp_path / "a.tar", [member("a", size=1), member("./a", size=1)], "w"), tmp_path, "twice")
    refused(make_tar(tmp_path / "c.tar", [member("a", size=1)], "w").with_name("none.zip"), tmp_path, "no such")


def test_file_and_folder_of_one_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="same place"):
        extract(make_zip(tmp_path / "a.zip", {"a": b"1", "a/b": b"2"}), tmp_path / "target")
