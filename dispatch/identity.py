"""What a step says of itself: typed arguments, flags, and all that its unique id is made of.

Loaded where steps are described and identified; a step that runs does without.
"""

from __future__ import annotations

import json

from dispatch.errors import ConfigurationError
from dispatch.fingerprint import FingerprintError, canonical, resolve, unique_id
from dispatch.formats import resolve_format
from dispatch.params import ArgumentError, Parameter, Signature, signature_of
from dispatch.params.describing import Describer
from dispatch.params.signature import UNANNOTATED
from dispatch.resources import StepResources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any


class Description:
    """A step class with arguments, described. ``base`` is ``Step``, of which this module need not know more.

    ``bound`` are the typed arguments, with a stand-in for each object and each result of another step;
    ``references`` are what stands for such results, in order, as often as they are referred to. Raises
    ArgumentError for an argument, ConfigurationError for the class, both naming ``name``.
    """

    def __init__(self, base: Any, cls: Any, raw: Mapping[str, Any], name: str) -> None:
        self._base = base
        self._cls = cls
        self._name = name
        self._signature = _signature_of_run(base, cls, name)
        self._describer = Describer(self._note)
        self.references: list[Any] = []
        try:
            self.bound = self._describer.bind(self._signature, raw, "")
        except ArgumentError as error:
            raise error.of(name or cls.__name__) from error.__cause__

    def _note(self, dependency: Any) -> Any:
        self.references.append(dependency)
        return dependency

    def arguments(self) -> Any:
        """Return the canonical tree of what enters the identity, references unresolved."""
        cls = self._cls
        massaged = cls.massage_kwargs(dict(self.bound))
        kept = {key: value for key, value in massaged.items() if key not in cls.SKIP_ID_ARGUMENTS}
        try:
            tree = canonical(kept)
        except FingerprintError as error:
            step = self._name or cls.__name__
            raise ArgumentError(error.path.lstrip("."), error.fact, error.remedy, step) from error
        skipped = self._skipped()
        return [tree[0], [pair for pair in tree[1] if pair not in skipped]]

    def _skipped(self) -> list[Any]:
        """The arguments as they are in a tree when they have the value given in SKIP_DEFAULT_ARGUMENTS."""
        parameters = self._signature.parameters
        skipped = []
        for name, default in self._cls.SKIP_DEFAULT_ARGUMENTS.items():
            # Converted like the argument itself: 1 is not 1.0, but where a float is annotated it means one.
            declared = parameters.get(name, Parameter(name, UNANNOTATED, default, {}))
            parameter = Parameter(name, declared.annotation, default, declared.namespace)
            skipped.append([canonical(name), canonical(self._describer.default(parameter, name))])
        return skipped

    def type(self, wanted: str) -> str:
        """The type that enters the identity: the name asked for, else the first one, else module.Qualname."""
        entry = self._base._registry.get(wanted)
        if entry is not None and entry.cls is self._cls:
            return wanted
        place = f"{self._cls.__module__}.{self._cls.__qualname__}"
        return self._base.registered_name(self._cls) or place

    def modules(self) -> list[str]:
        """The modules, other than the step's own, that must be imported to make the arguments again."""
        return sorted(self._describer.modules - {self._cls.__module__})

    def resources(self) -> dict[str, Any] | None:
        """What the class says it needs for these arguments, or None if it says nothing.

        ``resources`` may be overridden by a property or by a method.
        """
        cls = self._cls
        if cls.resources is self._base.resources:
            return None
        try:
            resources = cls(step_name=self._name or None, **self.bound).resources
            resources = resources() if callable(resources) else resources
            if isinstance(resources, StepResources):
                return StepResources.from_config(resources.to_json()).to_json()
            fact = f"is a {type(resources).__name__}, not StepResources"
        except Exception as error:
            fact = f"cannot be told: {type(error).__name__}: {error}"
        raise ConfigurationError(
            f"step {self._name or cls.__name__!r}: 'resources' of {cls.__qualname__} {fact}",
            "let it return StepResources, and remember that no other step has run when it is asked",
        )

    def metadata(self) -> dict[str, Any]:
        """What the class wants to be kept with every record of it."""
        try:
            metadata: Any = json.loads(json.dumps(self._cls.METADATA))
            if isinstance(metadata, dict):
                return metadata
            fact = f"is a {type(metadata).__name__}, not a dict"
        except (TypeError, ValueError, RecursionError) as error:
            fact = f"cannot be kept: {error}"
        raise ConfigurationError(
            f"step {self._name or self._cls.__name__!r}: METADATA of {self._cls.__qualname__} {fact}",
            "let it be a dict of what JSON can hold",
        )


