"""Records: their JSON form is exact, and what is no record is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from dispatch.errors import WorkspaceError
from dispatch.info import AttemptFacts, Run, RunInfo, StepInfo, StepRecord, StepState

RECORD = StepRecord(
    name="train",
    unique_id="Train-001-abc",
    class_name="Train",
    type="train",
    version="001",
    cacheable=True,
    deterministic=False,
    dependencies=("Load-x", "Load-y"),
    config={"type": "train", "data": [{"ref": "load"}], "C": 0.1, "n": None},
)
FACTS = AttemptFacts(
    state=StepState.FAILED,
    started=datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=timezone.utc),
    ended=datetime(2024, 1, 2, 3, 4, 6, 1, tzinfo=timezone(timedelta(hours=2))),
    exit_code=137,
    reason="oom",
    phase="run",
    error="killed for memory",
    exception={"type": "E", "message": "é", "traceback": "…"},
    image="sklearn",
    image_digest="sha256:0",
    commit="c",
    tree="t",
    engine="docker",
    interpreter="3.11.2",
    phases={"source": 0.1, "run": 1e-9},
    code="d",
    platform={"os": "Linux", "cpu_count": 2, "user": "me", "host": "here"},
    environment={"python": "3.11.2", "command": "x -y", "git": {"commit": "c", "remote": "r"}},
    peak_memory=2**30,
)


@pytest.mark.parametrize(
    "value",
    [
        RECORD,
        replace(RECORD, version=None, dependencies=(), config={}),
        FACTS,
        AttemptFacts(StepState.COMPLETED),
        AttemptFacts.refused("no room"),
        StepInfo(RECORD, StepState.FAILED, FACTS, "/ws/cache/x"),
        StepInfo(RECORD, StepState.INCOMPLETE),
    ],
)
def test_json_gives_back_the_same_value(value: Any) -> None:
    """Through JSON and back every field is the same, times to the microsecond and the zone."""
    found = type(value).from_json(json.loads(json.dumps(value.to_json())))
    assert found == value
    assert repr(found) == repr(value)


@pytest.mark.parametrize(
    ("cls", "value", "change"),
    [
        (StepRecord, RECORD, {"name": 3}),
        (StepRecord, RECORD, {"cacheable": "yes"}),
        (StepRecord, RECORD, {"dependencies": [1]}),
        (StepRecord, RECORD, {"dependencies": 1}),
        (StepRecord, RECORD, {"config": None}),
        (StepRecord, RECORD, {"version": 1}),
        (AttemptFacts, FACTS, {"state": "odd"}),
        (AttemptFacts, FACTS, {"started": "yesterday"}),
        (AttemptFacts, FACTS, {"started": "2024-01-02T03:04:05"}),
        (AttemptFacts, FACTS, {"exit_code": "1"}),
        (AttemptFacts, FACTS, {"error": None}),
        (StepInfo, StepInfo(RECORD, StepState.FAILED, FACTS), {"record": {}}),
        (StepInfo, StepInfo(RECORD, StepState.FAILED, FACTS), {"result_location": 3}),
    ],
)
def test_what_is_no_record_is_refused(cls: Any, value: Any, change: dict[str, Any]) -> None:
    """A field of another type, or none, is an error and never a half-right record."""
    raw = value.to_json()
    with pytest.raises(WorkspaceError, match="cannot be read"):
        cls.from_json({**raw, **change})
    with pytest.raises(WorkspaceError, match="is missing"):
        cls.from_json({key: item for key, item in raw.items() if key not in change})


def test_keys_of_later_versions_are_left_out() -> None:
    """A record with keys we do not know is read without them."""
    assert StepRecord.from_json({**RECORD.to_json(), "later": 1}) == RECORD


def test_times_must_be_aware() -> None:
    """A time without a zone is not written: it would mean another moment elsewhere."""
    with pytest.raises(ValueError, match="in no time zone"):
        AttemptFacts(StepState.FAILED, started=datetime(2024, 1, 1)).to_json()


def test_a_steps_information_is_its_record_and_its_latest_attempt() -> None:
    """The seeds' names of the fields are there, and say nothing where there was no attempt."""
    info = StepInfo(RECORD, StepState.FAILED, FACTS)
    assert (info.unique_id, info.step_name, info.step_class_name) == ("Train-001-abc", "train", "Train")
    assert (info.version, info.cacheable, info.config) == ("001", True, RECORD.config)
    assert info.dependencies == {"Load-x", "Load-y"}
    assert (info.start_time, info.end_time, info.error) == (FACTS.started, FACTS.ended, "killed for memory")
    assert info.duration == FACTS.ended - FACTS.started  # type: ignore[operator]
    fresh = StepInfo(RECORD, StepState.INCOMPLETE)
    assert (fresh.start_time, fresh.end_time, fresh.duration, fresh.error) == (None, None, None, None)
    assert AttemptFacts(StepState.RUNNING, started=FACTS.started).duration is None


def test_runs_hold_their_targets() -> None:
    """A run is its name, targets and date; a listing may leave the targets out."""
    now = datetime(2024, 1, 1, tzinfo=timezone.utc)
    run = Run("r", {"train": StepInfo(RECORD, StepState.COMPLETED)}, now)
    assert run.steps["train"].state is StepState.COMPLETED
    assert RunInfo("r", now).steps is None


def test_a_record_from_before_the_digest_of_the_code() -> None:
    """Records of attempts without it are read, as ones of which it is not known."""
    raw = FACTS.to_json()
    del raw["code"]
    assert AttemptFacts.from_json(raw) == replace(FACTS, code="")


def test_records_from_before_more_was_kept() -> None:
    """Records without identity, metadata and surroundings are read, as ones of which they are not known."""
    step, facts = RECORD.to_json(), FACTS.to_json()
    for name in ("identity", "metadata"):
        del step[name]
    for name in ("platform", "environment"):
        del facts[name]
    assert StepRecord.from_json(step) == RECORD
    assert AttemptFacts.from_json(facts) == replace(FACTS, platform={}, environment={})


def test_where_and_by_what_a_step_was_made() -> None:
    """Machine and process of the latest attempt are there, times in the zone of this machine, too."""
    info = StepInfo(replace(RECORD, metadata={"owner": "me"}), StepState.FAILED, FACTS)
    assert (info.platform, info.environment) == (FACTS.platform, FACTS.environment)
    assert info.metadata == {"owner": "me"}
    for local, time in ((info.start_time_local, info.start_time), (info.end_time_local, info.end_time)):
        assert local is not None
        assert time is not None
        assert local == time
        assert local.utcoffset() == time.astimezone().utcoffset()
    fresh = StepInfo(RECORD, StepState.INCOMPLETE)
    assert (fresh.platform, fresh.environment, fresh.metadata) == ({}, {}, {})
    assert (fresh.start_time_local, fresh.end_time_local) == (None, None)
