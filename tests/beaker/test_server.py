"""The server as a process: where it listens, what it leaves, how it ends, and what cannot end it."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import ssl
import subprocess
import sys
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dispatch._docker import Door, ImageRecord
from dispatch._docker.containers import ContainerSpec
from dispatch._docker.networks import interface_address
from dispatch.beakerd.authority import certificate_for
from dispatch.beakerd.config import Config, UserConfig
from dispatch.beakerd.layout import Endpoint
from dispatch.beakerd.serverlog import ServerLog
from dispatch.errors import DispatchError
from dispatch.testing.beaker import Beakers, LocalBeaker

DEADLINE = 60.0


def addresses_of_this_machine() -> set[str]:
    """Every IPv4 address of this machine's interfaces."""
    found = {interface_address(name) for _, name in socket.if_nameindex()}
    return {each for each in found if each is not None}


def connects(host: str, port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((host, port), 5).close()
    except OSError:
        return False
    return True


def get(beaker: Any, path: str, token: str | None = None) -> Any:
    """GET a path of REST, as an administrator unless another token is given."""
    headers = {"Authorization": f"Bearer {token or beaker.endpoint.admin_token}"}
    request = urllib.request.Request(f"http://{beaker.endpoint.rest}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=DEADLINE) as reply:
        return json.load(reply)


def test_it_listens_on_loopback_and_the_bridge_alone(beaker: LocalBeaker) -> None:
    """No other address of this machine has either port."""
    bridge = interface_address("docker0")
    assert beaker.endpoint.bridge == bridge
    for where in (beaker.endpoint.rpc, beaker.endpoint.rest):
        host, _, port = where.partition(":")
        assert host == "127.0.0.1"
        listening = {each for each in addresses_of_this_machine() if connects(each, int(port))}
        assert listening == {"127.0.0.1"} | ({bridge} if bridge else set())
        assert not connects("::1", int(port))


@pytest.mark.engine
def test_containers_reach_it(beaker: LocalBeaker, door: Door, busybox_image: ImageRecord) -> None:
    """From a container of the default network both ports answer at the bridge's address."""
    host = beaker.endpoint.bridge
    rpc, rest = (where.rpartition(":")[2] for where in (beaker.endpoint.rpc, beaker.endpoint.rest))
    script = f"wget -qO- http://{host}:{rest}/local/health && nc -w 5 {host} {rpc} </dev/null"
    spec = ContainerSpec(image=busybox_image.id, command=("sh", "-c", script), network="bridge")
    container = door.containers.create(spec)
    try:
        door.containers.start(container)
        code = door.containers.wait(container, DEADLINE)
        said = b"".join(frame.data for frame in door.containers.logs(container))
    finally:
        door.containers.remove(container)
    assert (code, b'"ok"' in said) == (0, True), said


def test_its_certificate_holds_where_it_listens(beaker: LocalBeaker) -> None:
    """Over loopback and the bridge, by address and by the names that clients and jobs use."""
    context = ssl.create_default_context(cafile=beaker.endpoint.ca)
    host, _, port = beaker.endpoint.rpc.partition(":")
    names = [host, "localhost", "host.docker.internal", *filter(None, [beaker.endpoint.bridge])]
    for name in names:
        with socket.create_connection((host, int(port)), 10) as line:
            context.wrap_socket(line, server_hostname=name).close()


def test_a_killed_server_starts_again_where_it_was(beakers: Beakers) -> None:
    """After kill -9 the same state starts anew: same ports, same token, same data, no word of the old one."""
    first = beakers.spawn()
    with first.client() as client:
        user = client.user.get().id
    first.kill()
    assert first.layout.endpoint.exists(), "what it left behind"
    second = beakers.spawn()
    assert (second.endpoint.rpc, second.endpoint.rest) == (first.endpoint.rpc, first.endpoint.rest)
    assert second.endpoint.admin_token != first.endpoint.admin_token
    with second.client() as client:
        assert client.user.get().id == user
    assert second.terminate() < 10
    assert not second.layout.endpoint.exists()


def test_a_client_goes_on_over_a_restart(beakers: Beakers) -> None:
    """A client of before the kill works with the server after it."""
    first = beakers.spawn()
    with first.client() as client:
        assert client.user.get().name == "me"
        first.kill()
        beakers.spawn()
        assert client.user.get().name == "me"


def test_one_state_has_one_server(beakers: Beakers, beaker: LocalBeaker) -> None:
    """A second one is refused, and leaves the first one's endpoint alone."""
    with pytest.raises(AssertionError, match="runs here already"):
        beakers.spawn(None, "one")
    assert Endpoint(**json.loads(beaker.layout.endpoint.read_text())) == beaker.endpoint
    assert get(beaker, "/local/health") == {"status": "ok"}


def test_a_port_that_clients_know_is_not_changed(beakers: Beakers) -> None:
    """Where another program has taken it meanwhile, the server says so and does not start."""
    first = beakers.start()
    first.stop()
    host, _, port = first.endpoint.rest.partition(":")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind((host, int(port)))
        other.listen()
        with pytest.raises(DispatchError, match=f"{port}.*is taken by another program"):
            beakers.start()
    assert beakers.start().endpoint.rest == first.endpoint.rest


def test_what_it_keeps_is_its_users_alone(beaker: LocalBeaker) -> None:
    """Nobody else can look into the state; nobody else could read a token or key, if they could."""
    root = beaker.layout.root
    assert root.stat().st_mode & 0o777 == 0o700
    for path in root.rglob("*"):
        mode = path.stat().st_mode & 0o777
        if path.is_dir():
            assert mode == 0o700, path
        elif path.name in ("ca.pem", "roots.pem"):
            assert mode == 0o644, path
        else:
            assert mode == 0o600, path


def test_its_own_token_does_not_pile_up(beakers: Beakers) -> None:
    """Each start ends the token of the start before; users keep theirs."""
    first = beakers.start()
    token = first.token()
    first.stop()
    for _ in range(3):
        last = beakers.start()
        assert last.token() == token
        last.stop()
    with sqlite3.connect(last.layout.database) as database:
        assert database.execute("SELECT count(*) FROM tokens").fetchone() == (2,)


def test_a_user_who_is_gone_from_the_configuration_is_locked_out(beakers: Beakers) -> None:
    """The token ends, and the file that held it is gone."""
    users = (UserConfig("me", ("ai2",), admin=True), UserConfig("other", ("ai2",)))
    first = beakers.start(Config(users=users))
    token = first.token("other")
    get_user = {"path": "/local/status", "token": token}
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(first, **get_user)
    first.stop()
    second = beakers.start(Config(users=users[:1]))
    assert not (second.layout.users / "other" / "config.yml").exists()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(second, **get_user)


def test_status_says_what_it_is(beaker: LocalBeaker) -> None:
    """Users, clusters with their nodes, and the engine; only to an administrator."""
    found = get(beaker, "/local/status", beaker.token())
    assert found["users"] == ["me"]
    assert found["clusters"][0]["name"] == "ai2/general-cirrascale"
    assert found["clusters"][0]["nodes"][0]["cpus"] == os.cpu_count()
    assert found["pid"] == os.getpid()
    assert found["disk"] > 0


def test_a_damaged_certificate_is_made_anew(beakers: Beakers) -> None:
    """A certificate without its key, as a kill between the two files leaves them, is replaced."""
    first = beakers.start()
    first.stop()
    key = first.layout.authority / "server.key"
    other = certificate_for(beakers.authority.parent.parent / "other", ["localhost"], _now())
    key.write_bytes(other.key)
    with beakers.start().client() as client:
        assert client.user.get().name == "me"


def test_a_damaged_authority_is_said(beakers: Beakers) -> None:
    """Without its key nothing can be signed: an error that says what to do, not a traceback."""
    first = beakers.start()
    first.stop()
    layout = first.layout
    (layout.authority / "ca.key").write_text("rubbish")
    with pytest.raises(DispatchError, match="damaged"):
        certificate_for(layout.authority, ["localhost"], _now())


def test_a_state_of_a_newer_version_is_refused(beakers: Beakers) -> None:
    """The database is left as it is, and the next start of the right version finds it unlocked."""
    first = beakers.start()
    first.stop()
    with sqlite3.connect(first.layout.database) as database:
        (version,) = database.execute("PRAGMA user_version").fetchone()
        database.execute("PRAGMA user_version = 99")
    with pytest.raises(DispatchError, match="version 99"):
        beakers.start()
    with sqlite3.connect(first.layout.database) as database:
        database.execute(f"PRAGMA user_version = {version}")
    beakers.start()


def test_it_ends_with_clients_connected(beakers: Beakers) -> None:
    """SIGTERM ends it with open connections of both protocols, and a request half sent."""
    running = beakers.spawn()
    host, _, port = running.endpoint.rest.partition(":")
    with running.client() as client, socket.create_connection((host, int(port))) as half:
        assert client.user.get().name == "me"
        half.sendall(b"POST /local/stop-jobs HTTP/1.1\r\nContent-Le")
        assert running.terminate() < 10


def test_rest_over_tls(beakers: Beakers) -> None:
    """With `rest_tls` the same routes answer over TLS; plain HTTP and rubbish on the port harm nobody."""
    running = beakers.start(replace(Config(), rest_tls=True))
    config = (running.layout.users / "me" / "config.yml").read_text()
    assert f"agent_address: https://{running.endpoint.rest}" in config
    host, _, port = running.endpoint.rest.partition(":")
    silent = [socket.create_connection((host, int(port))) for _ in range(100)]
    for data in (b"GET /local/health HTTP/1.1\r\n\r\n", b"\x16\x03\x01\xff\xff rubbish"):
        with socket.create_connection((host, int(port)), 10) as line:
            line.sendall(data)
    context = ssl.create_default_context(cafile=running.endpoint.ca)
    url = f"https://{running.endpoint.rest}/local/health"
    with urllib.request.urlopen(url, timeout=DEADLINE, context=context) as reply:
        assert json.load(reply) == {"status": "ok"}
    assert running.lines == []
    for each in silent:
        each.close()


def test_it_serves_without_its_engine(authority: Path, tmp_path: Path) -> None:
    """With an engine that does not answer all is there but containers, and status says what is wrong."""
    beakers = Beakers(tmp_path / "beaker", authority / "tls", engine=f"unix://{tmp_path}/none.sock")
    running = beakers.start()
    try:
        with running.client() as client:
            assert client.user.get().name == "me"
        assert "none.sock" in get(running, "/local/status")["engine"]["problem"]
    finally:
        beakers.close()


def test_the_log_has_a_line_for_start_and_end(beakers: Beakers) -> None:
    """And none for requests, and no token."""
    running = beakers.spawn()
    with running.client() as client:
        client.user.get()
    running.terminate()
    lines = running.layout.log.read_text().splitlines()
    assert [line.split()[1].rstrip(":") for line in lines] == ["started", "ended"]
    assert not any(running.token() in line for line in lines)


def test_the_log_is_bounded(tmp_path: Path) -> None:
    """What is beyond the limit begins a new file; one older one is kept."""
    log = ServerLog(tmp_path / "server.log", lambda: "now", adopt_stderr=True, limit=10_000)
    script = (
        "import sys; from pathlib import Path; from dispatch.beakerd.serverlog import ServerLog\n"
        "log = ServerLog(Path(sys.argv[1]), lambda: 'now', adopt_stderr=True, limit=10_000)\n"
        "for number in range(1000): log(f'line {number} ' + 'x' * 90)\n"
        "print('from a library', file=sys.stderr)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "server.log")], check=True)
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["server.log", "server.log.1"]
    assert all(file.stat().st_size < 11_000 for file in files)
    assert files[0].read_text().endswith("from a library\n")
    assert "line 999" in files[0].read_text()
    assert log is not None


def test_a_configuration_is_kept(beakers: Beakers, tmp_path: Path) -> None:
    """A start without one takes that of the start before."""
    config = tmp_path / "beaker.yml"
    config.write_text("users: [{name: ada, organizations: [ai2], admin: true}]\n")
    first = beakers.spawn(config)
    first.terminate()
    config.unlink()
    with beakers.spawn().client("ada") as client:
        assert client.user.get().name == "ada"


def _now() -> Any:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc)
