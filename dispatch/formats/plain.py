"""Text, bytes and JSON: what needs nothing but the value.

Owns which values JSON gives back exactly as it is; what else JSON can be made to hold is ``tagged``'s.
"""

from __future__ import annotations

from dispatch.formats.storing import CompressibleFormat, put, unfit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

DEPTH = 100
INTEGER_BITS = 2048
TAG = "$dispatch"
# Small enough to stay in the processor's cache between being encoded and being written.
_CHUNK = 1 << 16


class TextFormat(CompressibleFormat[str]):
    """A text as it is, in UTF-8, line ends untouched."""

    NAME = "text"
    FILE = "data.txt"
    TAKES = "texts that UTF-8 can hold"

    def accepts(self, value: Any) -> bool:
        """Accept texts that UTF-8 can hold."""
        return type(value) is str and encodable(value)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the bytes of the text."""
        _write_text(value, file)

    def load(self, file: IO[bytes]) -> Any:
        """Decode the whole file."""
        return file.read().decode("utf-8")


class BytesFormat(CompressibleFormat[bytes]):
    """Bytes as they are."""

    NAME = "bytes"
    FILE = "data.bin"
    TAKES = "bytes"

    def accepts(self, value: Any) -> bool:
        """Accept bytes."""
        return type(value) is bytes

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write the bytes."""
        file.write(value)

    def load(self, file: IO[bytes]) -> Any:
        """Read the whole file."""
        return file.read()


class JsonFormat(CompressibleFormat["Any"]):
    """JSON in UTF-8, for what it gives back exactly; see ``tagged`` for what it writes with a tag.

    An iterator is written as ``data.jsonl``, one line an item, and comes back as an iterator.
    """

    NAME = "json"
    FILE = "data.json"

    def accepts(self, value: Any) -> bool:
        """Accept what is plain, and what ``tagged`` can encode."""
        if exact_in_json(value):
            return True
        from dispatch.formats.tagged import encode
        from dispatch.formats.tags import NotExactError

        try:
            encode(value)
        except NotExactError:
            return False
        return True

    def write(self, value: Any, directory: Any, *, own: Any = ()) -> str:  # noqa: ARG002
        """Write a value, or the items of an iterator; see ``Format.write``."""
        from dispatch.formats.streams import JsonLinesFormat, is_stream

        if is_stream(value):
            return JsonLinesFormat(self.compress).write(value, directory)
        # ``dump`` finds out what does not fit, before it writes anything.
        return put(self, value, directory)

    def dump(self, value: Any, file: IO[bytes]) -> None:
        """Write UTF-8 and a line's end. Raises UnfitError naming the place that JSON would change."""
        if not exact_in_json(value):
            from dispatch.formats.tagged import encode
            from dispatch.formats.tags import NotExactError

            try:
                value = encode(value)
            except NotExactError as error:
                raise unfit(self, value, str(error)) from error
        write_json(value, file)

    def load(self, file: IO[bytes]) -> Any:
        """Parse the whole file."""
        return parse(file.read(), self.modules)


def write_json(value: Any, file: IO[bytes]) -> None:
    """Write what is known to be plain."""
    import json

    _write_text(json.dumps(value, ensure_ascii=False, allow_nan=False), file)
    file.write(b"\n")


def parse(data: bytes, modules: Any = ()) -> Any:
    """Parse JSON, tagged or plain. ``modules``: packages whose classes may be imported."""
    if TAG.encode() in data:
        from dispatch.formats.tagged import decode

        return decode(data, modules)
    import json

    return json.loads(data)


def exact_in_json(value: Any, depth: int = DEPTH) -> bool:
    """Whether JSON alone gives a value back: None, booleans, integers, finite floats, texts, lists, dicts."""
    check = _CHECKS.get(type(value))
    return check is not None and check(value, depth)


def _exact_list(value: list[Any], depth: int) -> bool:
    return depth > 0 and all(exact_in_json(item, depth - 1) for item in value)


def _exact_dict(value: dict[Any, Any], depth: int) -> bool:
    return (
        depth > 0
        and TAG not in value
        and all(
            type(key) is str and encodable(key) and exact_in_json(item, depth - 1)
            for key, item in value.items()
        )
    )


_CHECKS: dict[type, Callable[[Any, int], bool]] = {
    type(None): lambda _value, _depth: True,
    bool: lambda _value, _depth: True,
    # Python may refuse to read more than 640 digits, depending on a setting.
    int: lambda value, _depth: value.bit_length() <= INTEGER_BITS,
    float: lambda value, _depth: value - value == 0,
    str: lambda value, _depth: encodable(value),
    list: _exact_list,
    dict: _exact_dict,
}


def encodable(text: str) -> bool:
    """Whether UTF-8 can hold a text: lone surrogates it cannot, and JSON would join pairs of them."""
    if text.isascii():
        return True
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _write_text(text: str, file: IO[bytes]) -> None:
    """Write a text in parts, so that its bytes are never there all at once."""
    for start in range(0, len(text), _CHUNK):
        file.write(text[start : start + _CHUNK].encode("utf-8"))
