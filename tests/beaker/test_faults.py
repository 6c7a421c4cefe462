"""Faults on demand, and what the real client makes of them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import threading
import time
import urllib.error
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import grpc
import pytest
import requests
from beaker import beaker_pb2 as pb2
from beaker import exceptions
from beaker.beaker_pb2_grpc import BeakerStub

from dispatch.beakerd.authority import certificate_for
from dispatch.beakerd.config import Config, UserConfig
from dispatch.beakerd.connections import cut
from dispatch.beakerd.faults import REST, RPC, Kind, Rule, parse_rule
from dispatch.beakerd.faults import Faults as Rules
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.rest.faulty import FaultyRest
from dispatch.beakerd.rpc.faulty import FaultyRpc, spoil_digests
from dispatch.beakerd.rpc.server import RpcServer
from dispatch.testing.beaker import Beakers, LocalBeaker
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_runner import bare_backend
from dispatch.testing.processes import until

LIMIT = 60.0
TWO = (UserConfig("me", ("ai2",), admin=True), UserConfig("you", ("ai2",)))


@pytest.fixture
def beaker(beakers: Beakers) -> LocalBeaker:
    """A server of two users that takes faults."""
    return beakers.start(Config(control=True, users=TWO))


@pytest.fixture
def faults(beaker: LocalBeaker) -> Faults:
    """Its faults."""
    return Faults(beaker)


@pytest.fixture
def client(beaker: LocalBeaker) -> Iterator[Any]:
    """The real client, which waits for less time between its attempts."""
    with hasty(beaker) as client:
        yield client


def hasty(beaker: LocalBeaker, user: str = "me") -> Any:
    """A client with all of the real one's attempts and a hundredth of its pauses."""
    client = beaker.client(user)
    client.BACKOFF_FACTOR = 0.01
    return client


def refused(act: Callable[[], object]) -> int:
    """The HTTP status of a request that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        act()
    return caught.value.code


# Who may ask, and for what.


def test_without_control_there_is_nothing(beakers: Beakers) -> None:
    """Not even for an administrator, nor for someone without a token."""
    beaker = beakers.start()
    for token in (beaker.endpoint.admin_token, "wrong"):
        faults = Faults(beaker, token)
        assert refused(lambda faults=faults: faults.add("*", "drop")) == 404  # type: ignore[misc]
        assert refused(faults.clear) == 404
        assert refused(lambda faults=faults: faults.revoke("me")) == 404  # type: ignore[misc]
        assert refused(lambda faults=faults: faults.lose("local-1")) == 404  # type: ignore[misc]
        assert refused(lambda faults=faults: faults.preempt("J")) == 404  # type: ignore[misc]


def test_only_administrators_may_ask(beaker: LocalBeaker) -> None:
    """A user's token is not enough, and none at all is too little."""
    with beaker.client("you") as client:
        token = client.config.user_token
    assert refused(lambda: Faults(beaker, token).add("*", "drop")) == 403
    assert refused(lambda: Faults(beaker, "wrong").add("*", "drop")) == 401
    with beaker.client("me") as client:
        Faults(beaker, client.config.user_token).add("rpc:*", "latency")


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"on": "*"},
        {"on": "*", "kind": "flood"},
        {"kind": "drop"},
        {"on": 3, "kind": "drop"},
        {"on": "GetJob", "kind": "drop"},
        {"on": "rpc:*", "kind": "truncate"},
        {"on": "rest:*", "kind": "reset"},
        {"on": "*", "kind": "drop", "times": -1},
        {"on": "*", "kind": "drop", "times": 1.5},
        {"on": "*", "kind": "drop", "times": True},
        {"on": "*", "kind": "drop", "after": "3"},
        {"on": "*", "kind": "drop", "probability": 1.1},
        {"on": "*", "kind": "drop", "seconds": 1e9},
        {"on": "*", "kind": "drop", "seconds": float("nan")},
        {"on": "*", "kind": "drop", "user": 1},
        {"on": "*", "kind": "drop", "time": 1},
    ],
)
def test_a_rule_that_is_none_is_refused(rule: dict[str, Any]) -> None:
    """With what is wrong about it; a rule that could never strike is one, too."""
    with pytest.raises(Problem):
        parse_rule(rule)


