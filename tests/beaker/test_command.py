"""`dispatch beaker` as its users call it: real processes, and the real client in a shell of its own."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import sqlite3
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.containers import ContainerSpec
from dispatch.beakerd.layout import LABEL, Layout
from dispatch.testing.beaker import token_of
from dispatch.testing.busybox import REFERENCE
from dispatch.testing.project import Done, Project

pytestmark = pytest.mark.engine

DEADLINE = 60.0
WHO = "from beaker import Beaker\nwith Beaker.from_env() as beaker: print(beaker.user.get().name)"


class Command:
    """`dispatch beaker` of one user, over one state directory."""

    def __init__(self, project: Project, state: Path):
        self.project = project
        self.state = state

    def __call__(self, *words: str, env: dict[str, str] | None = None) -> Done:
        """Call it with this state."""
        return self.project.dispatch("beaker", *words, "--state", str(self.state), env=env)

    def status(self) -> dict[str, Any]:
        """What `status --json` says."""
        return self("status", "--json").well().json()

    def who(self, *words: str, env: dict[str, str] | None = None) -> Done:
        """Be somebody in a shell, by what `env` prints, and ask the server who that is."""
        line = shlex.join(["dispatch", "beaker", "env", "--state", str(self.state), *words])
        script = f'eval "$({line})" && exec {shlex.quote(sys.executable)} -c {shlex.quote(WHO)}'
        return self.project.call("sh", "-c", script, env=env)


@pytest.fixture
def beaker(tmp_path: Path) -> Iterator[Command]:
    """A user with an empty directory, whose path is not easy."""
    home = tmp_path / "a user's $HOME"
    home.mkdir()
    # What this test session trusts is not what a user's shell says; and no remnant of another shell.
    names = ("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH", "BEAKER_CONFIG", "BEAKER_TOKEN", "BEAKER_ADDR")
    env = {**dict.fromkeys(names, ""), "XDG_STATE_HOME": str(home / "state")}
    command = Command(Project(home, env=env), home / "the beaker")
    yield command
    command("reset", "--yes")


def test_up_env_down(beaker: Command) -> None:
    """The whole way: it starts, a shell finds it, status says what it is, it ends, starts where it was."""
    up = beaker("up", "--no-images").well()
    assert "users: me" in up.err
    assert f"dispatch beaker env --state {shlex.quote(str(beaker.state))}" in up.err
    assert beaker.who().well().out == "me\n"
    first = beaker.status()
    assert first["running"] is True
    assert first["users"] == ["me"]
    assert first["workspaces"] == ["ai2/my-workspace"]
    assert "admin_token" not in json.dumps(first)
    assert "ai2/general-cirrascale" in beaker("status").well().out
    assert "has ended" in beaker("down").well().err
    assert beaker.status()["running"] is False
    assert "is down" in beaker("status").well().out
    assert "no local Beaker runs" in beaker("down").well().err
    beaker("up", "--no-images").well()
    assert beaker.status()["endpoint"]["rpc"] == first["endpoint"]["rpc"]
    assert beaker.who().well().out == "me\n"


def test_up_again_leaves_it_alone(beaker: Command, tmp_path: Path) -> None:
    """The same configuration, or none, is no reason to start anew; another one is, if it can be."""
    config = tmp_path / "beaker.yml"
    config.write_text("users: [{name: ada, organizations: [ai2], admin: true}]\n")
    beaker("up", "--no-images", "--config", str(config)).well()
    pid = beaker.status()["endpoint"]["pid"]
    for words in ((), ("--config", str(config))):
        beaker("up", "--no-images", *words).well()
        assert beaker.status()["endpoint"]["pid"] == pid
    config.write_text("users: [{nam: ada}]\n")
    refused = beaker("up", "--no-images", "--config", str(config))
    assert refused.code == 2
    assert str(config) in refused.err
    assert beaker.status()["endpoint"]["pid"] == pid, "what ran goes on"
    two = "users: [{name: ada, organizations: [ai2], admin: true}, {name: bob, organizations: [ai2]}]\n"
    config.write_text(two)
    beaker("up", "--no-images", "--config", str(config)).well()
    assert beaker.status()["endpoint"]["pid"] != pid
    assert [beaker.who(*words).well().out for words in ((), ("--user", "bob"))] == ["ada\n", "bob\n"]
    unknown = beaker("env", "--user", "eve")
    assert (unknown.code, unknown.out) == (2, "")
    assert "known: ada, bob" in unknown.err


def test_the_configuration_is_a_file_to_begin_from(beaker: Command, tmp_path: Path) -> None:
    """`config` prints every key; what it prints is taken as it is, and then it is what holds."""
    config = tmp_path / "beaker.yml"
    config.write_text(beaker("config").well().out.replace("name: me", "name: ada"))
    beaker("up", "--no-images", "--config", str(config)).well()
    assert beaker.status()["users"] == ["ada"]
    assert "name: ada" in beaker("config").well().out


@pytest.mark.parametrize(
    ("content", "complaint"), [("users: [", "YAML"), ("clusters: 3\n", "clusters"), (None, "no such file")]
)
def test_a_bad_configuration_is_one_error(
    beaker: Command, tmp_path: Path, content: str | None, complaint: str
) -> None:
    """Exit code 2, one error, a remedy, no traceback, and nothing was made."""
    config = tmp_path / "beaker.yml"
    if content is not None:
        config.write_text(content)
    done = beaker("up", "--config", str(config))
    assert done.code == 2
    assert len(done.errors()) == 1
    assert complaint.lower() in done.err.lower()
    assert "Traceback" not in done.err
    assert not beaker.state.exists()


def test_without_an_engine_it_does_not_start(beaker: Command, tmp_path: Path) -> None:
    """Exit code 3, and nothing was made: its jobs could never run."""
    done = beaker("up", "--no-images", env={"DOCKER_HOST": f"unix://{tmp_path}/none.sock"})
    assert done.code == 3
    assert len(done.errors()) == 1
    assert not beaker.state.exists()


def test_a_taken_port_is_one_error(beaker: Command, tmp_path: Path) -> None:
    """Exit code 3, the port, and the key that names another."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        config = tmp_path / "beaker.yml"
        config.write_text(f"rest_port: {other.getsockname()[1]}\n")
        done = beaker("up", "--no-images", "--config", str(config))
    assert done.code == 3
    assert str(other) is not None
    assert "is taken" in done.err
    assert "rest_port" in done.err
    assert beaker("logs").well().out.count("\n") == 1


