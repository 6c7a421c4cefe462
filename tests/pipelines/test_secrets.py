"""Secrets of a whole run: used, printed and raised by steps, and then looked for everywhere."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch.testing.project import Project

pytestmark = pytest.mark.engine

TOKEN = "tok-8c41f07b-of-the-test"
PASSWORD = "correct horse; battery 'staple'"
KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEF\nAASCBKcwggSjAgEAAoIBAQC7VJTU\n-----END KEY-----\n"
ENCODED = base64.b64encode(TOKEN.encode()).decode()
TRACES = [TOKEN, PASSWORD, ENCODED, *KEY.split("\n")[1:3]]

SETTINGS = """
executor: {type: docker}
include_package: [noisy]
secrets:
  TOKEN: {env: TOKEN_OF_THE_USER}
  KEY: {file: ../key.pem}
  PASSWORD: {command: [cat, ../password.txt]}
"""
STEPS = """
image: busybox
images: {busybox: {docker: "dispatch-test-busybox:1"}}
steps:
  inside:
    type: shell
    step_network: none
    step_secrets: [KEY, {name: TOKEN, env: true}, PASSWORD]
    command: |
      umask; ls -ld "$DISPATCH_SECRETS_DIR"; ls -l "$DISPATCH_SECRETS_DIR"
      echo "the token is $TOKEN, in Base64 $(printf %s "$TOKEN" | base64)"
      cat "$DISPATCH_SECRETS_DIR/KEY" "$DISPATCH_SECRETS_DIR/PASSWORD"
      md5sum "$DISPATCH_SECRETS_DIR/KEY" > "$DISPATCH_OUTPUT_DIR/sum.txt"
      mount | grep /dispatch/secrets
      touch "$DISPATCH_WORK_DIR/begun"
      while [ ! -e "$DISPATCH_WORK_DIR/go" ]; do sleep 0.05; done
  here:
    type: noisy
    step_resources: {machine: local}
    step_secrets: [TOKEN, {name: PASSWORD, env: true}]
  fails:
    type: raises
    step_resources: {machine: local}
    step_secrets: [{name: TOKEN, env: true}]
  fails_inside:
    type: shell
    step_network: none
    step_secrets: [{name: TOKEN, env: true}]
    command: 'echo "refused: $TOKEN" >&2; exit 3'
"""
CODE = """
import os, sys
from pathlib import Path
from dispatch import step

@step("noisy")
def noisy() -> int:
    token = (Path(os.environ["DISPATCH_SECRETS_DIR"]) / "TOKEN").read_text()
    print("here", token, os.environ["PASSWORD"])
    sys.stdout.write("half " + token[:9]); sys.stdout.flush()
    sys.stdout.write(token[9:] + " whole")
    return len(token)

@step("raises")
def raises() -> int:
    raise RuntimeError(f"cannot log in with {os.environ['TOKEN']}")
"""


@pytest.fixture
def project(
    make: Callable[[Mapping[str, str]], Project], busybox_image: ImageRecord, tmp_path: Path
) -> Project:
    """A project whose steps do all that they should not do with a secret."""
    assert busybox_image
    (tmp_path / "key.pem").write_text(KEY)
    (tmp_path / "password.txt").write_text(PASSWORD + "\n")
    return make({"dispatch.yml": SETTINGS, "noisy.py": CODE, "experiment.yml": STEPS})


def files_with(traces: list[str], *places: Path) -> list[str]:
    """Files below the places in which a trace is found."""
    found = []
    for place in places:
        for path in place.rglob("*"):
            if path.is_file() and not path.is_symlink():
                data = path.read_bytes()
                found += [f"{path}: {trace}" for trace in traces if trace.encode() in data]
    return found


def running_with(traces: list[str]) -> list[str]:
    """Command lines of this machine in which a trace is found."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        found += [f"{words!r}" for trace in traces if trace.encode() in words]
    return found


