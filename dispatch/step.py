"""A step: a unit of work with typed arguments, and its identity.

Owns what a step class declares, how a step describes itself, and its unique id. Knows nothing of images, runs
and engines, and executes nothing: the runtime and the executors do.
"""

from __future__ import annotations

import sys
from types import FunctionType, ModuleType

from dispatch.errors import ConfigurationError, StepStateError
from dispatch.formats import AUTO, Format, resolve_format
from dispatch.params import ArgumentError, Dependency, Frozen, Parameter, bind_arguments, signature_of
from dispatch.params.convert import Converter
from dispatch.params.signature import UNANNOTATED
from dispatch.registrable import Registrable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from logging import Logger
    from pathlib import Path
    from typing import Any

SHELL = "shell"


class StepResources(Frozen):
    """What a step asks of the machine it runs on; None leaves it to the executor.

    ``cpu_count`` may be a fraction. ``memory`` and ``shared_memory`` are sizes such as ``"16GiB"``, or bytes.
    ``machine`` names where it must run (``"local"``: the host of the client).
    """

    __slots__ = (  # noqa: RUF023 - the order of __init__
        "cpu_count",
        "gpu_count",
        "gpu_type",
        "memory",
        "shared_memory",
        "machine",
    )
    cpu_count: float | None
    gpu_count: int | None
    gpu_type: str | None
    memory: str | int | None
    shared_memory: str | int | None
    machine: str | None

    def __init__(
        self,
        cpu_count: float | None = None,
        gpu_count: int | None = None,
        gpu_type: str | None = None,
        memory: str | int | None = None,
        shared_memory: str | int | None = None,
        machine: str | None = None,
    ) -> None:
        self._set(
            cpu_count=cpu_count,
            gpu_count=gpu_count,
            gpu_type=gpu_type,
            memory=memory,
            shared_memory=shared_memory,
            machine=machine,
        )

    @property
    def memory_bytes(self) -> int | None:
        """``memory`` in bytes."""
        return _bytes("memory", self.memory)

    @property
    def shared_memory_bytes(self) -> int | None:
        """``shared_memory`` in bytes."""
        return _bytes("shared_memory", self.shared_memory)

    @classmethod
    def from_config(cls, raw: Mapping[str, Any]) -> StepResources:
        """Read ``step_resources`` of a config. Raises ArgumentError naming the key that is wrong."""
        resources = cls(**bind_arguments(cls, raw, substitute=_no_reference))
        for name in ("cpu_count", "gpu_count"):
            value = getattr(resources, name)
            if value is not None and not (value > 0 or (value == 0 and name == "gpu_count")):
                raise ArgumentError(name, f"{value!r} is not above zero", "leave it out for no limit")
        for name in ("memory", "shared_memory"):
            try:
                _bytes(name, getattr(resources, name))
            except ConfigurationError as error:
                raise ArgumentError(name, error.message.partition(": ")[2], error.remedy) from error
        return resources

    def to_json(self) -> dict[str, Any]:
        """Return what is set, as ``from_config`` reads it."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name) is not None}


class Step(Registrable, Dependency):
    """Base of all steps. A subclass defines ``run`` and is registered: ``@Step.register("train")``.

    ``VERSION`` is part of the identity: change it when ``run`` means something else. A step that is not
    ``DETERMINISTIC`` is not cached unless ``CACHEABLE`` says so. Arguments named in ``SKIP_ID_ARGUMENTS``
    do not enter the identity, those in ``SKIP_DEFAULT_ARGUMENTS`` not while they have the value given
    there, so that an argument can be added without changing old ids.

    An object is a step with arguments, in which other steps stand for their results. It does not run itself.
    """

    VERSION: str | None = None
    DETERMINISTIC: bool = True
    CACHEABLE: bool | None = None
    FORMAT: Format[Any] | str = AUTO
    SKIP_ID_ARGUMENTS: Collection[str] = frozenset()
    SKIP_DEFAULT_ARGUMENTS: Mapping[str, Any] = {}

    RESERVED_NAMES = frozenset({"ref", SHELL})

    def __init__(
        self,
        step_name: str | None = None,
        step_format: Format[Any] | str | None = None,
        step_resources: StepResources | None = None,
        cache_results: bool | None = None,
        step_unique_id_override: str | None = None,
        step_work_dir: Path | str | None = None,
        **kwargs: Any,
    ) -> None:
        self._name = step_name
        self._format = step_format
        self._resources = step_resources
        self._cache_results = cache_results
        self._unique_id = step_unique_id_override
        self._work_dir = step_work_dir
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
            from dispatch.fingerprint import canonical, resolve, unique_id

            found = describe_step(type(self), "", self.kwargs, self._format, name=self._name or "")
            # A reference by name has no meaning here, where there is no graph: resolve refuses it.
            arguments = resolve(found["arguments"], {})
            format_tree = canonical(found["format"])
            self._unique_id = unique_id(
                found["class"], found["version"], found["type"], format_tree, arguments
            )
        return self._unique_id

    @property
    def format(self) -> Format[Any]:
        """The format that the result is written in."""
        return resolve_format(self.FORMAT if self._format is None else self._format)

    @property
    def resources(self) -> StepResources:
        """What the step asks of its machine. Subclasses may override it to derive it from the arguments."""
        return self._resources if self._resources is not None else StepResources()

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
        """The steps that the arguments refer to, each once, in order."""
        found: dict[int, Step] = {}

        def note(dependency: Any) -> Any:
            step = dependency.step if isinstance(dependency, StepIndexer) else dependency
            if isinstance(step, Step):
                found.setdefault(id(step), step)
            return dependency

        name = self._name or ""
        bind_arguments(_run_of(type(self), name), self.kwargs, substitute=note, build=False, step=name)
        return tuple(found.values())

    @property
    def logger(self) -> Logger:
        """A logger of the step's own, named after its class."""
        import logging

        return logging.getLogger(f"{type(self).__module__}.{type(self).__qualname__}")

    @property
    def work_dir(self) -> Path:
        """A directory of the step's own that survives its attempts. StepStateError unless it is running."""
        if self._work_dir is None:
            raise StepStateError(
                f"step {self._name or self.class_name!r}: has no work directory, as it is not running",
                "use self.work_dir inside run()",
            )
        # Made here: most steps never ask, and pathlib costs a process more than the whole of this package.
        from pathlib import Path

        return Path(self._work_dir)

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
    format: Format[Any] | str = AUTO,
    bind: bool = False,
    exist_ok: bool = False,
    skip_id_arguments: Collection[str] = (),
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
    format: Format[Any] | str | None = None,
    *,
    name: str = "",
) -> dict[str, Any]:
    """Return what a step is, as JSON: the ``ok`` part of the answer of ``runtime.describe``.

    ``raw`` holds the arguments as config says them; ``arguments`` of the answer is their canonical tree:
    typed, with defaults, without what the class keeps out of identities, references by name. ``format``
    overrides that of the class. Raises ArgumentError for an argument, ConfigurationError for the class,
    both naming ``name``.
    """
    from dispatch.fingerprint import FingerprintError, canonical

    run = _run_of(cls, name)
    bound = bind_arguments(run, raw, substitute=_itself, build=False, step=name)
    massaged = cls.massage_kwargs(dict(bound))
    try:
        tree = canonical({key: value for key, value in massaged.items() if key not in cls.SKIP_ID_ARGUMENTS})
    except FingerprintError as error:
        raise ArgumentError(error.path.lstrip("."), error.fact, error.remedy, name) from error
    used = resolve_format(cls.FORMAT if format is None else format)
    return {
        "class": cls.__name__,
        "module": cls.__module__,
        "qualname": cls.__qualname__,
        "type": _type_name(cls, type_name),
        "version": cls.VERSION,
        "deterministic": cls.DETERMINISTIC,
        "cacheable": is_cacheable(cls),
        "format": {"name": used.NAME, "version": used.VERSION},
        "arguments": _without_defaults(cls, run, tree),
        "resources": _resources_of(cls, bound, name),
    }


