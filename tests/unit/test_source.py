"""The working tree as steps see it: snapshots, digests and exports of real repositories."""

from __future__ import annotations

import os
import stat
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from dispatch.errors import SourceError
from dispatch.source import Git, Provenance, Repository, provenance
from dispatch.testing.repositories import ENVIRON, commit, contents, git, git_files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with a module, a script, a link, ignored files and one commit."""
    root = tmp_path / "re:po"
    (root / "pkg").mkdir(parents=True)
    git(root, "init", "-q")
    (root / "pkg" / "steps.py").write_text("x = 1\n")
    (root / "data.txt").write_text("data\n")
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "link").symlink_to("pkg/steps.py")
    (root / ".gitignore").write_text("*.log\n")
    commit(root)
    return root


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """An empty cache directory that does not exist yet."""
    return tmp_path / "cache"


@pytest.fixture
def repository(root: Path, cache: Path) -> Repository:
    """The repository, opened."""
    return Repository.open(root, Git(ENVIRON), cache)


def test_clean_tree_is_the_commit(root: Path, repository: Repository) -> None:
    """A clean tree is HEAD itself, without a snapshot."""
    ref = repository.snapshot()
    assert ref.commit == git(root, "rev-parse", "HEAD")
    assert ref.tree == git(root, "rev-parse", "HEAD^{tree}")
    assert (ref.dirty, ref.snapshot, ref.notices) == (False, None, ())


def test_dirty_tree_is_exported_exactly(root: Path, repository: Repository) -> None:
    """Changes, deletions, new files, links and executable bits arrive; ignored files do not."""
    (root / "pkg" / "steps.py").write_text("x = 2\n")
    (root / "data.txt").unlink()
    (root / "new file.py").write_text("n = 1\n")
    (root / "tool").write_text("#!/bin/sh\n")
    (root / "tool").chmod(0o700)
    (root / "dangling").symlink_to("nowhere")
    (root / "noise.log").write_text("noise")
    ref = repository.snapshot()
    expected = contents(root)
    del expected["noise.log"]
    assert ref.dirty
    assert contents(repository.export(ref)) == expected


def test_change_of_same_size_and_moment_is_seen(root: Path, repository: Repository) -> None:
    """A change that keeps size and time of a file written together with the index is not missed."""
    path = root / "pkg" / "steps.py"
    for number in range(30):
        path.write_text(f"x = {10 + number}\n")
        commit(root)
        path.write_text(f"x = {50 + number}\n")
        ref = repository.snapshot()
        assert (repository.export(ref) / "pkg" / "steps.py").read_text() == path.read_text()


def test_repository_is_not_written_to(root: Path, repository: Repository) -> None:
    """Neither index nor objects nor anything else in .git changes through a snapshot of a dirty tree."""
    os.utime(root / "data.txt", (1, 1))
    (root / "pkg" / "steps.py").write_text("x = 2\n")
    before = git_files(root)
    ref = repository.snapshot()
    repository.export(ref)
    assert git_files(root) == before


def test_snapshot_repeats(root: Path, repository: Repository, tmp_path: Path) -> None:
    """The same changes on the same commit give the same snapshot commit, in another cache too."""
    (root / "data.txt").write_text("other\n")
    other = Repository.open(root, Git(ENVIRON), tmp_path / "cache2")
    assert repository.snapshot().snapshot == other.snapshot().snapshot


def test_snapshot_commit_stands_on_head(root: Path, repository: Repository, cache: Path) -> None:
    """The snapshot is a commit with HEAD as its parent and HEAD's date."""
    (root / "data.txt").write_text("other\n")
    ref = repository.snapshot()
    assert ref.snapshot
    done = subprocess.run(
        ["git", "-C", str(root), "cat-file", "commit", ref.snapshot],
        env={**ENVIRON, "GIT_OBJECT_DIRECTORY": str(cache / "source" / "sha1.git" / "objects"),
             "GIT_ALTERNATE_OBJECT_DIRECTORIES": f'"{root / ".git" / "objects"}"'},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert f"tree {ref.tree}\nparent {ref.commit}\n" in done.stdout
    assert "1700000000 +0100" in done.stdout


@pytest.mark.parametrize("tracked", [False, True])
def test_excluded_directories_never_enter(root: Path, repository: Repository, tracked: bool) -> None:
    """An excluded directory stays out, whether git tracks it or not."""
    (root / "ws" / "deep").mkdir(parents=True)
    (root / "ws" / "deep" / "result").write_text("1")
    (root / "wsx").write_text("stays")
    if tracked:
        commit(root)
    ref = repository.snapshot([root / "ws", Path("/elsewhere")])
    names = contents(repository.export(ref))
    assert "wsx" in names
    assert not [name for name in names if name.startswith("ws/")]


def test_ignored_directory_may_be_excluded(root: Path, repository: Repository) -> None:
    """A directory that .gitignore names already is left out without a complaint."""
    (root / ".gitignore").write_text("workspace/\n")
    (root / "workspace").mkdir()
    (root / "workspace" / "result").write_text("1")
    exported = repository.export(repository.snapshot([root / "workspace"]))
    assert not (exported / "workspace").exists()


def test_root_cannot_be_excluded(root: Path, repository: Repository) -> None:
    """A workspace at the repository's root is refused."""
    with pytest.raises(SourceError, match="root of the repository"):
        repository.snapshot([root])


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"])
def test_callers_git_variables_do_not_redirect(
    root: Path, cache: Path, tmp_path: Path, variable: str
) -> None:
    """Variables that a hook or a shell left behind do not lead to another repository."""
    repository = Repository.open(root, Git({**ENVIRON, variable: str(tmp_path / "other")}), cache)
    assert repository.root == root
    assert not repository.snapshot().dirty


def test_worktree_and_detached_head(root: Path, cache: Path, tmp_path: Path) -> None:
    """A linked worktree with a detached HEAD is a repository like any other."""
    git(root, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    (tmp_path / "linked" / "data.txt").write_text("linked\n")
    repository = Repository.open(tmp_path / "linked" / "pkg", Git(ENVIRON), cache)
    ref = repository.snapshot()
    assert repository.root == tmp_path / "linked"
    assert (repository.export(ref) / "data.txt").read_text() == "linked\n"


def test_sha256_repository(tmp_path: Path, cache: Path) -> None:
    """A repository with SHA-256 object names works too."""
    root = tmp_path / "new"
    root.mkdir()
    git(root, "init", "-q", "--object-format=sha256")
    (root / "a.py").write_text("1")
    commit(root)
    (root / "a.py").write_text("2")
    repository = Repository.open(root, Git(ENVIRON), cache)
    ref = repository.snapshot()
    assert len(ref.tree) == 64
    assert (repository.export(ref) / "a.py").read_text() == "2"


def test_export_ignores_umask_and_export_ignore(root: Path, repository: Repository) -> None:
    """Modes are 755 and 644 under any umask, and files marked export-ignore are there."""
    (root / ".gitattributes").write_text("data.txt export-ignore\n")
    commit(root)
    before = os.umask(0o077)
    try:
        files = repository.export(repository.snapshot())
    finally:
        os.umask(before)
    modes = {str(path.relative_to(files)): stat.S_IMODE(path.lstat().st_mode) for path in files.rglob("*")}
    assert modes["data.txt"] == 0o644
    assert modes["run.sh"] == modes["pkg"] == stat.S_IMODE(files.stat().st_mode) == 0o755


def test_neither_hooks_nor_filters_run(root: Path, repository: Repository, tmp_path: Path) -> None:
    """Configured filters and hooks are not called, and their files are carried as they are stored."""
    trace = tmp_path / "trace"
    git(root, "config", "filter.spy.clean", f"touch '{trace}'; cat")
    git(root, "config", "filter.spy.smudge", f"touch '{trace}'; cat")
    git(root, "config", "filter.spy.required", "true")
    hook = root / ".git" / "hooks" / "post-index-change"
    hook.write_text(f"#!/bin/sh\ntouch '{trace}'\n")
    hook.chmod(0o755)
    (root / ".gitattributes").write_text("*.txt filter=spy\n")
    (root / "data.txt").write_text("spied\n")
    ref = repository.snapshot()
    assert (repository.export(ref) / "data.txt").read_text() == "spied\n"
    assert not trace.exists()


def test_exports_at_once_agree(root: Path, repository: Repository, cache: Path) -> None:
    """Exporters that meet give one whole tree and leave nothing else behind."""
    (root / "data.txt").write_text("other\n")
    ref = repository.snapshot()
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(repository.export(ref))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [cache / "source" / ref.tree] * 4
    assert contents(found[0]) == contents(root)
    assert list((cache / "source" / "tmp").iterdir()) == []


def edit_python(root: Path) -> None:
    """Change a module."""
    (root / "pkg" / "steps.py").write_text("x = 3\n")


def edit_data(root: Path) -> None:
    """Change a file that is no module."""
    (root / "data.txt").write_text("more\n")


def set_mode(root: Path) -> None:
    """Make a file executable."""
    (root / "data.txt").chmod(0o755)


def rename_python(root: Path) -> None:
    """Move a module."""
    (root / "pkg" / "steps.py").rename(root / "pkg" / "moved.py")


@pytest.mark.parametrize(
    ("change", "python", "pkg", "data"),
    [
        (edit_python, True, True, False),
        (edit_data, False, False, True),
        (set_mode, False, False, True),
        (rename_python, True, True, False),
    ],
)
def test_digests_follow_what_they_cover(
    root: Path, repository: Repository, change: Callable[[Path], None], python: bool, pkg: bool, data: bool
) -> None:
    """Each digest changes with the files it covers, and with no others."""

    def digests() -> tuple[str, str, str]:
        ref = repository.snapshot()
        paths = ["./data.txt", "run.sh"]
        return (
            repository.python_digest(ref),
            repository.tree_of(ref, ["pkg/"]),
            repository.tree_of(ref, paths),
        )

    before = digests()
    change(root)
    assert tuple(a != b for a, b in zip(before, digests(), strict=True)) == (python, pkg, data)


def test_order_of_paths_does_not_matter(repository: Repository) -> None:
    """The same set of paths has one digest, however it is written."""
    ref = repository.snapshot()
    one = repository.tree_of(ref, ["pkg", "data.txt"])
    assert one == repository.tree_of(ref, ["data.txt", "./pkg/", "pkg/steps.py"])


@pytest.mark.parametrize("path", ["pgk", "noise.log", "pkg/steps", "../x", "/etc", "", "pkg/../.."])
def test_paths_that_are_not_there(root: Path, repository: Repository, path: str) -> None:
    """A path with nothing in the tree, or outside of it, is an error that names it."""
    (root / "noise.log").write_text("ignored")
    with pytest.raises(SourceError, match="path '") as caught:
        repository.tree_of(repository.snapshot(), [path])
    assert repr(path) in caught.value.message
    assert caught.value.remedy


def test_no_repository(tmp_path: Path, cache: Path) -> None:
    """A directory outside of any repository is refused with a remedy."""
    with pytest.raises(SourceError, match="not in the work tree") as caught:
        Repository.open(tmp_path, Git({**ENVIRON, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}), cache)
    assert "git init" in caught.value.remedy


def test_unborn_head(tmp_path: Path, cache: Path) -> None:
    """A repository without a commit is refused with a remedy."""
    git(tmp_path, "init", "-q")
    with pytest.raises(SourceError, match="no commit yet") as caught:
        Repository.open(tmp_path, Git(ENVIRON), cache)
    assert "git commit" in caught.value.remedy


def test_git_missing(root: Path, cache: Path) -> None:
    """Without git the error says what to install."""
    with pytest.raises(SourceError, match="not found") as caught:
        Repository.open(root, Git({"PATH": str(root)}), cache)
    assert "install git" in caught.value.remedy


def test_foreign_owner(root: Path, cache: Path) -> None:
    """Where git distrusts a repository's owner, the error carries git's own remedy."""

    def distrust(words: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        message = f"fatal: detected dubious ownership in repository at '{root}'\n"
        return subprocess.CompletedProcess(words, 128, b"", message.encode())

    with pytest.raises(SourceError, match="another user owns") as caught:
        Repository.open(root, Git(ENVIRON, run=distrust), cache)
    assert caught.value.remedy.endswith(f"safe.directory {root}")


def test_missing_index(root: Path, repository: Repository) -> None:
    """A repository whose index file is gone is read against HEAD."""
    (root / ".git" / "index").unlink()
    assert not repository.snapshot().dirty


def test_provenance_keeps_no_credentials(root: Path) -> None:
    """A commit is described with branch, subject and remotes, whose addresses have lost user and password."""
    git(root, "remote", "add", "origin", "https://me:secret@example.org/team/repo.git")
    found = provenance(root, git(root, "rev-parse", "HEAD").strip())
    assert found.remotes == {"origin": "https://example.org/team/repo.git"}
    assert found.branch == git(root, "branch", "--show-current").strip()
    assert found.subject == git(root, "log", "-1", "--format=%s").strip()


def test_provenance_of_nothing(tmp_path: Path) -> None:
    """What cannot be read stays empty: a record never stops a run."""
    assert provenance(tmp_path, "0" * 40) == Provenance()


def test_python_files_that_changed_since_a_tree(root: Path, repository: Repository) -> None:
    """Between an earlier tree and a snapshot, committed or not, the modules that differ are named."""
    first = repository.snapshot()
    assert repository.changed_python(first.tree, first) == ()
    (root / "pkg" / "steps.py").write_text("x = 2\n")
    (root / "data.txt").write_text("other data\n")
    (root / "new.py").write_text("")
    second = repository.snapshot()
    assert repository.changed_python(first.tree, second) == ("new.py", "pkg/steps.py")
    (root / "new.py").unlink()
    assert repository.changed_python(second.tree, repository.snapshot()) == ("new.py",)


@pytest.mark.parametrize("tree", ["", "0" * 40, "--help", "HEAD", "a" * 64])
def test_a_tree_that_is_not_known(repository: Repository, tree: str) -> None:
    """What git does not have cannot be compared, and what is no object's name is not looked for."""
    assert repository.changed_python(tree, repository.snapshot()) is None
