"""Remotes: which one, at which address, and whether it has a commit; asked of real git over http."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.errors import DispatchError, RemoteError, SourceError
from dispatch.source import Git, Login, Remote, Repository
from dispatch.source.remotes import read
from dispatch.testing.githost import GitHost, hosting
from dispatch.testing.repositories import ENVIRON, commit, git, git_files, new

TOKEN = "t0ken-of-the-tests"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[GitHost]:
    """A host that asks for no password."""
    with hosting(GitHost(tmp_path / "host")) as host:
        yield host


@pytest.fixture
def root(tmp_path: Path, host: GitHost) -> Path:
    """A repository of two commits, pushed to the host as ``team/repo.git``."""
    root = new(tmp_path / "repo", a_txt="1\n")
    (root / "a.txt").write_text("2\n")
    commit(root)
    git(tmp_path, "clone", "-q", "--bare", str(root), "host/team/repo.git")
    git(root, "remote", "add", "origin", f"{host.url}/team/repo.git")
    return root


def opened(root: Path, **environ: str) -> Repository:
    """The repository, with a cache beside it."""
    return Repository.open(root, Git({**ENVIRON, **environ}), root.parent / "cache")


def holder(root: Path, commit: str = "", login: Login | None = None) -> str:
    """What the remote answers about a commit, by default HEAD."""
    repository = opened(root)
    return repository.holder(repository.remote(), commit or git(root, "rev-parse", "HEAD"), login)


@pytest.mark.parametrize(
    ("address", "url", "bare", "site"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git", True, "https://example.org"),
        ("https://t0ken@example.org/a", "https://example.org/a", False, "https://example.org"),
        ("http://u:p@ss@[::1]:81/a", "http://[::1]:81/a", False, "http://[::1]:81"),
        ("ssh://git@example.org:22/a", "ssh://git@example.org:22/a", True, ""),
        ("ssh://git:pass@example.org/a", "ssh://git@example.org/a", False, ""),
        ("git@example.org:team/a.git", "git@example.org:team/a.git", True, ""),
        ("example.org:a", "example.org:a", True, ""),
        ("file:///srv/a.git", "file:///srv/a.git", True, ""),
    ],
)
def test_addresses(address: str, url: str, bare: bool, site: str) -> None:
    """Every kind that a container can clone from, without user and password."""
    assert read("origin", address) == Remote("origin", url, bare, site)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "/srv/git/a.git",
        "../a.git",
        "./a:b",
        "ext::sh -c 'touch gone'",
        "--upload-pack=touch gone",
        "-oProxyCommand=gone:a",
        "ssh://-oProxyCommand=gone/a",
        "https://example.org",
        "https://example.org/a b",
        "https://exa'mple.org/a",
        "ftp://me:secret@example.org/a",
        "https://example.org/a\nb",
    ],
)
def test_addresses_that_are_refused(address: str) -> None:
    """What no container can clone from, and what would be an option or a command, is an error; no secrets."""
    with pytest.raises(SourceError, match="containers cannot clone") as caught:
        read("origin", address)
    assert "source: export" in caught.value.remedy
    assert "secret" not in caught.value.message


def test_which_remote(tmp_path: Path) -> None:
    """The one that is named, else origin, else the only one; otherwise somebody has to say."""
    root = new(tmp_path / "r", a_txt="1")
    with pytest.raises(SourceError, match="has no remote") as caught:
        opened(root).remote()
    assert "git remote add" in caught.value.remedy
    git(root, "remote", "add", "one", "https://example.org/one")
    assert opened(root).remote().name == "one"
    git(root, "remote", "add", "two", "https://example.org/two")
    with pytest.raises(SourceError, match="one, two") as caught:
        opened(root).remote()
    assert "remote: one" in caught.value.remedy
    git(root, "remote", "add", "origin", "https://example.org/origin")
    assert opened(root).remote().url == "https://example.org/origin"
    assert opened(root).remote("two").url == "https://example.org/two"
    with pytest.raises(SourceError, match="did you mean 'two'"):
        opened(root).remote("twoo")


def test_addresses_are_rewritten_as_the_user_wants(tmp_path: Path) -> None:
    """What the user's configuration makes of an address is what the container is given."""
    root = new(tmp_path / "r", a_txt="1")
    git(root, "remote", "add", "origin", "gh:team/x")
    git(root, "config", "url.https://example.org/.insteadOf", "gh:")
    assert opened(root).remote().url == "https://example.org/team/x"


def test_a_tip_is_there(root: Path, host: GitHost) -> None:
    """The tip of a branch needs one question, and nothing is fetched."""
    assert holder(root) == "refs/heads/main"
    assert not [path for path in host.asked if "POST" in path]
    assert len(host.asked) <= 3


def test_a_commit_behind_a_tip_is_there(root: Path, host: GitHost) -> None:
    """What the user's own repository knows of the tip is enough."""
    assert holder(root, git(root, "rev-parse", "HEAD~1")) == "refs/heads/main"
    assert len(host.asked) <= 3


