"""What the unit tests of the runtime share."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch import payload
from dispatch.testing.inside import Inside


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> payload.Runtime:
    """The runtime directory as containers see it."""
    return payload.provide(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def project(tmp_path: Path, runtime: payload.Runtime) -> Inside:
    """An empty repository, to be run by this interpreter."""
    return Inside(tmp_path, runtime)
