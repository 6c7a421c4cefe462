"""How the source comes into jobs on Beaker: cloned, or exported and brought to them as a dataset.

Owns what ``source: auto`` means there, and which token a clone takes. A clone without a token asks for none:
jobs have but what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from dispatch.app.cloning import clone_for
from dispatch.app.onbeaker.rules import usual_image
from dispatch.app.source import SourceTree
from dispatch.errors import ConfigurationError, RemoteError, SourceError
from dispatch.job import Clone
from dispatch.plan import Place, RunPlan, Standing
from dispatch.settings import SourceMode, SourceSetting
from dispatch.settings.beaker import BeakerSetup
from dispatch.source import TOKEN_USER, ClosedRemoteError, Login, Remote

# The name of the secret, and of the variable, that holds the token of the ancestor's users.
TOKEN = "GITHUB_TOKEN"
_GITHUB = "https://github.com"
_NOWHERE = ("localhost", "127.", "[::1]", "0.0.0.0", "host.docker.internal")
_ANONYMOUS = Login(TOKEN_USER, lambda: "")

Say = Callable[[str], None]
Secret = Callable[[str], str]


@dataclass(frozen=True)
class Cloning:
    """Decides how the source of a plan comes to its jobs; ``secret`` gives the value of one that is named."""

    setting: SourceSetting
    setup: BeakerSetup
    environ: Mapping[str, str] = field(repr=False)
    say: Say
    secret: Secret

    def clone(self, plan: RunPlan, source: SourceTree) -> Clone | None:
        """Return what the plan's jobs have to clone; None for an export.

        ``clone`` means it, and raises what stands against it. ``auto`` clones what everybody may clone, where
        all jobs run in the executor's own image; all else is exported, and nothing need be pushed.
        """
        if self.setting.mode is SourceMode.CLONE:
            return clone_for(plan, source, self._with_access(plan, source), self.say, self._value)
        if self.setting.mode is SourceMode.EXPORT or not self._may_clone(plan, source):
            return None
        remote = _remote(source, self.setting)
        if remote is None or not remote.site or _is_nowhere(remote):
            return None
        try:
            held = source.repository.holder(remote, source.ref.commit, _ANONYMOUS)
        except (SourceError, RemoteError):
            return None
        return Clone(url=remote.url, commit=source.ref.commit, ref=held, site=remote.site, user=TOKEN_USER)

    def given(self) -> Mapping[str, str]:
        """The secrets that the settings themselves hold, by name."""
        return {TOKEN: self.setup.github_token} if self.setup.github_token else {}

    def _value(self, name: str) -> str:
        return self.given().get(name) or self.secret(name)

    def _may_clone(self, plan: RunPlan, source: SourceTree) -> bool:
        """Whether jobs can be expected to clone: of the executor's own image alone git is asked for."""
        inside = [step for step in plan.standing(Standing.RUN) if step.place is Place.CONTAINER]
        return (
            bool(inside)
            and not source.ref.dirty
            and {step.image for step in inside} == {usual_image(self.setup)}
            and all(step.node.options.network != "none" for step in inside)
        )

    def _with_access(self, plan: RunPlan, source: SourceTree) -> SourceSetting:
        """Name the token of a clone where only one with a token succeeds and the user named none."""
        setting = self.setting
        if setting.token or setting.ssh_key or source.ref.dirty or not plan.standing(Standing.RUN):
            return setting
        remote = source.repository.remote(setting.remote)
        if not remote.site or self._is_public(remote, source):
            return setting
        # One that is only in the environment was made for one host, and goes to no other.
        if self.setup.github_token or (self.environ.get(TOKEN) and remote.site == _GITHUB):
            return replace(setting, token=TOKEN)
        raise ConfigurationError(
            f"remote {remote.name!r} ({remote.url}): jobs can clone it with a token alone, and there is none",
            f"export {TOKEN}, set `github_token:` or `source: {{mode: clone, token: SECRET}}`, "
            "or leave `source` at `auto`, which needs no token",
        )

    def _is_public(self, remote: Remote, source: SourceTree) -> bool:
        """Whether the remote lets everybody in; one that is silent, or lacks the commit, is asked again."""
        try:
            source.repository.holder(remote, source.ref.commit, _ANONYMOUS)
        except ClosedRemoteError:
            return False
        except (SourceError, RemoteError):
            return True
        return True


def _remote(source: SourceTree, setting: SourceSetting) -> Remote | None:
    try:
        return source.repository.remote(setting.remote)
    except SourceError:
        return None


def _is_nowhere(remote: Remote) -> bool:
    """Whether its address means this machine, which for a job is another one."""
    host = remote.site.partition("://")[2]
    return host.startswith(_NOWHERE)
