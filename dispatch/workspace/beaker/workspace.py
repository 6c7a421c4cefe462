"""A workspace on Beaker: results, runs and records as datasets that everybody in the workspace shares.

Owns nothing on Beaker itself: ``attempts`` knows the states of steps, ``runs`` and ``drives`` the runs,
``step_cache`` the results.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dispatch._beaker import BeakerDoor
from dispatch.errors import ConfigurationError
from dispatch.workspace.base import Workspace
from dispatch.workspace.beaker.site import BeakerPorts, Site
from dispatch.workspace.here import WorkspaceHere

if TYPE_CHECKING:
    from urllib.parse import ParseResult


@Workspace.register("beaker")
class BeakerWorkspace(WorkspaceHere):
    """Keeps everything on Beaker, in the workspace of this name (``org/name``) or id.

    ``kwargs`` are those of ``Beaker.from_env``. ``trusted`` allows pickled results of other accounts to be
    loaded. ``cache`` is the directory for copies on this machine; ``ports`` is for tests. Nothing is sent
    before it has to be.
    """

    def __init__(
        self,
        beaker_workspace: str | None = None,
        *,
        trusted: bool = False,
        cache: Path | None = None,
        ports: BeakerPorts | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__()
        self._given = (beaker_workspace, trusted, cache, kwargs)
        self._site = Site(BeakerDoor(beaker_workspace, kwargs), cache, ports)
        self._trusted = trusted

    @classmethod
    def from_parsed_url(cls, parsed_url: ParseResult) -> BeakerWorkspace:
        """Make a workspace from ``beaker://org/name``, or, in the default organisation, ``beaker://name``."""
        name = (parsed_url.netloc + parsed_url.path).rstrip("/")
        if not name or parsed_url.query or parsed_url.fragment or name.count("/") > 1:
            raise ConfigurationError(
                f"workspace {parsed_url.geturl()!r}: is not the URL of a Beaker workspace",
                "write beaker://org/name",
            )
        return cls(name)

    @property
    def url(self) -> str:
        """The URL: ``beaker://`` and the workspace's whole name."""
        name = self._given[0] or ""
        return f"beaker://{name if '/' in name else self._site.door.account.workspace_name}"

    @property
    def site(self) -> Site:
        """Where the workspace is, and who we are there."""
        return self._site

    def close(self) -> None:
        """End our session, so that what we still hold is free at once, and close the connections."""
        self._site.session.close()
        self._site.door.close()
