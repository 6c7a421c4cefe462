"""What is listed of an engine's images, and what may go: by age, number and size, never what is needed."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from dispatch._docker.stock import HistoryStep, ImageUser
from dispatch.environment import Environment, LocalId
from dispatch.image.cachefiles import cached_files
from dispatch.image.holdings import Holdings, survey
from dispatch.image.prune import Bounds, Kind, Pruning, carry_out, plan
from dispatch.image.usage import Declarer, UsageIndex
from dispatch.testing.catalogue import pip_image
from dispatch.testing.stock import FakeStock, digest_of

BASE = {"base": 100}


def surveyed(stock: FakeStock, root: Path) -> Holdings:
    """What an engine holds, where nothing is known of uses but when names were given."""
    return survey(stock, UsageIndex(root / "usage"))


def gone(pruning: Pruning) -> list[str]:
    """The names of the images that go, in order."""
    return [item.name for item in pruning.items if item.kind is Kind.IMAGE]


def family() -> FakeStock:
    """A base of 100 bytes; on it three images of one name, and another; each of 10 bytes and its own age."""
    stock = FakeStock()
    base = stock.add("base", BASE, 1)
    for age, name in enumerate(("ml@1", "ml@2", "other", "ml@3"), start=2):
        stock.add(name, {**BASE, name: 10}, age, base=base)
    return stock


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (Bounds(since=0.0), []),
        (Bounds(since=3.0), ["ml"]),
        (Bounds(since=4.0), ["ml", "ml"]),
        (Bounds(since=9.0), ["ml", "ml", "other", "ml", "base"]),
        (Bounds(since=9.0, keep=1), ["ml", "ml"]),
        (Bounds(keep=1), ["ml", "ml"]),
        (Bounds(keep=2), ["ml"]),
        (Bounds(keep=0), ["ml", "ml", "other", "ml", "base"]),
        (Bounds(max_size=140), []),
        (Bounds(max_size=139), ["ml"]),
        (Bounds(max_size=125), ["ml", "ml"]),
        (Bounds(max_size=1), ["ml", "ml", "other", "ml", "base"]),
        (Bounds(max_size=1, keep=1), ["ml", "ml"]),
        (Bounds(since=3.0, max_size=125), ["ml", "ml"]),
    ],
)
def test_bounds(bounds: Bounds, expected: list[str], tmp_path: Path) -> None:
    """The longest unused go first, a base with the last that stands on it; what is kept by number stays."""
    pruning = plan(surveyed(family(), tmp_path), (), bounds)
    assert gone(pruning) == expected
    assert sum(item.size for item in pruning.items) == 10 * len(expected) + 90 * ("base" in expected)


def test_what_may_not_go(tmp_path: Path) -> None:
    """An image that a container has, that somebody named, or that another stands on stays; it is said why."""
    stock = FakeStock()
    base = stock.add("base", BASE, 1)
    used = stock.add("used", {**BASE, "u": 1}, 1, base=base)
    stock.add("named", {"n": 1}, 1)
    named = f"sha256:{digest_of('named')}"
    held = stock.held[named]
    stock.held[named] = replace(held, record=replace(held.record, tags=(*held.record.tags, "me/mine:1")))
    stock.containers = [ImageUser("dispatch-step-1", used, "running")]
    for bounds in (Bounds(since=9.0), Bounds(keep=0), Bounds(max_size=1)):
        pruning = plan(surveyed(stock, tmp_path), (), bounds)
        assert pruning.items == ()
        assert {image.title: why for image, why in pruning.kept} == {
            "base": "used stands on it",
            "named": "somebody named it me/mine:1",
            "used": "container dispatch-step-1 has it (running)",
        }
    assert "102 B stay" in plan(surveyed(stock, tmp_path), (), Bounds(max_size=1)).note


def test_what_we_did_not_build(tmp_path: Path) -> None:
    """An image that others made on ours inherits the labels, and still is not ours, named or unnamed."""
    stock = FakeStock()
    base = stock.add("base", BASE, 1)
    for name, tags in {
        "theirs": ("theirs:1",),
        "dangling": (),
        "sly": ("dispatch:sly--0123456789abcdef",),
    }.items():
        stock.add(name, {**BASE, name: 5}, 1, base=base, tags=tags)
        identity = f"sha256:{digest_of(name)}"
        stock.histories[identity] = (HistoryStep("dispatch: base layer", 100), HistoryStep("RUN make", 5))
    stock.add("beaker", {"b": 1}, 1, tags=("dispatch-beaker:01ABC",))
    stock.add(
        "pushed", {"p": 1}, 1, tags=(f"localhost:5000/dispatch:pushed--{digest_of('digest of pushed')[:16]}",)
    )
    holdings = surveyed(stock, tmp_path)
    assert sorted(image.title for image in holdings.images) == ["<unnamed>", "base", "pushed"]
    # What they share with ours is not freed by removing ours.
    assert holdings.total() == 2
    assert next(image for image in holdings.images if image.names == ("base",)).shared == 100


def test_an_unknown_age_is_old_and_a_use_counts_for_what_is_below(tmp_path: Path) -> None:
    """Without any time an image counts as unused; the use of an image is a use of its base."""
    stock = FakeStock()
    base = stock.add("base", BASE, None)
    upon = stock.add("upon", {**BASE, "u": 1}, None, base=base)
    assert gone(plan(surveyed(stock, tmp_path), (), Bounds(since=1.0))) == ["upon", "base"]
    environment = Environment("upon", pip_image("upon"), tmp_path / "experiment.yml")
    usage = UsageIndex(tmp_path / "usage")
    usage.note({"upon": LocalId(upon)}, {"upon": environment})
    holdings = surveyed(stock, tmp_path)
    assert gone(plan(holdings, (), Bounds(since=1.0))) == []
    assert [image.by for image in holdings.images if image.id == upon] == [
        (Declarer("upon", tmp_path / "experiment.yml"),)
    ]
    usage.forget(upon)
    assert usage.of(upon).by == () and not list((tmp_path / "usage").iterdir())


def test_uses_survive_rubbish(tmp_path: Path) -> None:
    """A damaged file of the index, or a directory that cannot be written, costs an age and nothing else."""
    usage = UsageIndex(tmp_path / "usage")
    environment = Environment("env", pip_image("env"), tmp_path / "experiment.yml")
    image = LocalId(f"sha256:{'0' * 64}")
    usage.note({"env": image}, {"env": environment})
    (tmp_path / "usage" / ("0" * 64) / "x.json").write_text("{")
    assert [each.name for each in usage.of(image.id).by] == ["env"]
    (tmp_path / "file").write_text("")
    UsageIndex(tmp_path / "file").note({"env": image}, {"env": environment})
    assert UsageIndex(tmp_path / "file").of(image.id).last is None
    assert "(gone)" in str(usage.of(image.id).by[0])


def cache(root: Path, layers: Mapping[str, float], pieces: Mapping[str, float]) -> Path:
    """A cache with layers of 4 bytes by diff ID, and compiled packages of 2, each with its last use."""
    for kind, files in {"layers": layers, "bytecode": pieces}.items():
        (root / kind).mkdir(parents=True)
        for name, last in files.items():
            path = root / kind / (f"{name}.tar" if kind == "layers" else f"{name}.pyc")
            path.write_bytes(b"four" if kind == "layers" else b"22")
            os.utime(path, (last, last))
            if kind == "layers":
                path.with_suffix(".json").write_text(f'{{"diff_id": "sha256:{digest_of(name)}", "size": 4}}')
    return root


def test_caches(tmp_path: Path) -> None:
    """Cached layers and packages go by age and size, and a layer with the last image that has it."""
    place = cache(tmp_path / "cache", {"ml@1": 9.0, "old": 1.0, "ml@2": 9.0}, {"piece": 1.0, "young": 9.0})
    holdings = surveyed(family(), tmp_path)

    def files(bounds: Bounds) -> list[str]:
        found = plan(holdings, cached_files(place), bounds).items
        return [item.file.path.name for item in found if item.file is not None]

    assert files(Bounds(since=2.5)) == ["ml@1.tar", "old.tar", "piece.pyc"]
    assert files(Bounds(keep=2)) == ["ml@1.tar"]
    assert files(Bounds(max_size=140 + 4)) == ["old.tar", "piece.pyc"]
    assert files(Bounds(since=0.0)) == []


def test_a_layer_that_others_still_have_stays(tmp_path: Path) -> None:
    """A cached layer does not go with an image where another image keeps it."""
    place = cache(tmp_path / "cache", {"base": 9.0}, {})
    pruning = plan(surveyed(family(), tmp_path), cached_files(place), Bounds(keep=1))
    assert [item.kind for item in pruning.items] == [Kind.IMAGE, Kind.IMAGE]


def test_carried_out(tmp_path: Path) -> None:
    """What a plan lets go goes, with files and what is known of uses; a second plan is empty."""
    stock = family()
    place = cache(tmp_path / "cache", {"ml@1": 1.0}, {"piece": 1.0})
    usage = UsageIndex(tmp_path / "usage")
    pruning = plan(survey(stock, usage), cached_files(place), Bounds(since=9.0))
    went, stayed = carry_out(pruning, stock, tmp_path / "locks", usage)
    assert (len(went), stayed, stock.held) == (7, [], {})
    assert [path.name for path in place.rglob("*") if path.is_file()] == []
    assert plan(survey(stock, usage), cached_files(place), Bounds(since=9.0)).items == ()


def test_names_in_several_repositories(tmp_path: Path) -> None:
    """An image with our names in two repositories loses each of them, digests of registries included."""
    stock = FakeStock()
    identity = stock.add("ml", {"m": 1}, 1)
    record = stock.held[identity].record
    tags = (*record.tags, f"reg.example.org:5000/{record.tags[0]}")
    digests = ("reg.example.org:5000/dispatch@sha256:" + "0" * 64,)
    stock.held[identity] = replace(stock.held[identity], record=replace(record, tags=tags, digests=digests))
    usage = UsageIndex(tmp_path / "usage")
    _, stayed = carry_out(plan(survey(stock, usage), (), Bounds(keep=0)), stock, tmp_path / "locks", usage)
    assert (stayed, stock.held) == ([], {})
    assert sorted(stock.removed) == sorted((*digests, *tags))


def test_a_last_look(tmp_path: Path) -> None:
    """What a container has taken, a build is at work on, or a run has used since the plan stays."""
    stock = FakeStock()
    for name in ("taken", "built", "used"):
        stock.add(name, {name: 1}, 1)
    usage = UsageIndex(tmp_path / "usage")
    pruning = plan(survey(stock, usage), (), Bounds(since=9.0))
    stock.containers = [ImageUser("new", f"sha256:{digest_of('taken')}", "created")]
    environment = Environment("used", pip_image("used"), tmp_path / "experiment.yml")
    usage.note({"used": LocalId(f"sha256:{digest_of('used')}")}, {"used": environment})
    locks = tmp_path / "locks"
    locks.mkdir()
    with (locks / f"{digest_of('digest of built')}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        went, stayed = carry_out(pruning, stock, locks, usage)
    assert (went, stock.removed) == ([], [])
    assert {item.name: why for item, why in stayed} == {
        "taken": "a container has it",
        "built": "a build is at work on it",
        "used": "it has just been used",
    }
