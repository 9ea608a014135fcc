"""Records of several results folders, brought into one: what contradicts what, what is new, and the copying."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any

from benchmark.errors import UserError
from benchmark.files import explain, sha256, write_atomically
from benchmark.run_lock import Watch, look
from benchmark.runs.folder import claim_of, folder_of
from benchmark.runs.records import read_counts, read_record, record_files, set_aside

ADVICE = "remove one (.json and .npz), or run the cell again with --overwrite"


@dataclass(frozen=True)
class Found:
    """A record that was read and is valid, as are its counts where it is `done`."""

    path: Path
    status: str
    exact: bool
    made: dict[str, Any]  # what two records of one result have in common: dotted key of the record -> value
    digest: str  # of the record's file

    @property
    def run_id(self) -> str:
        return self.path.stem


@dataclass
class Source:
    """One contributor's folder, and what becomes of its records (run ids)."""

    folder: Path
    brought: list[str] = field(default_factory=list)
    already_there: list[str] = field(default_factory=list)  # the target, or a folder before, has one that stands
    replaced: list[str] = field(default_factory=list)  # the target's was `failed`, and is set aside


@dataclass
class Plan:
    """What a merge would do; with `conflicts` (a line each) it is not done."""

    target: Path
    sources: list[Source]
    copies: list[tuple[Found, str]]  # a source's record; the digest of the failed one it replaces, or ""
    conflicts: list[str]


def plan(folders: Sequence[Path], results: Path) -> Plan:
    """Read everything and write nothing. Each of `folders` is a results folder, or the `records` in one.

    UserError for a folder without records, for the results folder itself, and for a record or counts that are damaged.
    """
    target = results / "records"
    read = [(folder, [find(path) for path in offered(folder, results)]) for folder in folders]
    cells: dict[str, list[Found]] = {}
    for _, found in read:
        for one in found:
            cells.setdefault(one.run_id, []).append(one)
    there = {run_id: find(path) for run_id in cells if (path := target / f"{run_id}.json").exists()}
    made = Plan(target, [], [], [])
    standing = {}
    for run_id, candidates in cells.items():
        if run_id in there:
            candidates.insert(0, there[run_id])
        made.conflicts += conflicts(candidates)
        standing[run_id] = next((one for one in candidates if one.status != "failed"), candidates[0])
    wanted, watch = [run_id for run_id in cells if standing[run_id] is not there.get(run_id)], Watch()
    watch.settle([claim_of(results, run_id) for run_id in wanted])
    for run_id in wanted:
        made.conflicts += at_work(results, run_id, watch)
    for folder, found in read:
        source = Source(folder)
        for one in found:
            if one is not standing[one.run_id]:
                source.already_there.append(one.run_id)
                continue
            before = there.get(one.run_id)
            (source.replaced if before else source.brought).append(one.run_id)
            made.copies.append((one, before.digest if before else ""))
        made.sources.append(source)
    return made


def offered(folder: Path, results: Path) -> list[Path]:
    """The records that a contributor's folder holds, in order of their names."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name a results folder, or the records folder in one")
    place = folder / "records" if (folder / "records").is_dir() else folder
    if any(own.is_dir() and place.samefile(own) for own in (results, results / "records")):
        raise UserError(f"{folder}: this is where records are brought to; name other folders, or another --results")
    if not (paths := record_files(place)):
        raise UserError(f"{folder}: no records in it; name a results folder, or the records folder in one")
    return paths


def find(path: Path) -> Found:
    """Read and validate one record and, where it is `done`, its counts."""
    record = read_record(path)
    if record["run_id"] != path.stem:
        raise UserError(f"{path}: the record of another run, '{record['run_id']}'; name it after that, or remove it")
    if record["status"] == "done":
        read_counts(path, record)
    made = {f"numerics.{key}": value for key, value in record["numerics"].items()}
    for key in ("fingerprint", "arrays_fingerprint", "split_fingerprint"):
        made[f"data.{key}"] = record["data"].get(key)
    made |= {key: record.get(key) for key in ("counts_sha256", "weights_sha256")}
    return Found(path, record["status"], record["exact"], made, sha256(path))


def conflicts(candidates: Iterable[Found]) -> list[str]:
    """One line for every two of these records, all of one run, that cannot both be right."""
    pairs = ((one, other, contradiction(one, other)) for one, other in combinations(candidates, 2))
    return [f"{one.path} and {other.path}: {how}; {ADVICE}" for one, other, how in pairs if how]


def contradiction(one: Found, other: Found) -> str:
    """How two records of one run contradict each other; empty where they do not.

    `failed` contradicts nothing: a crash says nothing of the cell, and `run` tries it again, too.
    """
    statuses = one.status, other.status
    if "failed" in statuses or statuses in (("diverged", "diverged"), ("skipped", "skipped")):
        return ""
    if statuses != ("done", "done"):
        return f"one is {one.status}, the other {other.status}"
    keys = dict.fromkeys([*one.made, *other.made])
    if not (one.exact and other.exact):  # then the same counts from slightly other weights are no contradiction
        del keys["weights_sha256"]
    pairs = [(key, one.made.get(key), other.made.get(key)) for key in keys]
    differ = [f"{key} is {str(a)[:12]} and {str(b)[:12]}" for key, a, b in pairs if a != b]
    return f"both are done, but {', '.join(differ)}" if differ else ""


def at_work(results: Path, run_id: str, watch: Watch) -> list[str]:
    """A line where a process runs this very cell: it would write its record over the one that is brought."""
    claim = claim_of(results, run_id)
    sight = look(claim)
    if sight is None or watch.judge(claim, sight) == "dead":
        return []
    return [f"{folder_of(results, run_id)}: {sight.holder} is at work on this run; wait for it, or stop it"]


def carry_out(planned: Plan) -> None:
    """Copy what the plan says, each record after its counts; ended in the middle, the same merge goes on from there.

    UserError where a file has changed since the plan was made, or cannot be written.
    """
    for source, before in planned.copies:
        bring(source, planned.target / source.path.name, before)


def bring(source: Found, path: Path, before: str) -> None:
    """Copy one record and its counts to `path`, unchanged. A record with digest `before` is there, and is set aside."""
    record = unchanged(source.path, source.digest)
    counts = None
    if source.status == "done":
        counts = unchanged(source.path.with_suffix(".npz"), source.made["counts_sha256"])
    try:
        if (sha256(path) if path.exists() else "") != before:
            raise UserError(f"{path}: written by another process just now; give the same command again")
        if before:
            set_aside(path)
    except OSError as error:
        raise explain(error, path) from None
    if counts is not None:
        write_atomically(path.with_suffix(".npz"), lambda stream: stream.write(counts))
    write_atomically(path, lambda stream: stream.write(record))


def unchanged(path: Path, digest: str) -> bytes:
    """What is in a file that was read before."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise explain(error, path) from None
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(f"{path}: changed while it was being merged; give the same command again")
    return content