def test_rules_are_added_counted_and_ended(faults: Faults, client: Any) -> None:
    """Each says how many requests it fitted and struck; one that is not there cannot be ended."""
    first = faults.add("rpc:GetUser", "latency", after=1, times=1)
    second = faults.add("rest:PUT /*", "drop", user="you")
    for _ in range(3):
        client.user.get()
    report = faults.ask("GET", "faults")["faults"]
    assert [(each["id"], each["seen"], each["hits"]) for each in report] == [(first, 3, 1), (second, 0, 0)]
    faults.remove(first)
    assert refused(lambda: faults.remove(first)) == 404
    faults.clear()
    assert faults.ask("GET", "faults") == {"faults": []}


@pytest.mark.parametrize(
    ("on", "requests", "struck"),
    [
        ("*", ["rpc GetJob", "rest GET /x"], [True, True]),
        ("rpc:*", ["rpc GetJob", "rest GET /x"], [True, False]),
        ("rpc:Get*", ["rpc GetJob", "rpc ListJobs"], [True, False]),
        ("rest:PUT /datasets/*", ["rest PUT /datasets/a/files/b/c", "rest GET /datasets/a"], [True, False]),
        ("rest:get *", ["rest GET /x"], [False]),
    ],
)
def test_which_requests_a_rule_fits(on: str, requests: list[str], struck: list[bool]) -> None:
    """A glob over the protocol, and the method or the verb and path."""
    rules = Rules()
    rules.add(Rule(on, Kind.DROP))
    found = []
    for each in requests:
        protocol, _, request = each.partition(" ")
        found.append(
            rules.strike(RPC if protocol == "rpc" else REST, request, lambda: None).kind is Kind.DROP
        )
    assert found == struck


def test_the_same_seed_strikes_the_same_requests() -> None:
    """A probability is drawn from a seed, so that a failure can be had again."""

    def struck(seed: int) -> list[bool]:
        rules = Rules()
        rules.add(Rule("*", Kind.DROP, probability=0.3, seed=seed))
        return [rules.strike(RPC, "GetJob", lambda: None).kind is not None for _ in range(200)]

    assert struck(1) == struck(1) != struck(2)
    assert 30 < sum(struck(1)) < 90


def test_latencies_add_up_and_something_else_may_follow() -> None:
    """The first rule that is no latency decides."""
    rules = Rules()
    for rule in (Rule("*", Kind.LATENCY, seconds=1.0), Rule("rpc:*", Kind.LATENCY, seconds=2.0)):
        rules.add(rule)
    rules.add(Rule("*", Kind.DROP, times=1))
    rules.add(Rule("*", Kind.UNAVAILABLE))
    strikes = [rules.strike(RPC, "GetJob", lambda: None) for _ in range(2)]
    assert [(each.latency, each.kind) for each in strikes] == [(3.0, Kind.DROP), (3.0, Kind.UNAVAILABLE)]


# What the real client makes of them: gRPC.