def _type_name(cls: type[Step], wanted: str = "") -> str:
    """The type that enters the identity: the name it was asked for by, its first name, or module.Qualname."""
    entry = Step._registry.get(wanted)
    if entry is not None and entry.cls is cls:
        return wanted
    return Step.registered_name(cls) or f"{cls.__module__}.{cls.__qualname__}"


def _run_of(cls: type[Step], name: str) -> Callable[..., Any]:
    """Return ``run`` as an object of the class would have it, without making one."""
    owner = next(c for c in cls.__mro__ if "run" in vars(c))
    title = f"step {name!r}" if name else f"step class {cls.__name__!r}"
    if owner is Step:
        raise ConfigurationError(
            f"{title}: {cls.__qualname__} defines no run()", "define run() with its arguments"
        )
    run: Callable[..., Any] = vars(owner)["run"].__get__(object(), cls)
    for parameter in signature_of(run).parameters:
        if parameter in ("type", "cache_results") or parameter.startswith("step_"):
            raise ConfigurationError(
                f"{title}: run() of {cls.__qualname__} has a parameter {parameter!r}, which is reserved",
                "rename it: config uses 'type', 'cache_results' and what begins with 'step_'",
            )
    return run


def _without_defaults(cls: type[Step], run: Callable[..., Any], tree: Any) -> Any:
    """Take from the tree of all arguments those that have the value given in SKIP_DEFAULT_ARGUMENTS."""
    from dispatch.fingerprint import canonical

    parameters = signature_of(run).parameters
    skipped = []
    for name, default in cls.SKIP_DEFAULT_ARGUMENTS.items():
        # Converted like the argument itself: 1 is not 1.0, but where a float is annotated it means one.
        declared = parameters.get(name, Parameter(name, UNANNOTATED, default, {}))
        parameter = Parameter(name, declared.annotation, default, declared.namespace)
        skipped.append([canonical(name), canonical(Converter(_itself, False).default(parameter, name))])
    return [tree[0], [pair for pair in tree[1] if pair not in skipped]]


def _resources_of(cls: type[Step], bound: dict[str, Any], name: str) -> dict[str, Any] | None:
    """What the class says it needs for these arguments, or None if it says nothing."""
    if cls.resources is Step.resources:
        return None
    try:
        resources = cls(step_name=name or None, **bound).resources
        if isinstance(resources, StepResources):
            return StepResources.from_config(resources.to_json()).to_json()
        fact = f"is a {type(resources).__name__}, not StepResources"
    except Exception as error:
        fact = f"cannot be told: {type(error).__name__}: {error}"
    raise ConfigurationError(
        f"step {name or cls.__name__!r}: the property 'resources' of {cls.__qualname__} {fact}",
        "let it return StepResources, and remember that no other step has run when it is asked",
    )


def _bytes(name: str, size: str | int | None) -> int | None:
    from dispatch.units import parse_size

    return None if size is None else parse_size(size, name)


def _itself(dependency: Any) -> Any:
    return dependency


def _no_reference(dependency: Any) -> Any:
    fact = f"the result of another step cannot be used here: {dependency!r}"
    raise ArgumentError("", fact, "only an argument of a step can refer to a step")


class _CallableModule(ModuleType):
    """``dispatch.step`` is this module, and to ``from dispatch import step`` it is the decorator."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return step(*args, **kwargs)


sys.modules[__name__].__class__ = _CallableModule
