"""A step: a unit of work with typed arguments.

Owns what a step class declares and what a step object answers. How a step describes itself, its identity
included, is in ``identity``. Knows nothing of images, runs and engines, and executes nothing: the runtime and
the executors do, and for programs ``inprocess``.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.formats import AUTO, Format, resolve_format
from dispatch.params import Dependency
from dispatch.registrable import Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from logging import Logger
    from pathlib import Path
    from typing import Any, Protocol

    from dispatch.resources import StepResources as StepResources

    class Stage(Protocol):
        """What surrounds a step while it runs."""

        def work_dir(self) -> Path:
            """Return the step's own directory, made where missing."""

        def workspace(self) -> Any:
            """Return the workspace, or raise StepStateError."""

        def logger(self, name: str) -> Logger:
            """Return a logger that is heard."""


SHELL = "shell"


class Step(Registrable, Dependency):
    """Base of all steps. A subclass defines ``run`` and is registered: ``@Step.register("train")``.

    ``VERSION`` is part of the identity: change it when ``run`` means something else. A step that is not
    ``DETERMINISTIC`` is not cached unless ``CACHEABLE`` says so. Arguments named in ``SKIP_ID_ARGUMENTS``
    do not enter the identity, those in ``SKIP_DEFAULT_ARGUMENTS`` not while they have the value given
    there, so that an argument can be added without changing old ids. ``METADATA`` is kept with the record of
    every step of the class, what ``step_metadata`` adds prevailing.

    An object is a step with arguments, in which other steps stand for their results. Two are equal if their
    unique ids are. ``result`` runs it in this process. Nothing is seeded before ``run``: a step that draws
    random numbers takes its seed as an argument, so that the seed is part of its identity.
    """

    VERSION: str | None = None
    DETERMINISTIC: bool = True
    CACHEABLE: bool | None = None
    FORMAT: Format[Any] | Mapping[str, Any] | str = AUTO
    SKIP_ID_ARGUMENTS: Collection[str] = frozenset()
    SKIP_DEFAULT_ARGUMENTS: Mapping[str, Any] = {}
    METADATA: Mapping[str, Any] = {}

    RESERVED_NAMES = frozenset({"ref", SHELL})

    def __init__(
        self,
        step_name: str | None = None,
        step_format: Format[Any] | Mapping[str, Any] | str | None = None,
        step_resources: StepResources | None = None,
        cache_results: bool | None = None,
        step_unique_id_override: str | None = None,
        step_metadata: Mapping[str, Any] | None = None,
        step_extra_dependencies: Iterable[Step] = (),
        step_config: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._name = step_name
        self._format = step_format
        self._resources = step_resources
        self._cache_results = cache_results
        self._unique_id = step_unique_id_override
        self._metadata = step_metadata
        self._extra = tuple(step_extra_dependencies)
        self._config = step_config
        self._stage: Stage | None = None
        self.kwargs = kwargs

    def run(self, *args: Any, **kwargs: Any) -> Any:
        """Compute the result from the arguments. Subclasses define it with the arguments they take."""
        raise NotImplementedError

    @classmethod
    def massage_kwargs(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments as they should enter the identity; by default, as they are.

        Called with typed arguments and defaults. Where an argument holds the result of another step or an
        object, a placeholder stands there, so this cannot look into it. What ``run`` is given does not
        change.
        """
        return kwargs

    def result(self, workspace: Any = None) -> Any:
        """Return the step's result, from ``workspace`` or computed in this process, what it needs first.

        Without a workspace, everything is computed anew and forgotten. What ``run`` raises is raised.
        """
        from dispatch.inprocess import result

        return result(self, workspace)

    def ensure_result(self, workspace: Any) -> None:
        """Have the result in ``workspace``. StepStateError for a step whose result is not kept."""
        from dispatch.inprocess import ensure_result

        ensure_result(self, workspace)

    @property
    def class_name(self) -> str:
        """The name of the class (of the function, for a function's step)."""
        return type(self).__name__

    @property
    def name(self) -> str:
        """The name given to the step, else its unique id."""
        return self._name if self._name is not None else self.unique_id

    @property
    def unique_id(self) -> str:
        """The identity of the step with its arguments: ``Class[-VERSION]-digest``."""
        if self._unique_id is None:
            from dispatch.identity import identify

            return identify(Step, self)
        return self._unique_id

    @property
    def format(self) -> Format[Any]:
        """The format that the result is written in."""
        return resolve_format(self.FORMAT if self._format is None else self._format)

    @property
    def resources(self) -> StepResources:
        """What the step asks of its machine. Subclasses may override it to derive it from the arguments."""
        from dispatch.resources import StepResources

        return self._resources if self._resources is not None else StepResources()

    @property
    def metadata(self) -> dict[str, Any]:
        """What is kept with the step's record: the class's ``METADATA``, and what the step adds."""
        return {**self.METADATA, **(self._metadata or {})}

    @property
    def config(self) -> Mapping[str, Any]:
        """The step as config says it, where it was made from config; else empty."""
        return self._config or {}

    @property
    def cache_results(self) -> bool:
        """Whether the result is kept to be used again."""
        cacheable = is_cacheable(type(self))
        if self._cache_results and type(self).CACHEABLE is False:
            raise ConfigurationError(
                f"step {self._name or self.class_name!r}: cache_results, but its class is not CACHEABLE",
                "leave cache_results out, or let the class say CACHEABLE = True",
            )
        return cacheable if self._cache_results is None else self._cache_results

    @property
    def dependencies(self) -> tuple[Step, ...]:
        """The steps that the arguments refer to, then the extra ones, each once, in order."""
        found = {id(step): step for step in (*self._arguments_steps(), *self._extra)}
        return tuple(found.values())

    def _arguments_steps(self) -> list[Step]:
        """The steps that the arguments refer to, as often as they do."""
        from dispatch.identity import references, steps_of

        return list(steps_of(references(Step, self)))

    @property
    def logger(self) -> Logger:
        """A logger of the step's own, named after its class. In a container, INFO is in the step's log."""
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if self._stage is not None:
            return self._stage.logger(name)
        import logging

        return logging.getLogger(name)

    @property
    def work_dir(self) -> Path:
        """A directory of the step's own that survives its attempts. StepStateError unless it is running."""
        return self._running("work directory", "work_dir").work_dir()

    @property
    def workspace(self) -> Any:
        """The workspace it runs in. StepStateError unless it is running, in the process of a program."""
        return self._running("workspace", "workspace").workspace()

    def _running(self, what: str, name: str) -> Stage:
        if self._stage is None:
            raise StepStateError(
                f"step {self._name or self.class_name!r}: has no {what}, as it is not running",
                f"use self.{name} inside run()",
            )
        return self._stage

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Step):
            return NotImplemented
        return self is other or self.unique_id == other.unique_id

    def __hash__(self) -> int:
        return hash(self.unique_id)

    def __repr__(self) -> str:
        return f"<{self.class_name} {self._name}>" if self._name else f"<{self.class_name}>"

    def __dispatch_canonical__(self) -> Any:
        return ["step", self.unique_id, None]


class StepIndexer(Dependency):
    """One item of another step's result, as an argument: ``StepIndexer(step, "key")``."""

    def __init__(self, step: Step, key: str | int) -> None:
        self.step = step
        self.key = key

    def __dispatch_canonical__(self) -> Any:
        return ["step", self.step.unique_id, self.key]


def step(
    name: str | None = None,
    *,
    version: str | None = None,
    deterministic: bool = True,
    cacheable: bool | None = None,
    format: Format[Any] | Mapping[str, Any] | str = AUTO,
    bind: bool = False,
    exist_ok: bool = False,
    skip_id_arguments: Collection[str] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[Callable[..., Any]], type[Step]]:
    """Return a decorator that makes a registered Step class of a function.

    ``name`` is the registered name, the function's own by default. With ``bind`` the function's first
    parameter must be ``self``, and is the step. The others are class attributes of ``Step`` in lower case.
    """
    if name is not None and not isinstance(name, str):
        raise ConfigurationError("@step: is written without parentheses", "write @step()")

    def decorate(function: Callable[..., Any]) -> type[Step]:
        if not isinstance(function, FunctionType):
            raise ConfigurationError(
                f"@step: {function!r} is not a function", "derive a class from Step instead"
            )
        first = function.__code__.co_varnames[: function.__code__.co_argcount][:1]
        if bind and first != ("self",):
            raise ConfigurationError(
                f"@step(bind=True): the first parameter of {function.__qualname__} is not 'self'",
                "add it, or leave bind out",
            )
        made: type[Step] = type(
            function.__name__,
            (Step,),
            {
                "__module__": function.__module__,
                "__qualname__": function.__qualname__,
                "__doc__": function.__doc__,
                "VERSION": version,
                "DETERMINISTIC": deterministic,
                "CACHEABLE": cacheable,
                "FORMAT": format,
                "SKIP_ID_ARGUMENTS": frozenset(skip_id_arguments),
                "METADATA": metadata or {},
                "run": function if bind else staticmethod(function),
            },
        )
        return Step.register(name if name is not None else function.__name__, exist_ok=exist_ok)(made)

    return decorate


def is_cacheable(cls: type[Step]) -> bool:
    """Whether results of the class are kept to be used again."""
    return cls.DETERMINISTIC if cls.CACHEABLE is None else cls.CACHEABLE


def describe_step(
    cls: type[Step],
    type_name: str,
    raw: Mapping[str, Any],
    format: Format[Any] | Mapping[str, Any] | str | None = None,
    *,
    name: str = "",
) -> dict[str, Any]:
    """Return what a step is, as JSON: the ``ok`` part of the answer of ``runtime.describe``.

    ``raw`` holds the arguments as config says them; ``arguments`` of the answer is their canonical tree:
    typed, with defaults, without what the class keeps out of identities, references by name. ``format``
    overrides that of the class. ``requires`` are the distributions that reading the result needs, ``modules``
    those besides the step's own that its arguments need. Raises ArgumentError for an argument,
    ConfigurationError for the class, both naming ``name``.
    """
    from dispatch.identity import describe

    described: dict[str, Any] = describe(Step, cls, type_name, raw, format, name)
    return described


def __getattr__(name: str) -> Any:
    if name == "StepResources":
        from dispatch.resources import StepResources

        return StepResources
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _CallableModule(ModuleType):
    """``dispatch.step`` is this module, and to ``from dispatch import step`` it is the decorator."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return step(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
