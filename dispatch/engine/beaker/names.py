"""How our things are called on Beaker, and what their descriptions say.

Owns the names of experiments, of what jobs need while they run, and of bundles. All derive from the job's key
and from ``origin``, which says whose jobs they are: the same key of another workspace, account or directory
has another name, and is never taken for ours.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass

BUNDLE = "dispatch-bundle-"
JOB = "dispatch-job-"
SECRET = "dispatch-"
CLONE = "dispatch-clone-"
VERSION = 1
# Beaker's own limit is not told anywhere; names of so many characters were never refused.
LONGEST = 100
_PLAIN = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]*")
_OTHER = re.compile(r"[^A-Za-z0-9_.-]")


def digest_of(text: str) -> str:
    """The SHA-256 of a text, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def fitting(name: str, longest: int = LONGEST) -> str:
    """A name as Beaker takes it: one with other characters, or a longer one, is told apart by its digest."""
    if _PLAIN.fullmatch(name) and len(name) <= longest:
        return name
    plain = _OTHER.sub("_", name).lstrip("-")
    return f"{plain[: longest - 17]}-{digest_of(name)[:16]}"


@dataclass(frozen=True)
class Names:
    """The names of one client's jobs. ``origin`` is whatever tells its workspace from all others."""

    origin: str

    @property
    def tag(self) -> str:
        """What ends the names of our experiments."""
        return digest_of(self.origin)[:8]

    def experiment(self, key: str) -> str:
        """The experiment of a job."""
        return f"{fitting(key, LONGEST - 9)}-{self.tag}"

    def data(self, key: str) -> str:
        """The dataset with what only this job needs; goes with it."""
        return f"{JOB}{fitting(key, LONGEST - 9 - len(JOB))}-{self.tag}"

    def secret(self, key: str, name: str) -> str:
        """A secret that only this job needs; goes with it."""
        return f"{SECRET}{digest_of(self.experiment(key))[:8]}-{name}"


def lasting(user: str, name: str) -> str:
    """A secret that is an account's and the same for all its jobs; kept."""
    return fitting(f"{CLONE}{user}-{name}")


@dataclass(frozen=True)
class Story:
    """What the description of an experiment of ours says: of which run, step and job it is, and which
    secrets were made for it (their names). Its results are ``collected`` where they belong on the client's
    machine. It is ``held`` until its end was recorded; from then on it is only there for people.
    """

    run: str
    step: str
    key: str
    collected: bool
    held: bool = True
    secrets: tuple[str, ...] = ()

    def to_text(self) -> str:
        """Return it as Beaker keeps it."""
        words: dict[str, object] = {"dispatch": VERSION, "run": self.run, "held": self.held}
        words.update(step=self.step, key=self.key)
        if self.collected:
            words["collected"] = True
        if self.secrets:
            words["secrets"] = list(self.secrets)
        return json.dumps(words)

    @staticmethod
    def words_of(run: str) -> str:
        """What stands in all held jobs' descriptions of a run, to look for them."""
        return json.dumps({"run": run, "held": True})[1:-1]

    @classmethod
    def read(cls, text: str) -> Story | None:
        """Read a description; None for one that is not ours."""
        try:
            found = json.loads(text)
            if found["dispatch"] != VERSION:
                return None
            secrets = tuple(str(each) for each in found.get("secrets", ()))
            return cls(
                run=str(found["run"]),
                step=str(found["step"]),
                key=str(found["key"]),
                collected=found.get("collected") is True,
                held=found["held"] is True,
                secrets=secrets,
            )
        except (ValueError, TypeError, KeyError):
            return None