def describe(base: Any, cls: Any, type_name: str, raw: Mapping[str, Any], format: Any, name: str) -> Any:
    """See :func:`dispatch.step.describe_step`."""
    described = Description(base, cls, raw, name)
    used = resolve_format(cls.FORMAT if format is None else format)
    return {
        "class": cls.__name__,
        "module": cls.__module__,
        "qualname": cls.__qualname__,
        "type": described.type(type_name),
        "version": cls.VERSION,
        "deterministic": cls.DETERMINISTIC,
        "cacheable": cls.CACHEABLE,
        "format": {"name": used.NAME, "version": used.VERSION},
        "requires": list(used.REQUIRES),
        "arguments": described.arguments(),
        "modules": described.modules(),
        "metadata": described.metadata(),
        "resources": described.resources(),
    }


def identify(base: Any, step: Any) -> str:
    """Return the unique id of a step object, giving the steps behind it theirs first.

    Not by recursion: a chain of steps may be of any length. ConfigurationError for a circle.
    """
    path = [(step, _described(base, step))]
    while True:
        current, described = path[-1]
        waiting = next((each for each in steps_of(described.references) if each._unique_id is None), None)
        if waiting is None:
            current._unique_id = _unique_id_of(current, described)
            path.pop()
            if not path:
                return str(current._unique_id)
        elif any(waiting is each for each, _ in path):
            raise ConfigurationError(
                f"step {waiting!r}: takes its own result", "remove one of the references"
            )
        else:
            path.append((waiting, _described(base, waiting)))


def steps_of(references: Iterable[Any]) -> Iterator[Any]:
    """The step objects among what stands for results: as they are, or behind one item of them."""
    for each in references:
        step = getattr(each, "step", each)
        if hasattr(step, "_unique_id"):
            yield step


def references(base: Any, step: Any) -> list[Any]:
    """Return what stands for other steps' results in a step object's arguments, as often as it does."""
    return _described(base, step).references


def _described(base: Any, step: Any) -> Description:
    return Description(base, type(step), step.kwargs, step._name or "")


def _unique_id_of(step: Any, described: Description) -> str:
    cls = type(step)
    # A reference by name has no meaning here, where there is no graph: resolve refuses it.
    arguments = resolve(described.arguments(), {})
    used = step.format
    format_tree = canonical({"name": used.NAME, "version": used.VERSION})
    return unique_id(cls.__name__, cls.VERSION, described.type(""), format_tree, arguments)


def _signature_of_run(base: Any, cls: Any, name: str) -> Signature:
    """Return what ``run`` takes as an object of the class would have it, without making one."""
    owner = next(c for c in cls.__mro__ if "run" in vars(c))
    title = f"step {name!r}" if name else f"step class {cls.__name__!r}"
    if owner is base:
        raise ConfigurationError(
            f"{title}: {cls.__qualname__} defines no run()", "define run() with its arguments"
        )
    signature = signature_of(vars(owner)["run"].__get__(object(), cls))
    for parameter in signature.parameters:
        if parameter in ("type", "cache_results") or parameter.startswith("step_"):
            raise ConfigurationError(
                f"{title}: run() of {cls.__qualname__} has a parameter {parameter!r}, which is reserved",
                "rename it: config uses 'type', 'cache_results' and what begins with 'step_'",
            )
    return signature
