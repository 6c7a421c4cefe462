"""The contract of workspaces on Beaker, where names of datasets are unique for each author."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch.beakerd.config import Assumptions, Config, NameScope
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_beaker import BeakerWorkspaceContract


class TestWorkspaceByAuthor(BeakerWorkspaceContract):
    """A Beaker with names for each author."""

    @pytest.fixture(scope="class")
    def workspaces(
        self, authority: Path, tmp_path_factory: pytest.TempPathFactory
    ) -> Iterator[BeakerWorkspaces]:
        """One server for all tests."""
        root = tmp_path_factory.mktemp("by-author")
        beakers = Beakers(root, tls=authority / "tls")
        beakers.prepare()
        yield BeakerWorkspaces(beakers.start(Config(assume=Assumptions(names=NameScope.AUTHOR))), root)
        beakers.close()
