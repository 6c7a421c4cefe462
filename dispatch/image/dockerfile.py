"""Builds what steps inside of an image make: a user's Dockerfile, or one that we render.

Owns which builder is taken (the engine itself; the docker command where secrets, ssh or several platforms
need it), by which name the base is known to it, and the check of what came out. Nothing carries
a name of ours before it is whole. Refuses to decide whether an image is needed (``builder`` does).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from dispatch._docker import ImageRecord
from dispatch.environment import DockerfileImage
from dispatch.errors import ImageError
from dispatch.image.context import Context, context_of, context_recipe
from dispatch.image.plan import Generated
from dispatch.image.rendering import arguments_of, target_of
from dispatch.image.spec import LOCK_LABEL
from dispatch.reporting import Reporter

if TYPE_CHECKING:
    from dispatch._docker.buildcli import Command
    from dispatch._docker.building import BuildRequest

BUILDKIT_VARIABLE = "DOCKER_BUILDKIT"
_BASE = "dispatch-base"

Cancelled = Callable[[], bool]


class BuildEngine(Protocol):
    """An engine that builds (``_docker.Door``). All methods may raise EngineError."""

    def inspect_image(self, reference: str) -> ImageRecord | None:
        """Return the image of a reference or ID, or None if the engine does not hold it."""

    def tag(self, image_id: str, repository: str, tag: str) -> None:
        """Give an image a name, taking it from whichever image has it."""

    def remove_image(self, reference: str) -> None:
        """Take a name from its image, and remove the image with its last name."""

    def build(self, request: BuildRequest, report: Reporter, cancelled: Cancelled) -> str:
        """Build and return the image's ID; ImageError where that fails."""


@dataclass(frozen=True)
class DockerfileMaker:
    """Builds on ``engine``. ``environ`` is the user's: it may ask for the classic builder, and holds secrets.

    ``command`` makes the docker command's door, where it is needed. ``proxies`` are arguments that change how
    a build reaches others, and nothing of what it comes to.
    """

    engine: BuildEngine
    environ: Mapping[str, str]
    command: Callable[[], Command]
    proxies: Mapping[str, str] = field(default_factory=dict)

    def __call__(
        self, generated: Generated, base: ImageRecord | None, report: Reporter, cancelled: Cancelled
    ) -> ImageRecord:
        """Build and return the image; see ``ports.DockerfileBuilder``."""
        declaration = generated.environment.declaration
        assert isinstance(declaration, DockerfileImage)
        name = generated.environment.name
        context = context_of(declaration)
        if context_recipe(declaration, context) != generated.spec.layers[0]:
            raise ImageError(
                f"image {name!r}: its Dockerfile or its context was changed since the build was planned",
                "repeat the command",
            )
        with self._named(base, generated.spec.digest) as reference:
            request = self._request(generated, context, base, reference)
            if declaration.secrets or declaration.ssh or len(declaration.platforms) > 1:
                built = self.command().build(request, declaration, report, cancelled)
            else:
                built = self.engine.build(request, report, cancelled)
        record = self.engine.inspect_image(built)
        if record is None:
            raise ImageError(
                f"image {name!r}: it was built, and then removed by somebody", "repeat the command"
            )
        if declaration.file is None and base is not None:
            _refuse_other_base(name, record, base)
        return record

    def _request(
        self,
        generated: Generated,
        context: Context,
        base: ImageRecord | None,
        reference: str,
    ) -> BuildRequest:
        from dispatch._docker.building import BuildRequest

        declaration = generated.environment.declaration
        assert isinstance(declaration, DockerfileImage)
        labels = generated.spec.image_labels(base.id if base is not None else "")
        if base is not None and LOCK_LABEL in base.labels:
            # Inherited, it would say of all that is inside what holds of a part of it.
            labels.setdefault(LOCK_LABEL, "")
        user = str(base.config.get("User") or "") if base is not None else ""
        return BuildRequest(
            name=generated.environment.name,
            declared=str(declaration.file or generated.environment.origin),
            size=context.size,
            chunks=context.chunks,
            dockerfile=context.dockerfile,
            args={**self.proxies, **arguments_of(declaration, reference, user)},
            labels=labels,
            stage=target_of(declaration),
            platform=declaration.more.platform or "".join(declaration.platforms[:1]),
            no_cache=generated.again,
            classic=self.environ.get(BUILDKIT_VARIABLE) == "0",
        )

    @contextmanager
    def _named(self, base: ImageRecord | None, digest: str) -> Iterator[str]:
        """Give the base a reference that BuildKit finds: it knows images by name only, never by ID."""
        if base is None or base.tags:
            yield base.tags[0] if base is not None else ""
            return
        tag = f"{base.id.rpartition(':')[2][:16]}-{digest[:16]}"
        self.engine.tag(base.id, _BASE, tag)
        try:
            yield f"{_BASE}:{tag}"
        finally:
            self.engine.remove_image(f"{_BASE}:{tag}")


def _refuse_other_base(name: str, record: ImageRecord, base: ImageRecord) -> None:
    """A name that moved to another image meanwhile would have given this one another base."""
    if record.diff_ids[: len(base.diff_ids)] != base.diff_ids:
        raise ImageError(
            f"image {name!r}: the name of its base {base.id[:19]} was given to another image meanwhile",
            "repeat the command",
        )
