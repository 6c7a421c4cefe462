"""Repositories of every shape, made by real git: submodules, worktrees, shallow, partial and odd ones."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.errors import SourceError
from dispatch.source import Git, Provenance, Repository, provenance
from dispatch.source.difference import LIMIT
from dispatch.testing.repositories import ENVIRON, commit, contents, git, git_files, new

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12345\n"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache directory that does not exist yet."""
    return tmp_path / "cache"


def opened(root: Path, cache: Path) -> Repository:
    """The repository around a directory."""
    return Repository.open(root, Git(ENVIRON), cache)


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """A repository with a submodule ``lib`` that has a submodule ``deep``, all checked out."""
    deep = new(tmp_path / "deep.src", deep_py="d = 1\n")
    lib = new(tmp_path / "lib.src", lib_py="l = 1\n", _gitignore="*.log\n")
    git(lib, "submodule", "add", "-q", str(deep), "deep")
    commit(lib)
    root = new(tmp_path / "top", main_py="m = 1\n")
    git(root, "submodule", "add", "-q", str(lib), "lib")
    git(root, "submodule", "update", "-q", "--init", "--recursive")
    commit(root)
    return root


def test_submodules_come_along_at_any_depth(nested: Path, cache: Path) -> None:
    """A clean tree with submodules is the commit, and their files are exported and identified."""
    repository = opened(nested, cache)
    ref = repository.snapshot()
    assert (ref.dirty, ref.snapshot, ref.notices) == (False, None, ())
    assert contents(repository.export(ref)) == contents(nested)
    assert "lib/deep/deep.py" in contents(repository.export(ref))
    assert repository.tree_of(ref, ["lib/deep"]) != repository.tree_of(ref, ["lib/lib.py"])
    before = repository.python_digest(ref)
    (nested / "lib" / "deep" / "deep.py").write_text("d = 2\n")
    after = repository.snapshot()
    assert repository.python_digest(after) != before
    assert repository.changed_python(ref.tree, after) == ("lib/deep/deep.py",)


def test_changes_in_submodules_are_part_of_the_snapshot(nested: Path, cache: Path) -> None:
    """What is changed, new or deleted at any depth arrives; what the submodule ignores does not."""
    (nested / "lib" / "deep" / "new.txt").write_text("new\n")
    (nested / "lib" / "lib.py").write_text("l = 2\n")
    (nested / "lib" / "noise.log").write_text("noise\n")
    repository = opened(nested, cache)
    ref = repository.snapshot()
    expected = contents(nested)
    del expected["lib/noise.log"]
    assert ref.dirty
    assert ref.snapshot
    assert contents(repository.export(ref)) == expected
    said = repository.difference(ref).decode()
    assert "+++ b/lib/lib.py" in said
    assert "+++ b/lib/deep/new.txt" in said
    assert "noise" not in said
    assert opened(nested, cache).snapshot().snapshot == ref.snapshot


def test_a_submodule_at_another_commit_is_dirty(nested: Path, cache: Path) -> None:
    """The files that are checked out run, and the difference names both commits."""
    (nested / "lib" / "lib.py").write_text("l = 3\n")
    moved = commit(nested / "lib")
    repository = opened(nested, cache)
    ref = repository.snapshot()
    assert ref.dirty
    assert (repository.export(ref) / "lib" / "lib.py").read_text() == "l = 3\n"
    assert f"+Subproject commit {moved}" in repository.difference(ref).decode()


def test_no_repository_is_written_to(nested: Path, cache: Path) -> None:
    """Neither the repository nor the git directories of its submodules change."""
    (nested / "lib" / "deep" / "deep.py").write_text("d = 3\n")
    (nested / "main.py").write_text("m = 2\n")
    before = git_files(nested)
    repository = opened(nested, cache)
    ref = repository.snapshot()
    repository.export(ref)
    repository.difference(ref)
    assert git_files(nested) == before