def test_many_at_once_start_one(beaker: Command) -> None:
    """Of four `up` at the same time one starts it, and all say where it is."""
    done: list[Done] = []
    threads = [
        threading.Thread(target=lambda: done.append(beaker("up", "--no-images").well())) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len({each.err.partition("process ")[2].partition(")")[0] for each in done}) == 1
    assert beaker("logs").well().out.count("started") == 1


def test_after_a_kill_it_is_known_to_be_down(beaker: Command) -> None:
    """kill -9: status says so, env warns, down has nothing to do, up starts it with the same tokens."""
    beaker("up", "--no-images").well()
    token = (beaker.state / "users" / "me" / "config.yml").read_text()
    pid = beaker.status()["endpoint"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait(lambda: not beaker.status()["running"], beaker)
    assert "it is down" in beaker("env").well().err
    assert "no local Beaker runs" in beaker("down").well().err
    beaker("up", "--no-images").well()
    assert (beaker.state / "users" / "me" / "config.yml").read_text() == token
    assert beaker.who().well().out == "me\n"


def test_the_shell_is_told_no_secret(beaker: Command) -> None:
    """Neither what env prints, nor the server's command line and environment, hold a token."""
    beaker("up", "--no-images", env={"MY_SECRET": "hidden-word"}).well()
    tokens = [
        line.partition(": ")[2]
        for line in (beaker.state / "users" / "me" / "config.yml").read_text().splitlines()
        if line.startswith("user_token")
    ]
    tokens.append(json.loads((beaker.state / "endpoint.json").read_text())["admin_token"])
    process = Path("/proc", str(beaker.status()["endpoint"]["pid"]))
    said = [beaker("env").well().out, beaker("status").well().out, beaker("logs").well().out]
    said += [(process / name).read_text() for name in ("cmdline", "environ")]
    assert not any(word in text for text in said for word in (*tokens, "hidden-word"))


def test_env_sees_to_what_is_in_the_way(beaker: Command) -> None:
    """Variables that would win are unset, proxies are passed by, and --unset takes back what is ours."""
    beaker("up", "--no-images").well()
    proxies = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "x.org"}
    around = {"BEAKER_TOKEN": "other", "BEAKER_ADDR": "http://127.0.0.1:9", **proxies}
    assert beaker.who(env=around).well().out == "me\n"
    assert "NO_PROXY=x.org,localhost,127.0.0.1" in beaker("env", env=proxies).well().out
    line = beaker("env", "--unset").well().out
    assert "BEAKER_CONFIG" in line
    assert line.startswith("unset ")


def test_rest_over_tls_with_the_users_own_roots(beaker: Command, tmp_path: Path) -> None:
    """With rest_tls a shell trusts both what it trusted before and the local authority."""
    config = tmp_path / "beaker.yml"
    config.write_text("rest_tls: true\n")
    beaker("up", "--no-images", "--config", str(config)).well()
    own = tmp_path / "own.pem"
    own.write_text("-----BEGIN MINE-----\n")
    script = (
        "import os, requests\nfrom beaker import Beaker\n"
        "with Beaker.from_env() as beaker:\n"
        "    health = requests.get(beaker.config.agent_address + '/local/health')\n"
        "    print(beaker.user.get().name, health.status_code)"
    )
    line = shlex.join(["dispatch", "beaker", "env", "--state", str(beaker.state)])
    shell = f'eval "$({line})" && exec {shlex.quote(sys.executable)} -c {shlex.quote(script)}'
    assert beaker.project.call("sh", "-c", shell).well().out == "me 200\n"
    bundle = beaker("env", env={"REQUESTS_CA_BUNDLE": str(own)}).well().out
    assert "roots-user.pem" in bundle
    text = (beaker.state / "tls" / "roots-user.pem").read_text()
    assert text.startswith("-----BEGIN MINE-----")
    assert (beaker.state / "tls" / "ca.pem").read_text() in text


def test_in_the_foreground_it_ends_with_an_interrupt(beaker: Command) -> None:
    """`up --foreground` stays, says its log, and Ctrl-C ends the server in order."""
    words = ("beaker", "up", "--no-images", "--foreground", "--state", str(beaker.state))
    attended = beaker.project.start("dispatch", *words)
    wait(lambda: bool(beaker.status()["running"]), beaker)
    attended.signal(signal.SIGINT, group=True)
    done = attended.end()
    assert done.code == 0, done
    assert [word in done.err for word in ("started", "to use it", "ended")] == [True] * 3
    assert beaker.status()["running"] is False


def test_logs_follow_over_a_restart(beaker: Command) -> None:
    """`logs -f` shows what is there, and then the lines of the end and of the next start."""
    beaker("up", "--no-images").well()
    following = beaker.project.start("dispatch", "beaker", "logs", "-f", "--state", str(beaker.state))
    assert "started" in following.line()
    beaker("down").well()
    assert "ended" in following.line()
    beaker("up", "--no-images").well()
    assert "started" in following.line()
    following.signal(signal.SIGINT, group=False)
    assert following.end().code == 130


def test_reset_removes_what_is_its_own(beaker: Command, door: Door, busybox_image: ImageRecord) -> None:
    """Its state and its containers go, running or not; those of another server stay; it asks before."""
    beaker("up", "--no-images").well()
    mine, other = (
        door.containers.create(
            ContainerSpec(image=busybox_image.id, command=("sleep", "600"), labels={LABEL: owner})
        )
        for owner in (Layout(beaker.state).owner, "another")
    )
    door.containers.start(mine)
    try:
        asked = beaker("reset")
        assert asked.code == 2
        assert "--yes" in asked.err
        assert beaker.status()["running"] is True
        assert "1 containers" in beaker("reset", "--yes").well().err
        assert not beaker.state.exists()
        assert door.containers.inspect(mine) is None
        assert door.containers.inspect(other) is not None
        assert "was never started" in beaker("status").well().out
        assert beaker("env").code == 2
    finally:
        door.containers.remove(mine)
        door.containers.remove(other)


@pytest.mark.usefixtures("busybox_image")
def test_jobs_go_on_without_it(beaker: Command, door: Door) -> None:
    """`down` says how many it leaves; after that, or a kill, `up` finds them; `--stop-jobs` ends them."""
    beaker("up", "--no-images").well()
    submit(beaker, REFERENCE, "sleep 600")
    submit(beaker, REFERENCE, "trap 'exit 0' TERM; while :; do sleep 0.1; done")
    wait(lambda: beaker.status()["jobs"] == {"running": 2}, beaker)
    containers = running(door, beaker)
    assert len(containers) == 2
    assert "2 jobs are unfinished" in beaker("down").well().err
    assert running(door, beaker) == containers
    beaker("up", "--no-images").well()
    assert beaker.status()["jobs"] == {"running": 2}
    os.kill(beaker.status()["endpoint"]["pid"], signal.SIGKILL)
    wait(lambda: not beaker.status()["running"], beaker)
    assert running(door, beaker) == containers
    beaker("up", "--no-images").well()
    assert running(door, beaker) == containers
    assert "stopping 2 jobs" in beaker("down", "--stop-jobs").well().err
    assert running(door, beaker) == []
    beaker("up", "--no-images").well()
    assert beaker.status()["jobs"] == {"canceled": 2}


def submit(beaker: Command, image: str, script: str) -> None:
    """Make an experiment of one task, as a user."""
    endpoint = beaker.status()["endpoint"]
    with sqlite3.connect(beaker.state / "beaker.db") as database:
        (workspace,) = database.execute("SELECT id FROM workspaces").fetchone()
    task = {
        "image": {"docker": image},
        "command": ["sh", "-c", script],
        "result": {"path": "/results"},
        "context": {"priority": "normal"},
        "constraints": {"cluster": ["ai2/general-cirrascale"]},
    }
    request = urllib.request.Request(
        f"http://{endpoint['rest']}/api/v3/workspaces/{workspace}/experiments",
        data=json.dumps({"version": "v2", "tasks": [task]}).encode(),
        headers={"Authorization": f"Bearer {token_of(Layout(beaker.state), 'me')}"},
        method="POST",
    )
    urllib.request.urlopen(request, timeout=DEADLINE).close()


def running(door: Door, beaker: Command) -> list[str]:
    """The server's containers that run, by name."""
    found = door.containers.labelled(LABEL, Layout(beaker.state).owner, ("running",))
    return sorted(each.name for each in found)


def wait(condition: Callable[[], bool], beaker: Command) -> None:
    """Wait until something is so; AssertionError with what is, when it is not for long."""
    ended = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < ended, (beaker.status(), beaker("logs").out)
        time.sleep(0.1)


def test_two_on_one_machine(beaker: Command, tmp_path: Path) -> None:
    """Another state directory is another server, with its own users and ports."""
    other = Command(beaker.project, tmp_path / "other")
    config = tmp_path / "beaker.yml"
    config.write_text("users: [{name: ada, organizations: [ai2], admin: true}]\n")
    try:
        beaker("up", "--no-images").well()
        other("up", "--no-images", "--config", str(config)).well()
        assert (beaker.who().well().out, other.who().well().out) == ("me\n", "ada\n")
    finally:
        other("reset", "--yes")
