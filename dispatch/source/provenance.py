"""Where a commit comes from, for people who read a run's record later.

Read with GitPython, which knows branches, remotes and commits as objects; its import is too slow for
snapshots (see ``git``), so it is loaded only when a run is about to start containers. Refuses to keep
credentials: user and password are cut from addresses of remotes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dispatch.source.remotes import without_credentials


@dataclass(frozen=True)
class Provenance:
    """A commit in words: branch (empty when detached), subject line, author, time (ISO 8601), remotes."""

    branch: str = ""
    subject: str = ""
    author: str = ""
    committed: str = ""
    remotes: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, object]:
        """Return it in JSON types."""
        return {**asdict(self), "remotes": dict(self.remotes)}


def provenance(root: Path, commit: str) -> Provenance:
    """Describe ``commit`` of the repository at ``root``; what cannot be read stays empty.

    A record is a convenience: nothing about the repository that GitPython cannot read may stop a run.
    """
    try:
        from git import Repo

        with Repo(root) as repository:
            found = repository.commit(commit)
            return Provenance(
                branch="" if repository.head.is_detached else repository.active_branch.name,
                subject=str(found.summary),
                author=str(found.author.name or ""),
                committed=found.committed_datetime.isoformat(),
                remotes={remote.name: without_credentials(remote.url) for remote in repository.remotes},
            )
    except Exception:  # of which the library has many, and derives them from no common one
        return Provenance()
