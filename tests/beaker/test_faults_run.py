"""A run of thirty steps while its server fails in every way that it can be told to."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_graph import (
    OnBeaker,
    layers,
    left,
    project_on_beaker,
    server_config,
    verdicts,
)
from dispatch.testing.processes import until

pytestmark = [pytest.mark.engine, pytest.mark.usefixtures("busybox_image")]

STRESS = float(os.environ.get("DISPATCH_STRESS", "1.0"))
GRAPH = layers(5, 6)
# Each row: what it may happen to, the fault, how likely. Others' retries are not to be the test's length.
FAULTS = (
    ("rpc:*", "latency", 0.1),
    ("rest:*", "latency", 0.1),
    ("rpc:*", "drop", 0.03),
    ("rest:*", "drop", 0.05),
    ("rpc:*", "lose", 0.03),
    ("rest:*", "lose", 0.05),
    ("rpc:*", "unavailable", 0.04),
    ("rest:*", "unavailable", 0.04),
    ("rpc:*", "429", 0.04),
    ("rest:*", "429", 0.04),
    ("rpc:*", "500", 0.04),
    ("rest:*", "500", 0.04),
    ("rpc:*", "reset", 0.04),
    ("rest:*", "conflict", 0.04),
    ("rest:GET /api/v3/datasets/*/files/*", "truncate", 0.1),
    ("rest:GET /api/v3/datasets/*/files/*", "corrupt", 0.1),
    ("rest:GET /api/v3/datasets/*/files/*", "wrong-digest", 0.1),
    ("rpc:ListDatasetFiles", "wrong-digest", 0.1),
)
# Each fault in a run of its own takes minutes: less thoroughly, several at a time.
SETS = [[each] for each in FAULTS] if STRESS >= 1 else [FAULTS[:6], FAULTS[6:14], FAULTS[14:]]


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """What jobs and the test both see."""
    (tmp_path / "shared").mkdir()
    return tmp_path / "shared"


@pytest.mark.parametrize(
    "faults", SETS, ids=lambda faults: " ".join(f"{on}-{kind}" for on, kind, _ in faults)
)
def test_a_run_with_faults(
    faults: Sequence[tuple[str, str, float]], beakers: Beakers, tmp_path: Path, shared: Path
) -> None:
    """It ends well, every result is right, nothing ran twice, and nothing is left."""
    (tmp_path / "server.yml").write_text(server_config(shared))
    server = beakers.spawn(tmp_path / "server.yml")
    on = project_on_beaker(server, tmp_path / "project", shared)
    control = Faults(server)
    rules = {f"{where} {kind}": _begin(control, where, kind, chance) for where, kind, chance in faults}
    done = on.project.dispatch("run", on.config(GRAPH, "faulty", ":"), "-n", "faulty", "--json").well()
    assert verdicts(done) == {"completed": len(GRAPH.needs)}
    _right(on, "faulty")
    hits = {name: sum(map(control.hits, each)) for name, each in rules.items()}
    control.clear()
    assert all(hits.values()), hits
    door = door_of(server)
    until(lambda: not left(door), f"left on Beaker: {left(door)}")
    door.close()


def _begin(control: Faults, on: str, kind: str, chance: float) -> list[str]:
    """Let a fault happen: by chance, or, where two alike would pass for the truth, now and then."""
    if (on, kind) == ("rpc:ListDatasetFiles", "wrong-digest"):
        return [control.add(on, kind, times=1, after=29 * number) for number in range(8)]
    seconds = 0.2 if kind == "latency" else 0.0
    return [control.add(on, kind, probability=chance, seed=7, seconds=seconds)]


def _right(on: OnBeaker, run: str) -> None:
    """Results are what they must be, and each step ran once."""
    on.check(GRAPH, run)
    once = Counter({"begun": 1, "ended": 1})
    assert {name: calls for name, calls in on.calls().items() if calls != once} == {}
    assert set(on.calls()) == set(GRAPH.needs)
