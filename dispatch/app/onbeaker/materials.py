"""What all jobs of a run on Beaker share: source and runtime as bundles, the settings' data and variables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dispatch.app.onbeaker.rules import setups_of
from dispatch.executor import BeakerMaterials, ProcessMaterials
from dispatch.job.boot import provide_boot
from dispatch.location import BeakerDataset
from dispatch.reporting import working

if TYPE_CHECKING:
    from dispatch.app.running import Running
    from dispatch.engine.beaker import Bundles
    from dispatch.environment import ImageRef
    from dispatch.settings.beaker import BeakerSetup


def for_beaker(
    running: Running,
    setup: BeakerSetup,
    images: Mapping[str, ImageRef],
    bundles: Bundles,
    here: ProcessMaterials,
) -> BeakerMaterials:
    """Put together what jobs share, having brought to Beaker what they read."""
    source, settings, clone = running.source, running.app.settings, running.cloned
    begin = provide_boot(running.app.surroundings.cache, running.runtimes.own.directory)
    boot = bundles.provide(begin.directory, "boot", packed=False, content=f"boot {begin.digest}")
    exported: BeakerDataset | None = None
    if clone is None:
        with working(running.app.say, "source: bringing it to Beaker"):
            exported = bundles.provide(
                source.exported, "source", packed=True, content=f"tree {source.ref.tree}"
            )
    given = {each.name: each.value for each in setup.env_vars if each.value is not None}
    return BeakerMaterials(
        workdir=source.workdir,
        paths=source.paths,
        env={**settings.env, **given},
        commit=source.ref.commit,
        tree=source.ref.tree,
        code=source.code,
        default_format=settings.default_format,
        secrets=here.secrets,
        clone=clone,
        images=images,
        setups=setups_of(running.config, setup, images),
        source=exported,
        boot=boot,
        mounts=running.mounts,
        time_limit=setup.timeout,
        processes=here,
    )
