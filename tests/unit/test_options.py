"""The keys under which config says how a step is run, apart from its arguments."""

from __future__ import annotations

from typing import Any

import pytest

from dispatch.errors import ConfigurationError
from dispatch.options import MountUse, SecretUse, StepOptions, read_options
from dispatch.retry import RetryPolicy, read_retries


def test_what_a_step_may_say_of_its_running() -> None:
    """Each key becomes a typed value."""
    found = read_options(
        "s",
        {
            "step_secrets": ["TOKEN", {"name": "KEY", "env": True}],
            "step_mounts": [{"source": "~/models", "target": "/models/", "read_only": False}],
            "step_retries": 2,
            "step_timeout": "1h30m",
            "step_priority": -3,
            "step_group": "gpu",
        },
    )
    assert found == StepOptions(
        secrets=(SecretUse("TOKEN"), SecretUse("KEY", env=True)),
        mounts=(MountUse("~/models", "/models", read_only=False),),
        retries=RetryPolicy(limit=2),
        timeout=5400.0,
        priority=-3,
        group="gpu",
    )
    assert read_options("s", {}) == StepOptions()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"step_secrets": "TOKEN"}, "step_secrets: expected a list of names of secrets, got str 'TOKEN'"),
        ({"step_secrets": ["a-b"]}, "step_secrets[0]: expected the name of a secret"),
        ({"step_secrets": [{"name": "A", "as": "x"}]}, "step_secrets[0]: expected a name, or {name: NAME"),
        ({"step_secrets": [{"name": "A", "env": 1}]}, "step_secrets[0]: expected the name of a secret"),
        ({"step_secrets": ["A", "A"]}, "step_secrets[1]: 'A' is there twice"),
        ({"step_mounts": {}}, "step_mounts: expected a list of mounts, got dict"),
        ({"step_mounts": [{"source": "/a"}]}, "step_mounts[0].target: expected an absolute path"),
        ({"step_mounts": [{"source": "/a", "target": "b"}]}, "step_mounts[0].target: expected an absolute"),
        ({"step_mounts": [{"source": "/a", "target": "/x/../y"}]}, "step_mounts[0].target: expected"),
        ({"step_mounts": [{"source": "/a", "target": "/"}]}, "step_mounts[0].target: expected an absolute"),
        ({"step_mounts": [{"source": "/a", "target": "/src/b"}]}, "'/src/b' lies in a place that is taken"),
        ({"step_mounts": [{"target": "/b"}]}, "step_mounts[0]: expected {source: …"),
        ({"step_mounts": [{"source": "/a", "target": "/b", "ro": True}]}, "step_mounts[0]: expected {source"),
        ({"step_mounts": [{"source": "a", "target": "/b"}] * 2}, "step_mounts[1]: /b is mounted twice"),
        ({"step_timeout": 0}, "step_timeout: 0 is not a duration above zero"),
        ({"step_timeout": "soon"}, "step_timeout: 'soon' is not a duration"),
        ({"step_priority": "high"}, "step_priority: expected a whole number from -1000 to 1000"),
        ({"step_priority": 1001}, "step_priority: expected a whole number"),
        ({"step_group": "a b"}, "step_group: expected the name of a group, got str 'a b'"),
        ({"step_retries": -1}, "step_retries: expected a number from 0 to 1000, got -1"),
        ({"step_retries": True}, "step_retries: expected a number, or a mapping, got True"),
        (
            {"step_retries": {"limit": 1, "on": ["ooom"]}},
            "step_retries.on: 'ooom' is no reason, did you mean",
        ),
        (
            {"step_retries": {"on": [256]}},
            "step_retries.on: expected step, oom, timeout, lost, infra, an exit",
        ),
        ({"step_retries": {"on": {}}}, "step_retries.on: expected a list"),
        ({"step_retries": {"limits": 1}}, "step_retries: there is no key 'limits', did you mean 'limit'"),
        ({"step_retries": {"delay": "x"}}, "step_retries.delay: 'x' is not a duration"),
        ({"step_retries": {"factor": 0.5}}, "step_retries.factor: expected a number from 1 to 100"),
    ],
)
def test_what_cannot_be_meant(raw: dict[str, Any], message: str) -> None:
    """Anything else is an error that names step, key and fact, and has a remedy."""
    with pytest.raises(ConfigurationError) as caught:
        read_options("s", raw)
    assert caught.value.message.startswith("step 's': ")
    assert message in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("policy", "reason", "code", "exceptions", "covered"),
    [
        (3, "step", 1, [], True),
        (3, "oom", 137, [], True),
        ({"on": ["oom"]}, "oom", 137, [], True),
        ({"on": ["oom"]}, "step", 1, [], False),
        ({"on": "timeout"}, "timeout", None, [], True),
        ({"on": [75]}, "step", 75, [], True),
        ({"on": [75]}, "step", 1, [], False),
        ({"on": ["ConnectionError"]}, "step", 1, ["ConnectionError", "builtins.ConnectionError"], True),
        ({"on": ["requests.Timeout"]}, "step", 1, ["Timeout", "requests.Timeout"], True),
        ({"on": ["requests.Timeout"]}, "step", 1, ["Timeout", "queue.Timeout"], False),
    ],
)
def test_what_is_retried(
    policy: Any, reason: str, code: int | None, exceptions: list[str], covered: bool
) -> None:
    """Failures are told apart by reason, exit code and exception."""
    assert read_retries(policy).covers(reason, code, exceptions) is covered


@pytest.mark.parametrize(
    ("number", "chance", "seconds"),
    [(1, 0.0, 10.0), (2, 0.0, 20.0), (3, 0.0, 40.0), (4, 0.0, 60.0), (900, 0.0, 60.0), (2, 0.5, 15.0)],
)
def test_backoff(number: int, chance: float, seconds: float) -> None:
    """Pauses grow by the factor up to the longest, less a random part of up to one half."""
    policy = read_retries({"limit": 9, "delay": "10s", "max_delay": "1m"})
    assert policy.pause(number, chance) == seconds