@pytest.mark.parametrize("modern", [True, False])
def test_a_commit_behind_a_tip_that_is_not_known_here(root: Path, host: GitHost, modern: bool) -> None:
    """Others have pushed meanwhile: a modern host is asked by name, an old one for its history."""
    host.modern = modern
    other = root.parent / "other"
    git(root.parent, "clone", "-q", f"{host.url}/team/repo.git", "other")
    (other / "b.txt").write_text("b")
    commit(other)
    git(host.root / "team" / "repo.git", "fetch", "-q", str(other), "+main:main")
    before = git_files(root)
    assert holder(root) == ("" if modern else "refs/heads/main")
    assert git_files(root) == before
    assert list((root.parent / "cache" / "source" / "tmp").iterdir()) == []


@pytest.mark.parametrize("modern", [True, False])
def test_an_unpushed_commit_is_refused(root: Path, host: GitHost, modern: bool) -> None:
    """Whatever the user's repository believes: the message names commit, remote and the command."""
    host.modern = modern
    (root / "a.txt").write_text("3\n")
    head = commit(root)
    git(root, "update-ref", "refs/remotes/origin/main", "HEAD")
    with pytest.raises(SourceError, match=head[:12]) as caught:
        holder(root)
    assert "'origin'" in caught.value.message
    assert "git push origin HEAD" in caught.value.remedy


def test_an_empty_remote(root: Path, host: GitHost) -> None:
    """It has no commit at all."""
    shutil.rmtree(host.root / "team" / "repo.git")
    git(root.parent, "init", "-q", "--bare", "host/team/repo.git")
    with pytest.raises(SourceError, match="is not in the remote"):
        holder(root)


def test_sha256_is_asked_for_too(tmp_path: Path, host: GitHost) -> None:
    """A repository of SHA-256 objects."""
    root = new(tmp_path / "long", "--object-format=sha256", a_txt="1\n")
    git(tmp_path, "clone", "-q", "--bare", str(root), "host/long.git")
    git(root, "remote", "add", "origin", f"{host.url}/long.git")
    first = git(root, "rev-parse", "HEAD")
    (root / "a.txt").write_text("2\n")
    commit(root)
    assert holder(root, first)
    with pytest.raises(SourceError, match="is not in the remote"):
        holder(root)


def test_the_password_in_an_address_serves_the_question_only(root: Path, host: GitHost) -> None:
    """The user's own access is used to ask; the address that goes on has lost it."""
    host.password = TOKEN
    git(root, "remote", "set-url", "origin", f"http://me:{TOKEN}@127.0.0.1:{host.port}/team/repo.git")
    remote = opened(root).remote()
    assert (remote.bare, TOKEN in str(remote)) == (False, False)
    assert holder(root) == "refs/heads/main"
    assert host.users
    assert {*host.users} == {"me"}


def test_a_token_is_used_instead(root: Path, host: GitHost) -> None:
    """Where one is named it is what asks, under the given name, and the user's helpers hear nothing of it."""
    host.password = TOKEN
    git(root, "remote", "set-url", "origin", f"http://me:wrong@127.0.0.1:{host.port}/team/repo.git")
    heard = root.parent / "heard"
    git(root, "config", "credential.helper", f"!cat >>'{heard}'; true")
    assert holder(root, login=Login("robot", lambda: TOKEN + "\n")) == "refs/heads/main"
    assert {*host.users} == {"robot"}
    assert not heard.exists()


@pytest.mark.parametrize("token", ["wrong", ""])
def test_a_wrong_token(root: Path, host: GitHost, token: str) -> None:
    """The host's refusal is told, without the token, and with the remedy."""
    host.password = TOKEN
    with pytest.raises(SourceError, match="does not let us in") as caught:
        holder(root, login=Login("robot", lambda: token))
    assert "Authentication failed" in caught.value.message
    assert "token: SECRET" in caught.value.remedy


def test_a_token_goes_to_its_own_host_alone(root: Path, host: GitHost, tmp_path: Path) -> None:
    """A host that sends us elsewhere does not get the token sent there."""
    with hosting(GitHost(tmp_path / "host", password=TOKEN)) as other:
        repository = opened(root)
        remote = Remote("origin", f"{other.url}/team/repo.git", site=host.url)
        with pytest.raises(SourceError, match="does not let us in"):
            repository.holder(remote, git(root, "rev-parse", "HEAD"), Login("robot", lambda: TOKEN))
        assert other.asked
        assert other.users == []


@pytest.mark.parametrize(
    ("url", "kind", "said"),
    [
        ("http://127.0.0.1:9/x.git", RemoteError, "does not answer"),
        ("https://host.invalid/x.git", RemoteError, "does not answer"),
        ("git://127.0.0.1:9/x.git", RemoteError, "does not answer"),
        ("{host}/team/none.git", SourceError, "is not there"),
        ("file:///nowhere/x.git", SourceError, "is not there"),
    ],
)
def test_remotes_that_do_not_answer(
    root: Path, host: GitHost, url: str, kind: type[DispatchError], said: str
) -> None:
    """A host that is silent is another error than one that has no such repository."""
    git(root, "remote", "set-url", "origin", url.format(host=host.url))
    with pytest.raises(kind, match=said) as caught:
        holder(root)
    assert caught.value.remedy


def test_a_submodule_asks_its_own_remote(root: Path, host: GitHost) -> None:
    """Its git directory lies elsewhere and speaks of a work tree; ours does not."""
    around = new(root.parent / "around", x_txt="x")
    git(around, "submodule", "add", "-q", f"{host.url}/team/repo.git", "sub")
    assert holder(around / "sub") == "refs/heads/main"
