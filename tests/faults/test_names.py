"""Names from outside: none of them leads out of the workspace."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from dispatch.errors import DispatchError
from dispatch.testing.contracts_workspace import DONE, fill, record
from dispatch.testing.faults import tree
from dispatch.workspace import check
from dispatch.workspaces import LocalWorkspace

NAMES = [
    "../../outside",
    "..",
    ".",
    "",
    "/etc/outside",
    "a/../../outside",
    "a/b",
    "a b",
    " ",
    "-rf",
    ".hidden",
    "ünï",
    "日本語" * 30,
    "e\u0301",
    "a\x00b",
    "a\nb",
    "x" * 300,
    "$(touch outside)",
    "~",
    "\udce4",
    "CON",
    "x.1",
]


@pytest.mark.parametrize("name", [pytest.param(name, id=ascii(name)[:20]) for name in NAMES])
def test_names(tmp_path: Path, name: str) -> None:
    """As a run's, step's or id's, a name is refused with our own error, or stored in the workspace."""
    (tmp_path / "beside").write_text("")
    root = tmp_path / "deep" / "ws"
    place = LocalWorkspace(root)
    place.register_run([record()], "first")
    refusals = (DispatchError, ValueError, KeyError)
    with contextlib.suppress(*refusals):
        place.register_run([record()], name)
        assert place.registered_run(name).name == name
    with contextlib.suppress(*refusals):
        place.register_run([record(name, unique_id="Made-two")], "second")
        assert list(place.registered_run("second").steps) == [name]
    with contextlib.suppress(*refusals):
        step = record("three", unique_id=name)
        attempt = place.claim(step, name)
        fill(attempt)
        assert place.commit(attempt, step, DONE).unique_id == name
        assert place.step_cache[step] == "value"
        place.remove_step(name)
    for look in (place.registered_run, place.step_info, place.remove_step, place.remove_run, place.log_path):
        with contextlib.suppress(*refusals):
            look(name)
    assert "first" in place.registered_runs() or name == "first"
    outside = {path for path in tree(tmp_path) if not path.startswith("deep/ws")}
    assert outside == {"beside", "deep"}
    assert sorted(path.name for path in root.iterdir() if path.name != "latest") == [
        ".gitignore",
        "attempts",
        "cache",
        "leases",
        "runs",
        "settings.json",
        "steps",
        "work",
    ]
    assert list(check.examine(place)) == []
