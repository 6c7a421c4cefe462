"""Requests of any content for workloads and jobs: answered or refused, never the server's failure."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from beaker import beaker_pb2 as pb2
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp

from dispatch.beakerd.access import Principal, Purpose
from dispatch.beakerd.backend import Backend
from dispatch.beakerd.config import Config
from dispatch.beakerd.problems import Problem
from dispatch.beakerd.rest.experiments import changes
from dispatch.beakerd.rpc import jobs, workloads
from dispatch.beakerd.rpc.server import Method
from dispatch.beakerd.spec import ExperimentSpec, ImageSource, TaskSpec
from dispatch.beakerd.store.lifecycle import Assignment
from dispatch.beakerd.store.workloads import NewExperiment
from dispatch.testing.beaker_runner import bare_backend

METHODS: dict[str, Method] = {**workloads.METHODS, **jobs.METHODS}
WHOLE = (0, 1, 2, 3, 50, 1000, 2**31 - 1)
FAR = (-62_135_596_800, 0, 1_700_000_000, 253_402_300_799)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Backend]:
    """The parts of a server."""
    made = bare_backend(tmp_path, Config())
    yield made
    made.database.close()


def fill(message: Any, chance: random.Random, texts: list[str]) -> Any:
    """Fill a message with values that its types allow."""
    if isinstance(message, Timestamp):
        message.seconds, message.nanos = chance.choice(FAR), chance.choice((0, 1, 999_999_999))
        return message
    for field in message.DESCRIPTOR.fields:
        if chance.random() < 0.5:
            continue
        count = chance.randrange(3) if field.is_repeated else 1
        for _ in range(count):
            value = value_of(field, chance, texts)
            if value is None:
                part = getattr(message, field.name)
                fill(part.add() if field.is_repeated else part, chance, texts)
            elif field.is_repeated:
                getattr(message, field.name).append(value)
            else:
                setattr(message, field.name, value)
    return message


def value_of(field: FieldDescriptor, chance: random.Random, texts: list[str]) -> Any:
    """A value of a field; None for a message."""
    if field.type == field.TYPE_STRING:
        return chance.choice(texts)
    if field.type == field.TYPE_BOOL:
        return chance.random() < 0.5
    if field.type == field.TYPE_MESSAGE:
        return None
    return chance.choice(WHOLE)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_no_request_is_the_servers_failure(backend: Backend, name: str) -> None:
    """Ids that are there and that are not, sizes, times and tokens out of any range."""
    chance = random.Random(name)
    who = made(backend)
    with backend.database.read() as tx:
        texts = ["", "x", "\0", "a/b", "é" * 1000, "eyJhZnRlciI6IFsxLCAiYSJdfQ=="]
        for table in ("experiments", "tasks", "jobs", "workspaces", "nodes", "clusters", "users"):
            texts += [row["id"] for row in tx.execute(f"SELECT id FROM {table}")]
    request_of = getattr(pb2, f"{name}Request")
    answered = 0
    for _ in range(300):
        request = fill(request_of(), chance, texts)
        try:
            METHODS[name](backend, who, request).SerializeToString()
            answered += 1
        except Problem as problem:
            assert problem.message
        if name == "DeleteWorkloads" and answered:
            who = made(backend)
    if name != "ResolveWorkloadName":
        assert answered


def made(backend: Backend) -> Principal:
    """Two experiments, one of which has its place, and the user whose they are."""
    with backend.database.write() as tx:
        workspace, author = tx.execute("SELECT w.id, u.id FROM workspaces w, users u LIMIT 1").fetchone()
        spec = ExperimentSpec(tasks=(TaskSpec(ImageSource(docker="x"), name="t"),))
        for _ in range(2):
            changes(backend).create(tx, NewExperiment("", author, workspace, '{"a": 1}', spec))
        job, node = tx.execute("SELECT j.id, n.id FROM jobs j, nodes n ORDER BY j.id DESC").fetchone()
        backend.lifecycle.assign(tx, job, Assignment(node))
    return Principal(author, Purpose.USER)
