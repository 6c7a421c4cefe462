"""`source: clone`: what jobs are told to fetch, and all that is refused before any of them starts.

Owns the questions; ``source`` puts them to git, and the entrypoint does the cloning.
"""

from __future__ import annotations

from collections.abc import Callable

from dispatch.app.source import SourceTree
from dispatch.errors import ConfigurationError, SourceError
from dispatch.job import Clone
from dispatch.plan import Place, RunPlan, Standing
from dispatch.settings import SourceMode, SourceSetting
from dispatch.source import TOKEN_USER, Login, Remote

# The value of a secret by its name.
Secret = Callable[[str], str]


def clone_for(
    plan: RunPlan,
    source: SourceTree,
    setting: SourceSetting,
    say: Callable[[str], None],
    secret: Secret | None = None,
) -> Clone | None:
    """Return what the plan's containers have to clone, having asked the remote for it; None for no clone.

    Nothing is asked where no container would start. With ``secret`` the remote is asked by the token that
    jobs will use, else with the user's own access. Raises SourceError for what cannot be cloned,
    RemoteError where the remote is silent.
    """
    inside = [step for step in plan.standing(Standing.RUN) if step.place is Place.CONTAINER]
    if setting.mode is not SourceMode.CLONE or not inside:
        return None
    for step in inside:
        if step.node.options.network == "none":
            raise ConfigurationError(
                f"step {step.node.name!r}: has `step_network: none`, and a job without network cannot clone",
                "set `source: export`, or leave that line out",
            )
    ref, repository = source.ref, source.repository
    if ref.dirty:
        raise SourceError(
            f"{repository.root}: uncommitted changes, which `source: clone` cannot bring",
            "commit and push them, or set `source: export`",
        )
    remote = repository.remote(setting.remote)
    _refuse_unfit(remote, setting)
    if not remote.bare:
        say(f"remote {remote.name!r}: user and password in its address are left out: jobs do not get them")
    held = repository.holder(remote, ref.commit, _login(setting, secret))
    return Clone(
        url=remote.url,
        commit=ref.commit,
        ref=held,
        site=remote.site,
        user=setting.user or TOKEN_USER,
        token=setting.token or "",
        ssh_key=setting.ssh_key or "",
    )


def _refuse_unfit(remote: Remote, setting: SourceSetting) -> None:
    """Refuse access of another kind than the address takes: it would be left unused, and nobody told."""
    if setting.token and not remote.site:
        raise SourceError(
            f"remote {remote.name!r}: a token is for https, and its address is {remote.url}",
            "give `ssh_key: SECRET` instead, or name a remote under https",
        )
    if setting.ssh_key and remote.site:
        raise SourceError(
            f"remote {remote.name!r}: an ssh key is for ssh, and its address is {remote.url}",
            "give `token: SECRET` instead, or name a remote under ssh",
        )


def _login(setting: SourceSetting, secret: Secret | None) -> Login | None:
    name = setting.token
    if name is None or secret is None:
        return None
    return Login(setting.user or TOKEN_USER, lambda: secret(name))
