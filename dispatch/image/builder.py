"""Carries out a build plan: what is missing is made, fetched or pulled, once, also across processes.

Owns the order (a base before what stands on it), the lock for each digest, the tags, and the report. One
image that fails does not stop the others, unless that is asked for. Refuses to decide what is needed
(``plan``) or how (``maker``).
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dispatch._docker import ImageRecord
from dispatch.environment import CondaImage, DebianImage, DockerfileImage, DockerImage, ImageRef, LocalId
from dispatch.errors import BaseVanishedError, DispatchError, EngineError, ImageError
from dispatch.image.base import Ground, Prober, conda_ground, debian_ground, pulled
from dispatch.image.filelock import file_lock
from dispatch.image.history import history_of
from dispatch.image.layers import CachedLayerBroken
from dispatch.image.maker import ImageMaker, Tools
from dispatch.image.plan import Action, BuildPlan, Generated, ImagePlan, Pinned, find_image
from dispatch.image.ports import SharedImage
from dispatch.image.report import PRESENT, BuildReport, Done
from dispatch.image.spec import REPOSITORY
from dispatch.lock.model import CondaLock, DebianLock
from dispatch.reporting import Reporter


@dataclass(frozen=True)
class Manner:
    """How a plan is carried out: so many images at a time; after a failure, others are begun or not."""

    workers: int = 2
    fail_fast: bool = False


MANNER = Manner()


class Builder:
    """Builds with ``tools``; layers, compiled packages, probes and locks are kept under ``cache``."""

    def __init__(
        self, tools: Tools, cache: Path, manner: Manner = MANNER, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tools = tools
        self._cache = cache
        self._manner = manner
        self._clock = clock
        self._history = history_of(cache)

    def build(self, plan: BuildPlan, report: Reporter) -> BuildReport:
        """Carry out a plan; ``report`` is told of it by several threads.

        Errors of single images are in the report. An interrupt stops the work in progress, which leaves
        nothing behind that the next build would trip over.
        """
        run = _Run(self._tools, self._cache, self._clock, plan, report)
        run.fail_fast = self._manner.fail_fast
        pool = ThreadPoolExecutor(self._manner.workers, thread_name_prefix="dispatch-image")
        try:
            # A base comes before what stands on it: a worker that waits for one waits for what is being made.
            for image in plan.images:
                run.results[image.key] = pool.submit(run.image, image)
            outcomes = {key: _outcome(future) for key, future in run.results.items()}
        except BaseException:
            run.cancelled.set()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return self._report(plan, outcomes)

    def _report(self, plan: BuildPlan, outcomes: Mapping[str, _Made | DispatchError]) -> BuildReport:
        images: dict[str, ImageRef] = {}
        references: dict[str, str] = {}
        failures: dict[str, DispatchError] = {}
        done: dict[str, Done] = {}
        for name, key in plan.names.items():
            outcome = outcomes[key]
            if isinstance(outcome, DispatchError):
                failures[name] = outcome
                continue
            images[name] = LocalId(outcome.record_id)
            references[name] = outcome.references[name]
            done[name] = outcome.done
        for image in plan.images:
            outcome = outcomes[image.key]
            if isinstance(outcome, _Made) and outcome.generated is not None:
                for environment in image.environments:
                    self._history.record(environment, outcome.generated.spec)
        return BuildReport(images, references, failures, done)


def prober_of(tools: Tools, cache: Path) -> Prober:
    """Return the prober that shares its answers with builds with this cache."""
    return Prober(tools.store, tools.runner, cache / "facts")


@dataclass(frozen=True)
class _Made:
    """An image that is ready, with the reference each of its names has."""

    record_id: str
    references: Mapping[str, str]
    generated: Generated | None
    done: Done


class _Run:
    """One build: the plan while it is carried out."""

    def __init__(
        self, tools: Tools, cache: Path, clock: Callable[[], float], plan: BuildPlan, report: Reporter
    ) -> None:
        self._tools = tools
        self._cache = cache
        self._clock = clock
        self._tell = report
        self._plans = {image.key: image for image in plan.images}
        self._prober = prober_of(tools, cache)
        self.cancelled = threading.Event()
        self.fail_fast = False
        self._failed = threading.Event()
        self._makers = {
            again: ImageMaker(tools, cache, self.cancelled.is_set, again) for again in (False, True)
        }
        self.results: dict[str, Future[_Made]] = {}

    def image(self, plan: ImagePlan) -> _Made:
        """Bring about one image of the plan."""
        if self.cancelled.is_set():
            raise ImageError("interrupted")
        try:
            if plan.base:
                # What made the base fail is the reason of all that stand on it, and is told once.
                self.results[plan.base].result()
            if self.fail_fast and self._failed.is_set() and plan.action is not Action.PRESENT:
                raise NotBegunError("not begun, since another image failed")
            return self._image(plan)
        except BaseException:
            self._failed.set()
            raise

    def _image(self, plan: ImagePlan) -> _Made:
        start = self._clock()
        with _disk_errors(self._cache):
            if isinstance(plan.source, Generated):
                made = self._generated(plan, plan.source)
            elif plan.image is not None:
                made = _Made(plan.image.id, plan.tags, None, PRESENT)
            else:
                made = _Made(self._existing(plan.source), plan.tags, None, Done(Action.PULL))
        return replace(made, done=replace(made.done, seconds=self._clock() - start))

    def _existing(self, source: DockerImage | Pinned) -> str:
        """Fetch what somebody else made, and return its ID."""
        if isinstance(source, DockerImage):
            return pulled(self._tools.store, source.reference, self._tell).id
        assert self._tools.importer is not None, "a plan with images of Beaker comes with who brings them"
        return self._tools.importer.provide(source.id, self._tell).id

    def _generated(self, plan: ImagePlan, generated: Generated) -> _Made:
        if plan.image is not None:
            for reference in plan.missing_tags:
                self._tag(plan.image.id, reference)
            return _Made(plan.image.id, plan.tags, generated, PRESENT)
        base = self._base(plan)
        if base is not None:
            below = self.results[plan.base].result().generated
            generated = generated.upon(below.identity if below is not None else f"image:{base.id}")
        tags = {each: generated.spec.reference(each) for each in plan.tags}
        locks = self._cache / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with file_lock(locks / f"{generated.spec.digest}.lock"):
            record = None if plan.again else find_image(self._tools.store, generated.spec, base)
            done = Done(plan.action)
            if record is not None:
                done = PRESENT
            elif plan.shared is not None:
                record = self._fetched(plan, generated, *plan.shared)
            else:
                record = self._built(plan, generated, base)
            for reference in sorted(set(tags.values()) - set(record.tags)):
                self._tag(record.id, reference)
        return _Made(record.id, tags, generated, done)

    def _built(self, plan: ImagePlan, generated: Generated, base: ImageRecord | None) -> ImageRecord:
        name, start = generated.environment.name, self._clock()
        self._tell(f"{name}: building ({plan.reason})")
        record = self._make(generated, base, self._makers[plan.again])
        self._tell(f"{name}: built in {self._clock() - start:.1f} s")
        return record

    def _fetched(self, plan: ImagePlan, generated: Generated, tag: str, image: SharedImage) -> ImageRecord:
        """Bring an image from the registry, and see that it is what its tag says."""
        name, start, shared = generated.environment.name, self._clock(), self._tools.shared
        assert shared is not None, "a plan with images of a registry comes with who fetches them"
        self._tell(f"{name}: fetching ({plan.reason})")
        try:
            shared.fetch(image, self._tell)
        except (ImageError, EngineError) as error:
            raise FetchError(error.message, error.remedy) from error
        record = find_image(self._tools.store, generated.spec, None)
        if record is None:
            raise FetchError(
                f"image {name!r}: what {shared.repository}:{tag} gave is not what it says it is",
                "publish it again (`dispatch build --push`)",
            )
        self._tell(f"{name}: fetched in {self._clock() - start:.1f} s")
        return record

    def _base(self, plan: ImagePlan) -> ImageRecord | None:
        """Wait for the image below and return it."""
        if not plan.base:
            return None
        made = self.results[plan.base].result()
        record = self._tools.store.inspect_image(made.record_id)
        if record is None:
            names = ", ".join(sorted(self._plans[plan.base].tags))
            raise BaseVanishedError(
                f"base {names}: the engine no longer holds it", remedy="repeat the command"
            )
        return record

    def _make(self, generated: Generated, base: ImageRecord | None, maker: ImageMaker) -> ImageRecord:
        """Make an image; a cached layer that turns out damaged is thrown away and made again."""
        for _ in generated.spec.layers:
            try:
                return self._attempt(generated, base, maker)
            except CachedLayerBroken as error:
                self._tell(f"{generated.environment.name}: {error} is damaged: making it again")
        try:
            return self._attempt(generated, base, maker)
        except CachedLayerBroken as error:
            raise ImageError(
                f"the layer cache cannot be relied on: {error} is damaged again",
                remedy=f"check the disk of {self._cache}",
            ) from error

    def _attempt(self, generated: Generated, base: ImageRecord | None, maker: ImageMaker) -> ImageRecord:
        report = self._tell
        declaration = generated.environment.declaration
        if isinstance(declaration, DockerfileImage):
            assert self._tools.dockerfile is not None, "who builds from Dockerfiles brings what builds them"
            return self._tools.dockerfile(generated, base, report, self.cancelled.is_set)
        if base is None or isinstance(declaration, DebianImage):
            return maker.debian(generated, report)
        if isinstance(declaration, CondaImage):
            return maker.conda(generated, base, self._ground(generated, base), report)
        return maker.pip(generated, base, self._ground(generated, base), report)

    def _ground(self, generated: Generated, base: ImageRecord) -> Ground:
        below = self._plans[generated.base]
        name = sorted(below.tags)[0]
        if isinstance(below.source, Generated) and isinstance(below.source.lock, DebianLock):
            return debian_ground(name, below.source.lock)
        if isinstance(below.source, Generated) and isinstance(below.source.lock, CondaLock):
            return conda_ground(name, below.source.lock)
        return self._prober.of_image(name, base)

    def _tag(self, image_id: str, reference: str) -> None:
        self._tools.store.tag(image_id, REPOSITORY, reference.partition(":")[2])


class NotBegunError(ImageError):
    """An image was not begun, since another one had failed."""


class FetchError(ImageError):
    """A registry that holds an image did not give it; it can be built all the same."""


def _outcome(future: Future[_Made]) -> _Made | DispatchError:
    """Return what came of an image; an error that is no DispatchError is ours, and goes on."""
    try:
        return future.result()
    except DispatchError as error:
        return error


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    """Turn what the client's disk refuses into an ImageError that names it."""
    try:
        yield
    except OSError as error:
        place = os.fsdecode(error.filename) if isinstance(error.filename, (str, bytes)) else cache
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ImageError(
                f"{place}: no room is left on the disk",
                remedy=f"make room, for instance by removing {cache}: it is only a cache",
            ) from error
        raise ImageError(
            f"{place}: {error.strerror or error}", remedy=f"see that {cache} can be written to"
        ) from error
