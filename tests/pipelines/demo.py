"""`make demo`: runs the quickstart pipeline in a git copy of it and shows what came out.

Standard library only; uses the ``dispatch`` command that stands beside the interpreter, as a user would.
"""

from __future__ import annotations

import filecmp
import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
COPY = CHECKOUT / ".demo" / "quickstart"
DISPATCH = str(Path(sys.executable).with_name("dispatch"))


def git(*arguments: str) -> str:
    """Run git in the copy, with an identity of its own and none of the user's hooks or templates."""
    identity = ["-c", "user.name=demo", "-c", "user.email=demo@localhost", "-c", "core.hooksPath=/dev/null"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=COPY, check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def refresh_copy() -> None:
    """Bring the copy up to date with the pipeline and commit it; do nothing where nothing changed."""
    COPY.mkdir(parents=True, exist_ok=True)
    source = HERE / "quickstart"
    wanted = {
        path.relative_to(source)
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    if not (COPY / ".git").exists():
        git("init", "--quiet", "--initial-branch=main", "--template=")
    tracked = {Path(name) for name in git("ls-files").splitlines()}
    for stale in tracked - wanted:
        (COPY / stale).unlink(missing_ok=True)
    changed = bool(tracked - wanted)
    for name in wanted:
        if not (COPY / name).exists() or not filecmp.cmp(source / name, COPY / name, shallow=False):
            (COPY / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source / name, COPY / name)
            changed = True
    if changed or not tracked:
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "--message", "The quickstart pipeline")


def main() -> int:
    """Build, run, and print where the picture is."""
    refresh_copy()
    for arguments in (["build", "--renew-base", "experiment.yml"], ["run", "experiment.yml"]):
        print(f"$ dispatch {' '.join(arguments)}", file=sys.stderr, flush=True)
        code = subprocess.run([DISPATCH, *arguments], cwd=COPY).returncode
        if code != 0:
            return code
    shown = subprocess.run(
        [DISPATCH, "show", "latest", "--json"], cwd=COPY, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    for step in json.loads(shown)["steps"]:
        for picture in sorted(Path(step["result"]).rglob("*.png")) if step["result"] else []:
            print(f"\npicture: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
