"""What stands between conda-lock and a conda executable, and what its failures are told as."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dispatch.errors import ConfigurationError, DispatchError, ImageError
from dispatch.lock.condacomplaint import Failure, shortened, translate
from dispatch.lock.condarelay import Relay, packages


def answer(**actions: list[dict[str, Any]]) -> bytes:
    """A dry run's answer, with the noise that executables print around it."""
    return b"Collecting package metadata: done\n" + json.dumps({"actions": actions}).encode() + b"\nbye\n"


class Program:
    """A conda executable that answers in turn, and notes its command lines."""

    def __init__(self, *answers: tuple[int, bytes], words: bytes = b"words") -> None:
        self.answers = list(answers)
        self.words = words
        self.called: list[list[str]] = []

    def __call__(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run it."""
        self.called.append(list(command))
        code, out = self.answers.pop(0)
        return subprocess.CompletedProcess(command, code, out, self.words)


A = {"name": "a", "version": "2", "build": "h_0", "size": 7}
OLD = {**A, "version": "1"}


def test_what_is_kept_of_an_answer(tmp_path: Path) -> None:
    """All that a dry run says of a package; what is only linked is told less fully, and is not lost."""
    program = Program((0, answer(FETCH=[A], LINK=[{"name": "a"}, {"name": "b", "version": "1"}])))
    done = Relay(("conda",), tmp_path).run(["create", "--json", "a"], program)
    assert done.returncode == 0 and program.called == [["conda", "create", "--json", "a"]]
    kept = {each["name"]: each for each in json.loads((tmp_path / "solved.json").read_text("utf-8"))}
    assert kept == {"a": A, "b": {"name": "b", "version": "1"}}


def test_versions_are_kept_if_all_fit(tmp_path: Path) -> None:
    """A second run asks for the versions of before, those that are needed still; it counts if it succeeds."""
    pins = (("a", "a=1=h_0"), ("gone", "gone=1=0"))
    program = Program((0, answer(FETCH=[A])), (0, answer(FETCH=[OLD])))
    done = Relay(("conda",), tmp_path, pins).run(["create", "a"], program)
    assert program.called[1] == ["conda", "create", "a", "a=1=h_0"]
    assert packages(done.stdout) == [OLD]
    program = Program((0, answer(FETCH=[A])), (1, b"{}"))
    done = Relay(("conda",), tmp_path, pins).run(["create", "a"], program)
    assert packages(done.stdout) == [A]
    assert json.loads((tmp_path / "solved.json").read_text("utf-8")) == [A]


def test_what_is_not_a_solution(tmp_path: Path) -> None:
    """Other commands pass; a failure and an unreadable answer are kept as they were said."""
    assert Relay(("conda",), tmp_path).run(["--version"], Program((0, b"conda 24\n"))).stdout == b"conda 24\n"
    assert list(tmp_path.iterdir()) == []
    Relay(("conda",), tmp_path).run(["create"], Program((1, b'{"message": "no", "exception_name": "X"}')))
    assert Failure.of(tmp_path, "said") == Failure("no", "X", "said")
    Relay(("conda",), tmp_path).run(["create"], Program((0, b"nonsense")))
    assert Failure.of(tmp_path, "said") == Failure("words", "", "said")
    Relay(("/bin/conda",), tmp_path).run(["create"], Program((-9, b""), words=b""))
    assert Failure.of(tmp_path, "said").message == "conda ended with -9, and said nothing"


SAID = [
    # conda, with its two solvers
    (
        {"exception_name": "PackagesNotFoundError", "message": "The following packages are not available "
         "from current channels:\n\n  - nosuch\n\nCurrent channels:\n\n  - https://secret.example.org/c"},
        ConfigurationError,
        "no channel has nosuch",
    ),
    (
        {"exception_name": "LibMambaUnsatisfiableError", "message": "Encountered problems while solving:\n"
         "  - package a-1 requires b >=2, but none of the providers can be installed\n"},
        ConfigurationError,
        "cannot be met together",
    ),
    (
        {"exception_name": "CondaHTTPError", "message": "HTTP 401 UNAUTHORIZED for url "
         "<https://secret.example.org/c/linux-64/repodata.json>"},
        ImageError,
        "a channel refuses us (401)",
    ),
    (
        {"exception_name": "UnavailableInvalidChannel", "message": "HTTP 404 NOT FOUND for channel c "
         "<https://secret.example.org/c>"},
        ImageError,
        "a channel is not there",
    ),
    # micromamba
    (
        {"success": False, "solver_problems": ["nothing provides b >=2 needed by a-1-0"]},
        ConfigurationError,
        "no channel has b >=2 needed by a-1-0",
    ),
    ({"error": "Download error (28) Timeout was reached"}, ImageError, "a channel does not answer"),
    # ours
    (
        {"exception_name": "UnsatisfiableError", "message": "Cannot solve the request because of: a 1 would "
         "require\n└─ __cuda >=12, for which no candidates were found."},
        ConfigurationError,
        "cannot be met together",
    ),
    ({"message": "the disk is on fire"}, ImageError, "conda-lock failed: the disk is on fire"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "kind", "fact"), SAID)
def test_what_a_failure_is_told_as(
    said: dict[str, object], kind: type[DispatchError], fact: str, tmp_path: Path
) -> None:
    """Each executable's words become one of our errors, redacted, with a remedy."""
    Relay(("conda",), tmp_path).run(["create"], Program((1, json.dumps(said).encode())))
    error = translate(
        Failure.of(tmp_path, ""), "environment.yml", lambda t: t.replace("secret.example.org", "…")
    )
    assert type(error) is kind and fact in error.message and error.remedy
    assert "secret" not in f"{error.message} {error.remedy}"


def test_conda_lock_itself_fails(tmp_path: Path) -> None:
    """Where no solver failed, conda-lock's last words are told."""
    error = translate(Failure.of(tmp_path, "Traceback…\nValueError: not so\n"), "environment.yml", str)
    assert error.message == "environment.yml: conda-lock failed: ValueError: not so"
    assert "it said nothing" in translate(Failure.of(tmp_path, ""), "environment.yml", str).message


def test_an_explanation_is_short() -> None:
    """Long lists of versions are cut, as are many lines; repeated lines are told once."""
    many = " | ".join(str(each) for each in range(100))
    assert shortened(f"a {many}") == "a 0 | 1 | 2 | … (100 versions)"
    assert shortened("a\n├─ b\n└─ b\n\nc") == "a\n├─ b\nc"
    long = shortened("\n".join(str(each) for each in range(100)))
    assert len(long.splitlines()) == 15 and long.endswith("… and 86 more lines")