def test_submodules_that_are_not_checked_out_are_said(nested: Path, cache: Path, tmp_path: Path) -> None:
    """They are empty directories, as they are for the user, and one sentence gives the command."""
    git(tmp_path, "clone", "-q", str(nested), "again")
    repository = opened(tmp_path / "again", cache)
    ref = repository.snapshot()
    (notice,) = ref.notices
    assert "empty directories for steps: lib" in notice
    assert "git submodule update --init" in notice
    assert not ref.dirty
    assert list((repository.export(ref) / "lib").iterdir()) == []
    git(tmp_path / "again", "submodule", "update", "-q", "--init")
    (notice,) = opened(tmp_path / "again", cache).snapshot().notices
    assert notice.startswith("in lib: ")
    assert ": deep (" in notice


def test_a_broken_submodule_is_an_error(nested: Path, cache: Path) -> None:
    """A submodule that leads nowhere, or to the repository around it, is named."""
    (nested / "lib" / ".git").write_text("gitdir: /nowhere\n")
    with pytest.raises(SourceError, match="/nowhere"):
        opened(nested, cache).snapshot()
    (nested / "lib" / ".git").unlink()
    (nested / "lib" / ".git").mkdir()
    with pytest.raises(SourceError, match="lib"):
        opened(nested, cache).snapshot()


def test_a_workspace_in_a_submodule_stays_out(nested: Path, cache: Path) -> None:
    """What is excluded is excluded at any depth."""
    (nested / "lib" / "ws").mkdir()
    (nested / "lib" / "ws" / "result").write_text("1")
    repository = opened(nested, cache)
    ref = repository.snapshot([Path("lib/ws")])
    assert not ref.dirty
    assert repository.snapshot([nested / "lib" / "ws"]).tree == ref.tree
    assert not (repository.export(ref) / "lib" / "ws").exists()


def test_a_submodule_is_a_repository_itself(nested: Path, cache: Path) -> None:
    """Work within a submodule: its root is the source's root, and its commit is recorded."""
    repository = opened(nested / "lib", cache)
    ref = repository.snapshot()
    assert repository.root == nested / "lib"
    assert ref.commit == git(nested / "lib", "rev-parse", "HEAD")
    assert contents(repository.export(ref)) == contents(nested / "lib")
    assert provenance(repository.root, ref.commit).subject == "change"


def test_a_repository_that_lies_in_another_comes_along(tmp_path: Path, cache: Path) -> None:
    """Nobody declared it a submodule, and yet it is part of the working tree."""
    root = new(tmp_path / "outer", a_txt="a\n")
    inner = new(root / "inner", b_txt="b\n")
    repository = opened(root, cache)
    ref = repository.snapshot()
    assert ref.dirty
    assert (repository.export(ref) / "inner" / "b.txt").read_text() == "b\n"
    assert opened(inner, cache).root == inner


# Each makes another kind of clone of a repository with the files a.txt and sub/b.txt and two commits.


def _shallow(source: Path, target: Path) -> None:
    git(target.parent, "clone", "-q", "--depth=1", f"file://{source}", target.name)


def _detached(source: Path, target: Path) -> None:
    git(target.parent, "clone", "-q", str(source), target.name)
    git(target, "checkout", "-q", "HEAD~1")


def _worktree(source: Path, target: Path) -> None:
    git(source, "worktree", "add", "-q", str(target), "-b", "side")


def _sparse(source: Path, target: Path) -> None:
    git(target.parent, "clone", "-q", str(source), target.name)
    git(target, "sparse-checkout", "set", "--sparse-index", "nothing")


def _borrowing(source: Path, target: Path) -> None:
    git(target.parent, "clone", "-q", "--shared", str(source), target.name)


def _several_remotes(source: Path, target: Path) -> None:
    git(target.parent, "clone", "-q", str(source), target.name)
    git(target, "remote", "add", "other", "https://me:secret@example.org/x.git")
    git(target, "remote", "add", "empty", "")


def _no_remote(source: Path, target: Path) -> None:
    git(target.parent, "clone", "-q", str(source), target.name)
    git(target, "remote", "remove", "origin")


def _partial(source: Path, target: Path) -> None:
    git(source, "config", "uploadpack.allowFilter", "true")
    git(target.parent, "clone", "-q", "--filter=blob:none", f"file://{source}", target.name)


