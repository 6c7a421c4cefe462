"""What the README shows of steps without images, done as it says; no engine and no package index needed."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from dispatch.testing.project import Project

README = Path(__file__).parents[2] / "README.md"
_FIRST = re.compile(r"<!-- first: (\S+) -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FIRST_RUN = re.compile(r"<!-- first -->\n```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"<!-- python -->\n```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_the_first_project_runs_without_an_image(tmp_path: Path) -> None:
    """The ten lines, their commands and the Python program: no repository, no engine."""
    text = README.read_text("utf-8")
    (tmp_path / "first").mkdir()
    project = Project(tmp_path / "first", {"DOCKER_HOST": "unix:///nowhere"}).write(
        dict(_FIRST.findall(text))
    )
    lines = [line.removeprefix("$ ") for line in _FIRST_RUN.findall(text)[0].splitlines()]
    done = {line: project.call("sh", "-c", line).well() for line in lines}
    first, result, changed, why = done.values()
    assert {row[0] for row in first.table().values()} == {"completed"}
    assert result.out == "25\n"
    assert {name: row[0] for name, row in changed.table().items()} == {
        "three": "cached",
        "four": "completed",
        "sum": "completed",
    }
    assert why.out.startswith("sum: cached")
    program = project.write({"program.py": _PYTHON.findall(text)[0]})
    assert program.call(sys.executable, "program.py").well().out == "9\n"
