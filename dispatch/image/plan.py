"""What building would do: finds out of every distinct image whether it is there, and how it is had if not.

Owns which images are needed and in which order. Refuses to change anything: planning asks the engine what it
holds, runs no container and builds no base, so a dry run is the plan printed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from dispatch._docker import ImageRecord
from dispatch.environment import (
    BeakerImage,
    CondaImage,
    DebianImage,
    DockerfileImage,
    DockerImage,
    Environment,
    LocalId,
    PipImage,
)
from dispatch.errors import ConfigurationError, did_you_mean
from dispatch.image.base import base_environment, conda_ground, debian_ground, refuse_misfit
from dispatch.image.compat import refuse_base_cuda, refuse_locked_cuda
from dispatch.image.config import is_image_of
from dispatch.image.history import SpecHistory
from dispatch.image.planned import (
    NOWHERE,
    PART,
    PENDING,
    Action,
    BuildPlan,
    Elsewhere,
    Generated,
    Identify,
    ImagePlan,
    Pinned,
    beaker_reference,
)
from dispatch.image.ports import ImageStore, Locks, SharedImage
from dispatch.image.recipes import conda_spec, debian_spec, dockerfile_spec, pip_spec
from dispatch.image.spec import DIGEST_LABEL, ImageSpec, platform_of
from dispatch.lock.condainputs import refuse_misfit as refuse_conda_misfit
from dispatch.lock.model import BaseFacts, CondaLock, DebianLock

__all__ = [
    "NOWHERE",
    "PART",
    "Action",
    "BuildPlan",
    "Elsewhere",
    "Generated",
    "Identify",
    "ImagePlan",
    "Pinned",
    "beaker_reference",
    "find_image",
    "plan_images",
]


def plan_images(
    names: Iterable[str],
    environments: Mapping[str, Environment],
    locks: Locks,
    store: ImageStore,
    history: SpecHistory | None = None,
    elsewhere: Elsewhere = NOWHERE,
) -> BuildPlan:
    """Plan the images of ``names``, and of what they stand on where that is needed.

    Raises ConfigurationError for an unknown name or base, LockError for a lock that is missing, stale or made
    for another base, EngineError where the engine does not answer.
    """
    planner = _Planner(environments, locks, store, history, elsewhere)
    keys = {name: planner.add(planner.environment(name)) for name in dict.fromkeys(names)}
    return BuildPlan(tuple(planner.images.values()), keys)


@dataclass(frozen=True)
class _Below:
    """What is known of the image that another one is made on; all of it is empty where there is none.

    ``record`` is what the engine holds of it; ``facts`` are None where only the image itself can tell them.
    """

    environment: Environment | None = None
    identity: str = ""
    record: ImageRecord | None = None
    facts: BaseFacts | None = None
    platform: str = ""


class _Planner:
    """Collects images by key while names are added; equal specifications fall together."""

    def __init__(
        self,
        environments: Mapping[str, Environment],
        locks: Locks,
        store: ImageStore,
        history: SpecHistory | None,
        elsewhere: Elsewhere,
    ) -> None:
        self._environments = environments
        self._locks = locks
        self._store = store
        self._history = history
        self._elsewhere = elsewhere
        self._known: dict[str, tuple[Generated, _Below]] = {}
        self._found: dict[tuple[str, str], ImageRecord | None] = {}
        self._looked_up: dict[str, tuple[str, SharedImage] | None] = {}
        self.images: dict[str, ImagePlan] = {}

    def environment(self, name: str) -> Environment:
        """Return a declared environment."""
        if name not in self._environments:
            near = did_you_mean(name, list(self._environments))
            known = ", ".join(sorted(self._environments)) or "none"
            raise ConfigurationError(
                f"image {name!r} is not declared{near}", remedy=f"declare it; known images: {known}"
            )
        return self._environments[name]

    def add(self, environment: Environment) -> str:
        """Plan an environment's image and return its key."""
        declaration = environment.declaration
        if isinstance(declaration, DockerImage):
            return self._add_docker(environment, declaration)
        if isinstance(declaration, BeakerImage):
            return self._add_beaker(environment, declaration)
        return self._add_upon(environment)

    def _add_docker(self, environment: Environment, declaration: DockerImage) -> str:
        return self._add_existing(environment, declaration.reference, declaration)

    def _add_beaker(self, environment: Environment, declaration: BeakerImage) -> str:
        identify = self._elsewhere.identify
        assert identify is not None, "who plans images of Beaker can say what their names mean"
        pinned = Pinned(identify(declaration.name))
        return self._add_existing(environment, beaker_reference(pinned.id), pinned)

    def _add_existing(self, environment: Environment, reference: str, source: DockerImage | Pinned) -> str:
        record = self._store.inspect_image(reference)
        action, reason = (Action.PRESENT, "in the engine") if record else (Action.PULL, "not in the engine")
        image = LocalId(record.id) if record else None
        called = self._called(reference, environment)
        tags = {each.name: reference for each in called}
        self.images[reference] = ImagePlan(reference, called, tags, action, reason, source, image)
        return reference

    def _called(self, key: str, environment: Environment) -> tuple[Environment, ...]:
        """Return the environments that have come to one image, this one included."""
        known = self.images[key].environments if key in self.images else ()
        return known if environment in known else (*known, environment)

    def _add_upon(self, environment: Environment) -> str:
        """Plan what is made on a base; the base is planned only where it is needed for that."""
        generated, below = self._generated(environment)
        if self._is_there(generated, below) or self._shared(generated) is not None:
            return self._add_generated(generated, below)
        base = self.add(below.environment) if below.environment is not None else ""
        return self._add_generated(replace(generated, base=base), below)

    def _is_there(self, generated: Generated, below: _Below) -> bool:
        """Whether the engine holds an image that is not to be made again."""
        if not generated.settled or self._elsewhere.is_again(generated.environment.name):
            return False
        return self._find(generated, below.record) is not None

    def _shared(self, generated: Generated) -> tuple[str, SharedImage] | None:
        """Return the tag and the image of the registry, where it is looked for and is there."""
        places, name = self._elsewhere, generated.environment.name
        if places.shared is None or not generated.settled or places.is_again(name):
            return None
        tag = generated.spec.tag(name)
        if tag not in self._looked_up:
            found = places.shared.find(tag, generated.spec.platform)
            right = found is not None and is_image_of(found.record, generated.spec, None)
            self._looked_up[tag] = (tag, found) if right and found is not None else None
        return self._looked_up[tag]

    def _generated(self, environment: Environment) -> tuple[Generated, _Below]:
        """Return what a declaration comes to, and what is known of the image below it."""
        if environment.name not in self._known:
            self._known[environment.name] = self._derived(environment)
        return self._known[environment.name]

    def _derived(self, environment: Environment) -> tuple[Generated, _Below]:
        declaration = environment.declaration
        if isinstance(declaration, DebianImage):
            debian = self._locks.debian(environment)
            return Generated(environment, debian, debian_spec(declaration, debian)), _Below()
        assert isinstance(declaration, (PipImage, CondaImage, DockerfileImage))
        below = self._below(environment, declaration.base)
        refuse_base_cuda(environment, self._environments, below.record)
        if isinstance(declaration, DockerfileImage):
            spec = dockerfile_spec(declaration, below.identity, below.platform)
            return Generated(environment, None, spec), below
        if isinstance(declaration, CondaImage):
            conda = self._locks.conda(environment)
            refuse_locked_cuda(environment, conda)
            if below.facts is not None:
                refuse_conda_misfit(environment.name, conda, below.facts)
            return Generated(environment, conda, conda_spec(declaration, conda, below.identity)), below
        pip = self._locks.pip(environment)
        refuse_locked_cuda(environment, pip)
        if below.facts is not None:
            refuse_misfit(environment.name, pip, below.facts)
        return Generated(environment, pip, pip_spec(declaration, pip, below.identity)), below

    def _below(self, environment: Environment, name: str) -> _Below:
        """Return what is known of an environment's base."""
        if not name:
            return _Below(platform=self._elsewhere.platform())
        base = base_environment(environment, name, self._environments)
        if isinstance(base.declaration, DockerImage):
            record = self._store.inspect_image(base.declaration.reference)
            identity = f"image:{record.id}" if record else PENDING + base.declaration.reference
            platform = platform_of(record.architecture) if record else ""
            return _Below(base, identity, record, None, platform)
        generated, ground = self._generated(base)
        record = self._find(generated, ground.record) if generated.settled else None
        facts = None
        if isinstance(generated.lock, DebianLock):
            facts = debian_ground(base.name, generated.lock).facts
        if isinstance(generated.lock, CondaLock):
            facts = conda_ground(base.name, generated.lock).facts
        return _Below(base, generated.identity, record, facts, generated.spec.platform)

    def _find(self, generated: Generated, base: ImageRecord | None) -> ImageRecord | None:
        key = (generated.spec.digest, base.id if base is not None else "")
        if key not in self._found:
            name = generated.environment.name
            self._found[key] = find_image(self._store, generated.spec, base, name)
        return self._found[key]

    def _add_generated(self, generated: Generated, below: _Below) -> str:
        key = generated.spec.digest
        called = self._called(key, generated.environment)
        settled = generated.settled
        tags = {each.name: generated.spec.reference(each.name) if settled else "" for each in called}
        again = any(self._elsewhere.is_again(each.name) for each in called)
        record = self._find(generated, below.record) if settled and not again else None
        if record is not None:
            missing = tuple(sorted(set(tags.values()) - set(record.tags)))
            image = LocalId(record.id)
            plan = ImagePlan(key, called, tags, Action.PRESENT, "in the engine", generated, image, missing)
        else:
            plan = self._to_do(
                ImagePlan(key, called, tags, Action.BUILD, "", replace(generated, again=again))
            )
        self.images[key] = plan
        return key

    def _to_do(self, plan: ImagePlan) -> ImagePlan:
        """Say how an image is had that the engine does not hold, and why."""
        generated = plan.source
        assert isinstance(generated, Generated)
        missing = tuple(sorted(set(plan.tags.values())))
        shared = None if plan.again else self._shared(generated)
        if shared is not None and self._elsewhere.shared is not None:
            reason = f"not in the engine; in the registry as {self._elsewhere.shared.repository}:{shared[0]}"
            return replace(plan, action=Action.FETCH, reason=reason, missing_tags=missing, shared=shared)
        changes = tuple(self._history.changes(generated.environment, generated.spec)) if self._history else ()
        reason = self._reason(plan, generated, bool(changes))
        return replace(plan, reason=reason, missing_tags=missing, changes=changes)

    def _reason(self, plan: ImagePlan, generated: Generated, changed: bool) -> str:
        if plan.again:
            return "made again, as it was asked for"
        if not generated.settled:
            return f"digest unknown until {generated.spec.base.removeprefix(PENDING)} is pulled"
        if changed:
            return "its inputs changed"
        registry = f" or in {self._elsewhere.shared.repository}" if self._elsewhere.shared else ""
        return f"no image in the engine{registry} has the digest {generated.spec.digest[:16]}"


def find_image(
    store: ImageStore, spec: ImageSpec, base: ImageRecord | None, name: str = ""
) -> ImageRecord | None:
    """Return the engine's image of a specification, if it is that very image (see ``direct.is_image_of``).

    Under ``name`` it is found at once; a search by label takes an engine the longer the more images it holds.
    """
    named = store.inspect_image(spec.reference(name)) if name else None
    if named is not None and is_image_of(named, spec, base):
        return named
    return store.find_image(DIGEST_LABEL, spec.digest, lambda record: is_image_of(record, spec, base))
