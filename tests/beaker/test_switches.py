"""A run under each setting of what is only assumed of Beaker: whatever turns out true, it ends the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispatch import StepGraph
from dispatch.beaker import BeakerExecutor, BeakerWorkspace
from dispatch.beakerd.config import Assumptions, Config, NameScope
from dispatch.testing.beaker import LocalBeaker
from dispatch.testing.beaker_doors import door_of, options_of
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

# Each against the default.
SWITCHES: list[dict[str, Any]] = [
    {"names": NameScope.WORKSPACE},
    {"mount_uncommitted": True},
    {"finalize_gap": 2.0},
    {"result_on_cancel": False},
    {"retry_timeouts": True},
    {"grace": 1.0},
    {"resume_first": False},
    {"check_secrets": False},
    {"node_loss_resumes": False},
    {"strict_order": False},
    {"preempt_unasked": False},
]
GRAPH: dict[str, Any] = {
    "first": {"type": "shell", "command": 'echo 1 > "$DISPATCH_OUTPUT_DIR/x"; echo "$KEY" | wc -c'},
    "second": {
        "type": "shell",
        "inputs": {"a": {"type": "ref", "ref": "first"}},
        "command": 'for n in $(seq 20); do cp "$DISPATCH_INPUT_A/x" "$DISPATCH_OUTPUT_DIR/$n"; done',
    },
    "third": {
        "type": "shell",
        "inputs": {"b": {"type": "ref", "ref": "second"}},
        "command": 'cat "$DISPATCH_INPUT_B"/* | wc -l > "$DISPATCH_OUTPUT_DIR/lines"',
    },
    "late": {"type": "shell", "command": "sleep 60", "step_timeout": "1s"},
    "wrong": {"type": "shell", "command": "exit 3"},
    "behind": {
        "type": "shell",
        "inputs": {"c": {"type": "ref", "ref": "wrong"}},
        "command": "true",
    },
}


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A repository, in which the program is called."""
    (tmp_path / "project").mkdir()
    made = Project(tmp_path / "project").write({"words.txt": "a b c\n"}).commit()
    monkeypatch.chdir(made.root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return made


@pytest.mark.parametrize("assumed", SWITCHES, ids=lambda assumed: next(iter(assumed)))
def test_a_run_ends_the_same(
    beaker_of: Callable[[Config], LocalBeaker], tmp_path: Path, assumed: dict[str, Any]
) -> None:
    """Results, a failure, a time limit and what is behind them; again, all that has a result is cached."""
    server = beaker_of(Config(assume=Assumptions(**{"grace": 1.0, **assumed})))
    (tmp_path / "cache").mkdir()
    options: dict[str, Any] = dict(options_of(server))
    door = door_of(server)
    door.secrets.write("KEY", "sesame")
    for again in (False, True):
        kept = BeakerWorkspace("ai2/my-workspace", **options)
        executor = BeakerExecutor(
            kept,
            docker_image=REFERENCE,
            beaker_workspace="ai2/my-workspace",
            env_vars=[{"name": "KEY", "secret": "KEY"}],
            **options,
        )
        output = executor.execute_step_graph(StepGraph.from_params(GRAPH))
        assert set(output.successful) == {"first", "second", "third"}
        assert set(output.failed) == {"late", "wrong"}
        assert set(output.not_run) == {"behind"}
        lines = kept.step_result_for_run(output.run, "third") / "lines"
        assert lines.read_text() == "20\n"
        made = [each.name for each in door.experiments.search("Shell-")]
        # Three with results, and two that failed each time.
        assert len(made) == (7 if again else 5)
    left = [each.name for each in door.datasets.search("", committed=False)]
    assert not [name for name in left if not name.startswith("dispatch-session-")]
    assert not door.datasets.search("dispatch-job-")
    assert door.secrets.names() == ["KEY"]
    door.close()
