"""Renders every variant of the entrypoint into a directory, by default the golden one beside this file.

``make golden`` runs it to renew the golden files; ``make check`` gives the directory to shellcheck. A new
template or a new branch in one needs a variant here.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from dispatch.job import (
    BOOTED,
    Before,
    Clone,
    HostPlaces,
    PythonTask,
    Setup,
    ShellTask,
    StepLabel,
    provide_boot,
    write_describe_job,
    write_process_job,
    write_step_job,
)

GOLDEN = Path(__file__).parent / "entrypoint"

PROCESS = HostPlaces("/cache/runtime", "/ws/attempts/a.1", "/ws/attempts/a.1/output", "/ws/work/a")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
HOSTILE = 'it\'s "$HOME" `id`\n$(id) \\ *;#é'
CLONE = Clone(
    "https://example.org/team/repo.git", COMMIT, "refs/heads/main", "https://example.org", "oauth2", "TOKEN"
)
HOSTILE_CLONE = Clone(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, "", "KEY", ("KEY", "TOKEN"))


def variants() -> dict[str, str]:
    """Return every variant by its file name."""
    label = StepLabel(name="train", unique_id="train-001-abc", type="train", attempt=1)

    def python(interpreter: str | None) -> PythonTask:
        return PythonTask("digits.steps", "Train", "001", None, {}, {}, ("/src",), interpreter)

    with tempfile.TemporaryDirectory() as scratch:
        here = Path(scratch)
        written = {
            "python.sh": write_step_job(here / "1", label, python(None)),
            "python-interpreter.sh": write_step_job(
                here / "2", label, python("/opt/my python/bin/python3"), "/src/sub"
            ),
            "shell.sh": write_step_job(here / "3", label, ShellTask('wc -c "$DISPATCH_INPUT_MODEL"/*')),
            "shell-hostile.sh": write_step_job(here / "4", label, ShellTask(HOSTILE), f"/src/{HOSTILE}"),
            "python-secrets.sh": write_step_job(
                here / "7", label, python(None), before=Before("/dispatch/secrets")
            ),
            "shell-clone.sh": write_step_job(
                here / "9", label, ShellTask("make table"), before=Before(clone=CLONE)
            ),
            "python-clone-hostile.sh": write_step_job(
                here / "8", label, python(None), before=Before(clone=HOSTILE_CLONE)
            ),
            "python-setup.sh": write_step_job(
                here / "10",
                label,
                python(None),
                places=BOOTED,
                before=Before(setup=Setup("", "", "3.11"), packs=True),
            ),
            "shell-setup-hostile.sh": write_step_job(
                here / "11",
                label,
                ShellTask("make table"),
                f"/src/{HOSTILE}",
                BOOTED,
                Before(setup=Setup(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE), packs=True),
            ),
            "describe.sh": write_describe_job(here / "5", {}),
            "shell-process.sh": write_process_job(
                here / "6", label, ShellTask("make table"), "/home/me/my project", PROCESS
            ),
        }
        found = {name: files.entrypoint.read_text(encoding="utf-8") for name, files in written.items()}
        (here / "runtime").mkdir()
        start = provide_boot(here, here / "runtime").directory / "start.sh"
        return {**found, "start.sh": start.read_text(encoding="utf-8")}


def main(directory: Path) -> None:
    """Write the variants into ``directory``, and remove files there that are none any more."""
    directory.mkdir(parents=True, exist_ok=True)
    rendered = variants()
    for old in directory.glob("*.sh"):
        if old.name not in rendered:
            old.unlink()
    for name, text in rendered.items():
        (directory / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else GOLDEN)