SHAPES = [
    _shallow,
    _detached,
    _worktree,
    _sparse,
    _borrowing,
    _several_remotes,
    _no_remote,
    _partial,
]


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_clone(tmp_path: Path, cache: Path, shape: Callable[[Path, Path], None]) -> None:
    """Clean it is the commit, dirty its working tree; it is recorded, and nothing of it is written to."""
    source = new(tmp_path / "source", a_txt="1\n", sub__b_txt="b\n")
    (source / "a.txt").write_text("2\n")
    commit(source)
    target = tmp_path / "target"
    shape(source, target)
    head = git(target, "rev-parse", "HEAD")
    repository = opened(target, cache)
    ref = repository.snapshot()
    assert (ref.commit, ref.dirty, ref.notices) == (head, False, ())
    files = {"a.txt", "sub/b.txt"}
    assert set(contents(repository.export(ref))) == files
    (target / "new.txt").write_text("new\n")
    before = git_files(target) if (target / ".git").is_dir() else {}
    changed = repository.snapshot()
    exported = repository.export(changed)
    assert set(contents(exported)) == files | {"new.txt"}
    assert (exported / "a.txt").read_text() == ("1\n" if shape is _detached else "2\n")
    assert b"+new" in repository.difference(changed)
    if before:
        assert git_files(target) == before
    known = provenance(repository.root, ref.commit)
    assert known.subject == "change"
    assert "secret" not in str(known)
    assert known.branch == ("" if shape is _detached else git(target, "branch", "--show-current"))


def test_a_partial_clone_without_its_files(tmp_path: Path, cache: Path) -> None:
    """Files that were never fetched, from a remote that is gone, are an error with the remedy."""
    source = new(tmp_path / "source", a_txt="1\n", sub__b_txt="b\n")
    git(source, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{source}", "target")
    git(tmp_path / "target", "sparse-checkout", "set", "nothing")
    git(tmp_path / "target", "checkout", "-q")
    source.rename(tmp_path / "gone")
    repository = opened(tmp_path / "target", cache)
    with pytest.raises(SourceError, match="cannot be exported") as caught:
        repository.export(repository.snapshot())
    assert "partial clone" in caught.value.remedy
    assert provenance(repository.root, repository.snapshot().commit).subject == "change"


def test_files_outside_of_a_sparse_checkout(tmp_path: Path, cache: Path) -> None:
    """What was made there by hand comes along, and what is not checked out is there as committed."""
    source = new(tmp_path / "source", a_txt="1\n", out__b_txt="b\n", out__c_txt="c\n")
    git(tmp_path, "clone", "-q", str(source), "target")
    root = tmp_path / "target"
    git(root, "sparse-checkout", "set", "--cone", "nothing")
    (root / "out").mkdir()
    (root / "out" / "b.txt").write_text("changed\n")
    (root / "out" / "new.txt").write_text("new\n")
    repository = opened(root, cache)
    found = {name: text for name, (_, text, _) in contents(repository.export(repository.snapshot())).items()}
    assert found == {
        "a.txt": b"1\n",
        "out/b.txt": b"changed\n",
        "out/c.txt": b"c\n",
        "out/new.txt": b"new\n",
    }


def test_a_bare_repository_is_refused(tmp_path: Path, cache: Path) -> None:
    """There is no working tree to run from, and provenance stays empty."""
    git(tmp_path, "init", "-q", "--bare", "bare")
    with pytest.raises(SourceError, match="not in the work tree"):
        opened(tmp_path / "bare", cache)
    assert provenance(tmp_path / "bare", "0" * 40) == Provenance()


def test_provenance_of_sha256_objects(tmp_path: Path) -> None:
    """What the library cannot read stays empty, and stops nothing."""
    root = new(tmp_path / "new", "--object-format=sha256", a_py="1")
    assert isinstance(provenance(root, git(root, "rev-parse", "HEAD")), Provenance)


@pytest.mark.parametrize(
    "url",
    [
        "https://user:pa@ss@example.org/x.git",
        "https://token@example.org/x.git",
        "ssh://git:pass@example.org/x.git",
        "https://example.org/x.git?private_token=pass",
    ],
)
def test_addresses_lose_their_credentials(tmp_path: Path, url: str) -> None:
    """However they are written into an address of a remote."""
    root = new(tmp_path / "r", a_txt="1")
    git(root, "remote", "add", "origin", url)
    found = provenance(root, git(root, "rev-parse", "HEAD")).remotes["origin"]
    assert found.split("://")[1] == "example.org/x.git"


ODD = [
    "a b",
    "-n",
    "new\nline",
    "tab\t",
    'quo"te',
    "back\\slash",
    "é",
    ":(top)x",
    "*?[a]",
    ".hidden",
    "$(id)",
]


def test_odd_names_links_and_modes(tmp_path: Path, cache: Path) -> None:
    """Any name git takes, a name that is not UTF-8, links out of the tree, and executable bits arrive."""
    root = new(tmp_path / "we ird:\\\"'é", a_txt="1")
    for name in ODD:
        (root / name).mkdir()
        (root / name / name).write_text(name)
    (root / os.fsdecode(b"\xff.bin")).write_bytes(b"\xff")
    (root / "out").symlink_to("../../etc")
    (root / "absolute").symlink_to("/etc/passwd")
    (root / "loop").symlink_to("loop")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o4755)
    os.mkfifo(root / "pipe")
    repository = opened(root, cache)
    exported = repository.export(repository.snapshot())
    assert contents(exported) == contents(root)
    assert (exported / "run").stat().st_mode & 0o7777 == 0o755
    commit(root)
    ref = repository.snapshot()
    assert not ref.dirty
    assert contents(repository.export(ref)) == contents(root)