@pytest.mark.parametrize("kind", ["unavailable", "drop", "lose", "reset"])
def test_what_looks_like_an_outage_is_repeated_silently(
    faults: Faults, client: Any, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Three times, and more often than the client repeats anything else; its user sees nothing."""
    for times in (3, client.MAX_RETRIES + 4):
        fault = faults.add("rpc:GetUser", kind, times=times)
        assert client.user.get().name == "me"
        assert faults.hits(fault) == times
    assert caplog.messages == []


def test_an_outage_without_end_is_repeated_without_end(faults: Faults, client: Any) -> None:
    """The client is still at it after more attempts than it makes for anything else."""
    fault = faults.add("rpc:GetUser", "unavailable")
    found: list[str] = []
    asking = threading.Thread(target=lambda: found.append(client.user.get().name))
    asking.start()
    until(lambda: faults.hits(fault) > 3 * client.MAX_RETRIES, "it gave up")
    assert found == []
    faults.clear()
    asking.join(LIMIT)
    assert found == ["me"]


def test_an_internal_error_is_repeated_a_few_times(faults: Faults, client: Any) -> None:
    """Then it is raised; the client says so in its log meanwhile."""
    fault = faults.add("rpc:GetUser", "500")
    with pytest.raises(exceptions.BeakerServerError):
        client.user.get()
    assert faults.hits(fault) == 1 + client.MAX_RETRIES


def test_too_many_requests_are_not_repeated_over_grpc(faults: Faults, client: Any) -> None:
    """The client does not know the status, and raises it raw."""
    fault = faults.add("rpc:*", "429")
    with pytest.raises(grpc.RpcError) as caught:
        client.user.get()
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert faults.hits(fault) == 1


def test_latency_is_waited_for(faults: Faults, client: Any) -> None:
    """Once, and then no more."""
    client.user.get()
    faults.add("rpc:GetUser", "latency", seconds=1.0, times=1)
    took = []
    for _ in range(2):
        begun = time.monotonic()
        client.user.get()
        took.append(time.monotonic() - begun)
    assert took[1] < 1.0 <= took[0]


def test_faults_of_one_user_are_not_anothers(beaker: LocalBeaker, faults: Faults) -> None:
    """Of both protocols."""
    faults.add("*", "429", user="you")
    with hasty(beaker, "me") as mine, hasty(beaker, "you") as yours:
        assert mine.user.get().name == "me"
        with pytest.raises(grpc.RpcError):
            yours.user.get()
        with pytest.raises(exceptions.BeakerError, match="code=404"):
            mine.user.http_request("nothing")
        with pytest.raises(exceptions.BeakerError, match="code=429"):
            yours.user.http_request("nothing")


def test_a_revoked_token_opens_nothing_until_it_is_given_back(
    beaker: LocalBeaker, faults: Faults, client: Any
) -> None:
    """Neither protocol repeats it; the one who asked for the fault is not locked out; others go on."""
    faults.revoke("me")
    with pytest.raises(grpc.RpcError) as caught:
        client.user.get()
    assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(exceptions.BeakerError, match="code=401"):
        client.user.http_request("workspaces/any/experiments", method="POST")
    with hasty(beaker, "you") as other:
        assert other.user.get().name == "you"
    faults.give_back("me")
    assert client.user.get().name == "me"
    assert refused(lambda: faults.revoke("nobody")) == 404


def test_who_revokes_its_own_user_keeps_the_token_it_asks_with(
    beaker: LocalBeaker, faults: Faults, client: Any
) -> None:
    """And the token of whoever runs the server stays, too."""
    own = Faults(beaker, client.config.user_token)
    own.revoke("me")
    assert client.user.get().name == "me"
    faults.revoke("me")
    with pytest.raises(grpc.RpcError):
        client.user.get()
    faults.give_back("me")
    assert client.user.get().name == "me"


# What the real client makes of them: REST. A path that is not there is 404 when nothing goes wrong.


@pytest.mark.parametrize(
    ("kind", "method", "raised", "hits"),
    [
        # Known to be safe to repeat: GET, whatever goes wrong but for what is the caller's fault.
        ("500", "GET", "code=404", 3),
        ("unavailable", "GET", "code=404", 3),
        ("drop", "GET", "code=404", 3),
        ("lose", "GET", "code=404", 3),
        ("conflict", "GET", "code=404", 3),
        ("429", "GET", "code=429", 1),
        # All others: only the conflict that says so.
        ("500", "POST", "as was asked for", 1),
        ("unavailable", "PUT", "as was asked for", 1),
        ("drop", "PATCH", "Connection aborted", 1),
        ("lose", "DELETE", "Connection aborted", 1),
        ("conflict", "POST", "code=404", 3),
        ("conflict", "PATCH", "code=404", 3),
        ("429", "PUT", "code=429", 1),
    ],
)
def test_what_is_repeated_over_http(
    faults: Faults, client: Any, kind: str, method: str, raised: str, hits: int
) -> None:
    """Over plain HTTP urllib3's own repetitions, which are for https alone, do not count in."""
    fault = faults.add("rest:*", kind, times=3)
    with pytest.raises((exceptions.BeakerError, requests.RequestException), match=raised):
        client.user.http_request("nothing", method=method)
    assert faults.hits(fault) == hits


@pytest.mark.parametrize("kind", ["429", "500", "drop"])
def test_over_tls_more_is_repeated(beakers: Beakers, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """There urllib3 repeats a PUT as well, as it does against the real Beaker."""
    beaker = beakers.start(Config(control=True, rest_tls=True))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", beaker.endpoint.ca)
    faults = Faults(beaker)
    fault = faults.add("rest:PUT *", kind, times=2)
    with hasty(beaker) as client, pytest.raises(exceptions.BeakerError, match="code=404"):
        client.user.http_request("nothing", method="PUT")
    assert faults.hits(fault) == 2


def test_the_endpoint_itself_never_goes_wrong(faults: Faults, beaker: LocalBeaker) -> None:
    """Or nobody could end a fault."""
    fault = faults.add("*", "drop")
    assert requests.get(f"http://{beaker.endpoint.rest}/local/health", timeout=LIMIT).ok
    faults.remove(fault)


# Downloads, over a small application behind the same middleware.


class Served:
    """One answer, behind faults, by the WSGI server of the standard library's shape."""

    def __init__(self, root: Path, body: bytes, headers: dict[str, str]):
        self.backend = bare_backend(root, Config())
        self.body = body
        self.headers = headers
        self.answered = 0

    def __call__(self, _environ: dict[str, Any], start_response: Any) -> list[bytes]:
        """Answer in pieces."""
        self.answered += 1
        start_response("200 OK", [*self.headers.items(), ("Content-Length", str(len(self.body)))])
        return [self.body[place : place + 1000] for place in range(0, len(self.body), 1000)]

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve, and say where."""
        from cheroot import wsgi

        server = wsgi.Server(("127.0.0.1", 0), FaultyRest(self, self.backend), numthreads=4)
        server.prepare()
        thread = threading.Thread(target=server.serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.bind_addr[1]}/file"
        finally:
            server.stop()
            thread.join(LIMIT)
            self.backend.database.close()


@pytest.fixture
def served(tmp_path: Path) -> Served:
    """A file of some length with its digest."""
    body = os.urandom(100_500)
    digest = hashlib.sha256(body).hexdigest()
    return Served(
        tmp_path / "served", body, {"Digest": f"SHA256 {digest}", "Docker-Content-Digest": f"sha256:{digest}"}
    )


def test_a_truncated_answer_says_its_whole_length(served: Served) -> None:
    """The connection ends in the middle: whoever counts notices, and the next answer is whole."""
    served.backend.faults.add(Rule("rest:GET *", Kind.TRUNCATE, times=1))
    with served.running() as url:
        answer = requests.get(url, stream=True, timeout=LIMIT)
        assert int(answer.headers["Content-Length"]) == len(served.body)
        got = b""
        with pytest.raises(requests.RequestException):
            for piece in answer.iter_content(100):
                got += piece
        assert len(got) <= len(served.body) // 2
        assert served.body.startswith(got)
        assert requests.get(url, timeout=LIMIT).content == served.body


def test_a_corrupt_answer_has_its_length_and_other_bytes(served: Served) -> None:
    """Only a digest can tell."""
    served.backend.faults.add(Rule("rest:*", Kind.CORRUPT, times=1))
    with served.running() as url:
        got = requests.get(url, timeout=LIMIT).content
        assert got != served.body
        assert (len(got), got[1:]) == (len(served.body), served.body[1:])
        assert requests.get(url, timeout=LIMIT).content == served.body


def test_a_wrong_digest_is_another_of_the_same_shape(served: Served) -> None:
    """In both headers; an answer without any does not count."""
    right = dict(served.headers)
    fault = served.backend.faults.add(Rule("*", Kind.WRONG_DIGEST, times=1))
    with served.running() as url:
        served.headers = {}
        assert requests.get(url, timeout=LIMIT).ok
        assert [each["hits"] for each in served.backend.faults.report()] == [0]
        served.headers = right
        answer = requests.get(url, timeout=LIMIT)
        for name, value in right.items():
            assert answer.headers[name] != value
            assert len(answer.headers[name]) == len(value)
            assert answer.headers[name][:7] == value[:7]
        assert [(each["id"], each["hits"]) for each in served.backend.faults.report()] == [(fault, 1)]
        assert requests.get(url, timeout=LIMIT).headers["Digest"] == right["Digest"]


def test_a_lost_answer_was_carried_out_and_a_dropped_one_was_not(served: Served) -> None:
    """The two look the same to whoever asked."""
    with served.running() as url:
        for kind, answered in ((Kind.DROP, 0), (Kind.LOSE, 1)):
            served.backend.faults.add(Rule("rest:*", kind, times=1))
            with pytest.raises(requests.ConnectionError):
                requests.post(url, data=b"x" * 10_000, timeout=LIMIT)
            assert served.answered == answered


def test_listed_digests_are_spoiled() -> None:
    """Wherever they are in a message; one without any says so."""
    listed = pb2.ListDatasetFilesResponse()
    for name in "ab":
        file = listed.dataset_files.add(path=name)
        file.digest.value = hashlib.sha256(name.encode()).digest()
    assert spoil_digests(listed)
    for file in listed.dataset_files:
        right = hashlib.sha256(file.path.encode()).digest()
        assert file.digest.value != right
        assert file.digest.value[1:] == right[1:]
    assert not spoil_digests(pb2.GetUserResponse(user=pb2.User(name="me")))


# Connections and streams.


def test_a_connection_is_cut_by_its_other_end() -> None:
    """What was sent arrives, then it ends; others go on, and one that is not there is said to be none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        clients = [socket.create_connection(listening.getsockname()) for _ in range(2)]
        served = [listening.accept()[0] for _ in clients]
        served[0].sendall(b"before")
        assert cut(*clients[0].getsockname())
        assert clients[0].recv(10) == b"before"
        assert clients[0].recv(10) == b""
        served[1].sendall(b"alive")
        assert clients[1].recv(10) == b"alive"
        port = clients[0].getsockname()[1]
        for each in (*clients, *served):
            each.close()
    assert not cut("127.0.0.1", port)


@pytest.fixture
def streaming(authority: Path, tmp_path: Path) -> Iterator[tuple[Rules, BeakerStub, Any]]:
    """The faults of a server whose one stream never ends by itself, a stub of it, and a user's metadata.

    The stream counts, but that of the job ``silent`` says nothing, and that of ``ended`` ends at once.
    """
    from dispatch.beakerd.access import Principal, Purpose

    backend = bare_backend(tmp_path / "streaming", Config())
    with backend.database.write() as tx:
        user = tx.execute("SELECT id FROM users").fetchone()[0]
        token = backend.access.issue(tx, Principal(user, Purpose.USER))

    def count(_backend: Any, _who: Any, request: Any, alive: Callable[[], bool]) -> Iterator[Any]:
        number = 0
        while alive() and not backend.closing.is_set() and request.job_id != "ended":
            number += 1
            if request.job_id != "silent":
                yield [pb2.JobLog(message=str(number).encode()).SerializeToString()]
            time.sleep(0.01)

    def whoami(_backend: Any, who: Any, _request: Any) -> Any:
        return pb2.GetUserResponse(user=pb2.User(id=who.user_id))

    server = RpcServer(backend, {"GetUser": whoami}, {"StreamJobLogs": count}, [FaultyRpc(backend)])
    certificate = certificate_for(authority / "tls", ["localhost"], datetime.now(timezone.utc))
    ports: list[int] = []
    server.start(lambda bind: ports.append(bind("127.0.0.1:0")), certificate.key, certificate.chain)
    credentials = grpc.ssl_channel_credentials((authority / "tls" / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{ports[0]}", credentials) as channel:
        stub: Any = BeakerStub(channel)  # type: ignore[no-untyped-call]
        yield backend.faults, stub, [("authorization", f"bearer {token}")]
    backend.closing.set()
    server.stop(1.0)
    backend.database.close()


def followed(stub: BeakerStub, metadata: Any) -> tuple[int, grpc.RpcError]:
    """Follow the stream until it breaks: how many messages came, and how it ended."""
    came = 0
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stub.StreamJobLogs(pb2.StreamJobLogsRequest(), metadata=metadata, timeout=LIMIT):
            came += 1
    return came, caught.value


@pytest.mark.parametrize(
    ("kind", "code", "details"),
    [
        (Kind.DROP, grpc.StatusCode.UNAVAILABLE, ""),
        (Kind.RESET, grpc.StatusCode.INTERNAL, "RST_STREAM"),
        (Kind.UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, "asked for"),
    ],
)
def test_a_stream_breaks_in_its_middle(
    streaming: tuple[Rules, BeakerStub, Any], kind: Kind, code: grpc.StatusCode, details: str
) -> None:
    """After its time, and what came before is there; the next stream is whole."""
    faults, stub, metadata = streaming
    faults.add(Rule("rpc:StreamJobLogs", kind, times=1, seconds=0.5))
    came, error = followed(stub, metadata)
    assert came > 3
    assert error.code() == code
    assert details in error.details()

    def first() -> list[bytes]:
        stream = stub.StreamJobLogs(pb2.StreamJobLogsRequest(), metadata=metadata, timeout=LIMIT)
        # A connection that was cut may take one more call before the channel knows of it.
        with contextlib.suppress(grpc.RpcError):
            return [next(stream).message for _ in range(3)]
        return []

    until(lambda: first() == [b"1", b"2", b"3"], "the next stream is whole")


def test_a_silent_stream_is_dropped_at_its_time(streaming: tuple[Rules, BeakerStub, Any]) -> None:
    """And counts; one that ended before is whole, and does not."""
    faults, stub, metadata = streaming
    faults.add(Rule("rpc:StreamJobLogs", Kind.DROP, times=1, seconds=0.5))
    ended = stub.StreamJobLogs(pb2.StreamJobLogsRequest(job_id="ended"), metadata=metadata, timeout=LIMIT)
    assert list(ended) == []
    assert [each["hits"] for each in faults.report()] == [0]
    with pytest.raises(grpc.RpcError) as caught:
        next(stub.StreamJobLogs(pb2.StreamJobLogsRequest(job_id="silent"), metadata=metadata, timeout=LIMIT))
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert [each["hits"] for each in faults.report()] == [1]


def test_a_dropped_connection_takes_all_its_streams_with_it(streaming: tuple[Rules, BeakerStub, Any]) -> None:
    """It is the transport that goes, not one call."""
    faults, stub, metadata = streaming
    stream = stub.StreamJobLogs(pb2.StreamJobLogsRequest(), metadata=metadata, timeout=LIMIT)
    next(stream)
    faults.add(Rule("rpc:GetUser", Kind.DROP, times=1))
    with pytest.raises(grpc.RpcError) as caught:
        stub.GetUser(pb2.GetUserRequest(), metadata=metadata, timeout=LIMIT)
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    with pytest.raises(grpc.RpcError) as caught:
        for _ in stream:
            pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    def answered() -> bool:
        with contextlib.suppress(grpc.RpcError):
            return bool(stub.GetUser(pb2.GetUserRequest(), metadata=metadata, timeout=LIMIT).user.id)
        return False

    until(answered, "the next call is answered")


def test_the_report_says_what_was_asked_for(faults: Faults) -> None:
    """A rule of the report, without its counts, is the one that was sent."""
    asked = {"times": 2, "after": 1, "probability": 0.5, "seed": 7, "seconds": 0.25, "user": "you"}
    fault = faults.add("rest:PUT *", "truncate", **asked)
    (report,) = faults.ask("GET", "faults")["faults"]
    assert report == {"id": fault, "on": "rest:PUT *", "kind": "truncate", **asked, "seen": 0, "hits": 0}
