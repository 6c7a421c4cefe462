"""The contract of workspaces as it holds on Beaker: where a result is damaged, it is Beaker that has it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from dispatch.errors import WorkspaceError
from dispatch.location import BeakerDataset
from dispatch.testing.beaker_workspaces import BeakerWorkspaces
from dispatch.testing.contracts_driving import DrivingContract
from dispatch.testing.contracts_workspace import WorkspaceContract, complete, record
from dispatch.workspace.base import Workspace
from dispatch.workspace.beaker.workspace import BeakerWorkspace


class BeakerWorkspaceContract(WorkspaceContract, DrivingContract):
    """Derive from it, and give the fixture ``workspaces``: a server for all tests of the class."""

    @pytest.fixture
    def workspace(
        self, workspaces: BeakerWorkspaces, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[BeakerWorkspace]:
        """An empty workspace, opened as its URL opens it: account and cache come from the environment."""
        config = workspaces.beaker.layout.users / "me" / "config.yml"
        monkeypatch.setenv("BEAKER_CONFIG", str(config))
        monkeypatch.setenv("XDG_CACHE_HOME", str(workspaces.root / "xdg"))
        for name in ("BEAKER_TOKEN", "BEAKER_ADDR"):
            monkeypatch.delenv(name, raising=False)
        made = BeakerWorkspace(workspaces.new())
        yield made
        made.close()

    def test_verifying(self, workspace: Workspace) -> None:
        """A result is held against what was committed: names and sizes, or every byte."""
        with pytest.raises(KeyError):
            workspace.verify("Made-one", deep=False)
        complete(workspace, record())
        workspace.verify("Made-one", deep=False)
        workspace.verify("Made-one", deep=True)

    def test_damaged_on_beaker(self, workspace: BeakerWorkspace, workspaces: BeakerWorkspaces) -> None:
        """Other bytes than were committed are never read, and the file is named; a sound copy is used."""
        complete(workspace, record())
        location = workspace.locate("Made-one")
        assert isinstance(location, BeakerDataset)
        stored = workspaces.beaker.layout.files(location.id) / "result" / "data.json"
        stored.chmod(0o644)
        stored.write_text('"VALUE"\n')
        workspace.verify("Made-one", deep=False)
        with pytest.raises(WorkspaceError, match=r"data\.json") as caught:
            workspace.verify("Made-one", deep=True)
        assert "dispatch repair" in caught.value.remedy
        assert workspace.step_cache[record()] == "value"
        shutil.rmtree(workspace.site.cache / "results")
        with pytest.raises(WorkspaceError, match=r"data\.json"):
            self.again(workspace).step_cache[record()]
