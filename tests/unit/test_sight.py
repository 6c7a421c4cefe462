"""What is certain of an engine without asking it, and as whom its containers act."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from dispatch._docker import Address
from dispatch._docker.sight import OTHERS, REMAPPED, Sight

ADDRESS = Address("unix:///e.sock")


class Asked(Exception):
    """The engine was asked."""


class _Engine:
    def import_empty(self, label: str) -> str:
        raise Asked(label)


def _sight(
    proc: Path, options: Sequence[str] = (), peer: tuple[int, int] | None = (7, os.geteuid())
) -> Sight:
    info = {"SecurityOptions": list(options)}
    return Sight(ADDRESS, _Engine(), _Engine(), lambda: info, proc, lambda _: peer)  # type: ignore[arg-type]


def _process(proc: Path, pid: str, exe: str, namespace: str, root: Path) -> None:
    (proc / pid / "ns").mkdir(parents=True)
    (proc / pid / "exe").symlink_to(exe)
    (proc / pid / "ns" / "mnt").symlink_to(namespace)
    (proc / pid / "root").symlink_to(root)


@pytest.mark.parametrize(
    ("exe", "namespace", "root", "certain"),
    [
        ("/usr/bin/dockerd", "mnt:[1]", "here", True),
        ("/usr/bin/dockerd", "mnt:[2]", "here", False),
        ("/usr/bin/dockerd", "mnt:[1]", "there", False),
        ("/usr/bin/socat", "mnt:[1]", "here", False),
        ("/usr/lib/systemd/systemd", "mnt:[1]", "here", False),
    ],
)
def test_what_is_certain(tmp_path: Path, exe: str, namespace: str, root: str, certain: bool) -> None:
    """A dockerd in our own mount namespace and root sees what we see; of all others that has to be shown."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    _process(tmp_path / "proc", "7", exe, namespace, tmp_path / root)
    _process(tmp_path / "proc", "self", "/usr/bin/python3", "mnt:[1]", tmp_path / "here")
    sight = _sight(tmp_path / "proc")
    if certain:
        assert sight.obstacle([tmp_path]) == ""
    else:
        with pytest.raises(Asked):
            sight.obstacle([tmp_path])


@pytest.mark.parametrize("peer", [None, (7, 0)])
def test_process_that_cannot_be_looked_at(tmp_path: Path, peer: tuple[int, int] | None) -> None:
    """Where the process is in another namespace, or closed to us, the engine is asked."""
    with pytest.raises(Asked):
        _sight(tmp_path, peer=peer).obstacle([tmp_path])


@pytest.mark.parametrize(
    ("options", "user"),
    [
        (["name=seccomp,profile=default"], (7, 8)),
        (["name=rootless"], (0, 0)),
        (["name=seccomp", "name=userns"], (0, 0)),
    ],
)
def test_user(tmp_path: Path, options: list[str], user: tuple[int, int]) -> None:
    """Jobs run as the caller, or as root where root in a container is not root."""
    assert _sight(tmp_path, options).user(7, 8) == user


def test_engines_whose_users_are_others(tmp_path: Path) -> None:
    """Files that would belong to somebody else are never mounted, and nothing has to be asked for that."""
    assert _sight(tmp_path, ["name=userns"]).obstacle([tmp_path]) == REMAPPED
    stranger = _sight(tmp_path, ["name=rootless"], peer=(7, os.geteuid() + 1))
    assert stranger.obstacle([tmp_path]) == OTHERS
    with pytest.raises(Asked):
        _sight(tmp_path, ["name=rootless"]).obstacle([tmp_path])
