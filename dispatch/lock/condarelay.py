"""What conda-lock is given as its conda executable: runs the real one, and keeps what it answers.

Owns the reading of a dry run's answer in full. conda-lock passes over builds, sizes and kinds of packages,
and tells of a failure in its own words only. A program of its own, of the standard library alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Finished = subprocess.CompletedProcess
Call = Callable[[Sequence[str]], "Finished[bytes]"]


@dataclass(frozen=True)
class Relay:
    """``program`` is the real executable; ``answers`` a directory for what it says.

    ``pins`` are specifications of packages whose versions are kept if all of them still fit together.
    """

    program: tuple[str, ...]
    answers: Path
    pins: tuple[tuple[str, str], ...] = ()

    def run(self, arguments: Sequence[str], call: Call) -> Finished[bytes]:
        """Run the program as it is asked to, and keep its answer where it solved or failed to."""
        done = call([*self.program, *arguments])
        if not arguments or arguments[0] != "create":
            return done
        solved = packages(done.stdout) if done.returncode == 0 else None
        if solved is None:
            silence = f"{Path(self.program[0]).name} ended with {done.returncode}, and said nothing"
            (self.answers / "failure.out").write_bytes(done.stdout)
            (self.answers / "failure.err").write_bytes(done.stderr.strip() or silence.encode())
            return done
        found = {each["name"] for each in solved}
        pins = [spec for name, spec in self.pins if name in found]
        if pins:
            again = call([*self.program, *arguments, *pins])
            kept = packages(again.stdout) if again.returncode == 0 else None
            done, solved = (again, kept) if kept is not None else (done, solved)
        (self.answers / "solved.json").write_text(json.dumps(solved), "utf-8")
        return done


def packages(answer: bytes) -> list[dict[str, Any]] | None:
    """Return the packages of a dry run's answer, or None if it is not one."""
    text = answer.decode("utf-8", "replace")
    try:
        actions = json.loads(text[text.index("{") : text.rindex("}") + 1])["actions"]
        every = [*actions.get("FETCH", []), *actions.get("LINK", [])]
        # What is fetched is told in full, what is linked may be not.
        return list({each["name"]: each for each in reversed(every)}.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_relay(environ: Mapping[str, str]) -> Relay:
    """Read what to run from the file that ``DISPATCH_CONDA_RELAY`` names."""
    found = json.loads(Path(environ["DISPATCH_CONDA_RELAY"]).read_text("utf-8"))
    pins = tuple((name, spec) for name, spec in found["pins"])
    return Relay(tuple(found["program"]), Path(found["answers"]), pins)


def main() -> None:
    """Do what the real executable would, with its words and its exit code."""

    def call(command: Sequence[str]) -> Finished[bytes]:
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False)

    done = read_relay(os.environ).run(sys.argv[1:], call)
    sys.stdout.buffer.write(done.stdout)
    sys.stdout.buffer.flush()
    sys.stderr.buffer.write(done.stderr)
    sys.stderr.buffer.flush()
    raise SystemExit(done.returncode if done.returncode >= 0 else 128 - done.returncode)


if __name__ == "__main__":
    main()