def described(door: Door) -> str:
    """All that the engine tells of the containers of a step named ``inside``, and of their image."""
    rows = door.containers.labelled("dispatch.step", "inside")
    names = [row.name for row in rows]
    assert names
    told = subprocess.run(["docker", "inspect", *names], capture_output=True, text=True, check=True).stdout
    images = [each["Image"] for each in json.loads(told)]
    command = ["docker", "image", "inspect", *images]
    return told + subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_secrets_are_nowhere(project: Project, door: Door, tmp_path: Path) -> None:
    """What steps print, raise and use is in no file, description, argument, record or message."""
    cache = tmp_path / "cache"
    env = {"TOKEN_OF_THE_USER": TOKEN, "XDG_CACHE_HOME": str(cache)}
    found: dict[str, object] = {}

    def watch() -> None:
        begun: list[Path] = []
        while not begun and "done" not in found:
            begun = [*project.workspace.glob("work/*/begun")]
        if begun:
            found["described"] = described(door)
            found["running"] = running_with(TRACES)
            (begun[0].parent / "go").touch()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = project.dispatch("run", "experiment.yml", "-n", "first", "--json", "-j", "4", env=env)
    finally:
        found["done"] = True
        watcher.join()
    assert done.code == 1, done.err
    verdicts = {step["name"]: step["verdict"] for step in done.json()["steps"]}
    expected = {"inside": "completed", "here": "completed", "fails": "failed", "fails_inside": "failed"}
    assert verdicts == expected, done.err

    told = str(found["described"])
    assert not [trace for trace in TRACES if trace in told]
    assert found["running"] == []
    assert not [trace for trace in TRACES if trace in done.out + done.err]
    assert files_with(TRACES, project.workspace, cache, project.root / ".git") == []
    for step in ("inside", "here", "fails", "fails_inside"):
        shown = project.dispatch("logs", "first", step, env=env)
        assert not [trace for trace in TRACES if trace in shown.out + shown.err]
    shown = project.dispatch("show", "first", "--json", env=env)
    assert not [trace for trace in TRACES if trace in shown.out + shown.err]
    assert "cannot log in with ***" in shown.out


def test_secrets_arrive(project: Project, tmp_path: Path) -> None:
    """The step has them in memory, for itself alone, and what it prints is masked and otherwise whole."""
    env = {"TOKEN_OF_THE_USER": TOKEN}
    (tmp_path / "project" / "experiment.yml").write_text(
        STEPS.replace("while [ ! -e", "while false && [ ! -e")
    )
    project.dispatch("run", "experiment.yml", "-n", "first", "-s", "inside", "-s", "here", env=env).well()
    log = project.dispatch("logs", "first", "inside", env=env).well().out
    assert "the token is ***, in Base64 ***\n***\n***" in log
    assert "drwx------" in log
    assert log.count("-rw-------") == 3
    assert "tmpfs on /dispatch/secrets type tmpfs" in log
    here = project.dispatch("logs", "first", "here", env=env).well().out
    assert here.endswith("here *** ***\nhalf *** whole")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            ("TOKEN_OF_THE_USER", "UNSET_HERE"),
            "step 'inside': secret 'TOKEN': the environment variable UNSET_HERE",
        ),
        (("../key.pem", "../none.pem"), "none.pem cannot be read"),
        (("cat, ../password.txt", "sh, -c, 'cat ../password.txt; exit 7'"), "failed with exit code 7"),
        (("cat, ../password.txt", "cat, /dev/null"), "its value is empty"),
        (("cat, ../password.txt", "echo, abc"), "fewer than 4 characters"),
        (("cat, ../password.txt", "no-such-program"), "cannot be run"),
    ],
)
def test_secrets_that_cannot_be_had(project: Project, change: tuple[str, str], words: str) -> None:
    """A value that is missing is one error before anything starts; it shows no value."""
    (project.root / "dispatch.yml").write_text(SETTINGS.replace(*change))
    done = project.dispatch("run", "experiment.yml", env={"TOKEN_OF_THE_USER": TOKEN})
    assert done.code == 2
    assert words in done.err and "remedy:" in done.err
    assert PASSWORD not in done.err + done.out
    assert not (project.workspace / "attempts").exists()
