"""What annotations mean. ``typing`` is not imported, but looked at where the user's code has imported it."""

from __future__ import annotations

import sys

from dispatch.params.references import ArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def read(annotation: Any, namespace: dict[str, Any], at: str) -> Any:
    """Return what an annotation means: texts evaluated where they were written, wrappers taken off.

    Raises ArgumentError for ``at`` if a text cannot be evaluated.
    """
    while True:
        text = annotation if isinstance(annotation, str) else getattr(annotation, "__forward_arg__", None)
        if text is not None:
            # A typed dict inherits texts from other modules than its own.
            module = sys.modules.get(getattr(annotation, "__forward_module__", None) or "")
            annotation = _evaluate(text, namespace if module is None else module.__dict__, at)
        elif hasattr(annotation, "__metadata__"):  # Annotated
            annotation = annotation.__origin__
        elif hasattr(annotation, "__supertype__"):  # NewType
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif type(annotation).__name__ == "InitVar":
            annotation = annotation.type
        else:
            return type(None) if annotation is None else annotation


def _evaluate(text: str, namespace: dict[str, Any], at: str) -> Any:
    try:
        if sys.version_info < (3, 10) and "|" in text:
            return eval(_without_bars(text), {**namespace, "Union": sys.modules["typing"].Union})
        return eval(text, namespace)
    except Exception as error:
        fact = f"its annotation {text!r} cannot be read: {type(error).__name__}: {error}"
        raise ArgumentError(at, fact, "import its names at run time, into the module itself") from None


def _without_bars(text: str) -> Any:
    """Compile an annotation with ``Union[X, Y]`` for ``X | Y``, which Python 3.9 does not know."""
    import ast
    import typing  # noqa: F401 - for the caller, who finds it among the loaded modules

    class Bars(ast.NodeTransformer):
        def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
            """Replace a bar between two types."""
            self.generic_visit(node)
            if not isinstance(node.op, ast.BitOr):
                return node
            members = ast.Tuple([node.left, node.right], ast.Load())
            return ast.Subscript(ast.Name("Union", ast.Load()), members, ast.Load())

    tree = Bars().visit(ast.parse(text, mode="eval"))
    return compile(ast.fix_missing_locations(tree), text, "eval")


def is_anything(annotation: Any) -> bool:
    """Whether an annotation excludes nothing that we could check."""
    typing = sys.modules.get("typing")
    if annotation is object:
        return True
    return typing is not None and (annotation is typing.Any or isinstance(annotation, typing.TypeVar))


def is_union(annotation: Any) -> bool:
    """Whether an annotation is ``Union[…]``, ``Optional[…]`` or ``X | Y``."""
    typing = sys.modules.get("typing")
    if type(annotation).__name__ == "UnionType":
        return True
    return typing is not None and getattr(annotation, "__origin__", None) is typing.Union


def is_literal(annotation: Any) -> bool:
    """Whether an annotation is ``Literal[…]``."""
    typing = sys.modules.get("typing")
    return typing is not None and getattr(annotation, "__origin__", None) is typing.Literal


def is_instance(value: Any, cls: type) -> bool:
    """``isinstance``, where a typed dict takes any dict, and a protocol that cannot tell takes anything."""
    try:
        return isinstance(value, cls)
    except TypeError:
        return isinstance(value, dict) or not hasattr(cls, "__total__")


def members_of_enum(annotation: Any) -> dict[str, Any] | None:
    """Return the members of an enum by name, or None for what is no enum."""
    enum = sys.modules.get("enum")
    if enum is None or not isinstance(annotation, type) or not issubclass(annotation, enum.Enum):
        return None
    return dict(getattr(annotation, "__members__"))  # noqa: B009 - of an enum, which mypy cannot see


def is_path(annotation: Any) -> bool:
    """Whether an annotation is one of the classes of paths."""
    pathlib = sys.modules.get("pathlib")
    return pathlib is not None and isinstance(annotation, type) and issubclass(annotation, pathlib.PurePath)