def test_lfs_pointers_are_counted(nested: Path, cache: Path) -> None:
    """One sentence for all of them, submodules included; what is not a pointer is not counted."""
    (nested / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    (nested / "lib" / ".gitattributes").write_text("*.bin filter=lfs\n")
    (nested / "real.bin").write_text("the file itself\n")
    ref = opened(nested, cache).snapshot()
    assert ref.notices == ()
    for place in ("a.bin", "lib/b.bin", "c.txt"):
        (nested / place).write_text(POINTER.format("0" * 64))
    (notice,) = opened(nested, cache).snapshot().notices
    assert "2 pointers" in notice
    assert "a.bin" in notice
    assert "git-lfs in the image" in notice


def test_a_difference_can_be_applied(tmp_path: Path, cache: Path) -> None:
    """Changes, deletions and new files make a patch that gives the working tree; binary files are named."""
    root = new(tmp_path / "r", a_txt="1\n", gone_txt="x\n")
    git(tmp_path, "clone", "-q", str(root), "again")
    (root / "a.txt").write_text("2\n")
    (root / "gone.txt").unlink()
    (root / "new file.txt").write_text("new\n")
    git(root, "config", "diff.external", "false")
    git(root, "config", "color.ui", "always")
    repository = opened(root, cache)
    patch = repository.difference(repository.snapshot())
    (tmp_path / "p").write_bytes(patch)
    git(tmp_path / "again", "apply", str(tmp_path / "p"))
    assert contents(tmp_path / "again") == contents(root)
    (root / "data.bin").write_bytes(bytes(range(256)))
    assert b"b/data.bin differ" in repository.difference(repository.snapshot())


def test_a_difference_is_bounded(tmp_path: Path, cache: Path) -> None:
    """What is too long is cut at a line, says so, and lists all files; huge files are only named."""
    root = new(tmp_path / "r", a_txt="1\n")
    for number in range(12):
        (root / f"n{number:02}.txt").write_text("line\n" * 30_000)
    (root / "huge.txt").write_text("line\n" * 1_000_000)
    repository = opened(root, cache)
    said = repository.difference(repository.snapshot())
    assert LIMIT - 100 < len(said) < LIMIT + 5000
    assert b"\n# The rest is left out" in said
    assert b"n11.txt" in said
    assert b"huge.txt" in said
    assert b"\n+line\n+line" in said


def test_a_clean_state_does_not_differ(nested: Path, cache: Path) -> None:
    """Then there is nothing to keep."""
    repository = opened(nested, cache)
    assert repository.difference(repository.snapshot()) == b""
