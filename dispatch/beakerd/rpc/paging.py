"""Pages of lists: the token that leads to the next one.

Owns the token: in the API it takes the place of the options, so it holds them, and where the last page ended.
Pages follow the sort value and the id of the last row, so that rows which come or go meanwhile are neither
shown twice nor passed over.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from dispatch.beakerd.problems import invalid

DEFAULT_SIZE = 50
SORT_ASCENDING = 2

Options = TypeVar("Options")


@dataclass(frozen=True)
class Place:
    """Where a page begins: after the row with this sort value and id; None is the beginning."""

    size: int
    after: tuple[Any, str] | None = None


def open_page(request: Any, largest: int) -> tuple[Any, Place]:
    """Return a list request's options and the page that is asked for.

    :raises Problem: INVALID, for a token that is none, or a page larger than ``largest``
    """
    options, after = request.options, None
    if request.HasField("next_page_token"):
        try:
            stored = json.loads(base64.urlsafe_b64decode(request.next_page_token.encode()))
            options = type(request.options).FromString(base64.b64decode(stored["options"], validate=True))
            value, row = stored["after"]
            if not isinstance(row, str) or not isinstance(value, (int, str)):
                raise ValueError
            after = (value, row)
        except (ValueError, KeyError, TypeError, RecursionError, DecodeError) as error:
            raise invalid("next_page_token: this is none that was given out") from error
    names = {field.name for field in type(options).DESCRIPTOR.fields}
    size = options.page_size if "page_size" in names and options.HasField("page_size") else DEFAULT_SIZE
    if not 0 < size <= largest:
        raise invalid(f"page_size: {size} is not between 1 and {largest}")
    return options, Place(size, after)


def next_token(options: Any, value: int | str, row: str) -> str:
    """The token of the page after a row, given by its sort value and id."""
    stored = {
        "options": base64.b64encode(options.SerializeToString()).decode(),
        "after": [value, row],
    }
    return base64.urlsafe_b64encode(json.dumps(stored).encode()).decode()


def keyset(column: str, descending: bool, place: Place) -> tuple[str, str, Sequence[Any]]:
    """Return the condition, the order with its limit, and the condition's values, for a query that is paged.

    ``column`` is the sorted column as SQL, never from a request; the id's column is ``id`` with the same
    prefix. One row more than the page is asked for: if it is there, there is a next page.
    """
    prefix = column.rpartition(".")[0]
    row = f"{prefix}.id" if prefix else "id"
    way, sign = ("DESC", "<") if descending else ("ASC", ">")
    order = f"ORDER BY {column} {way}, {row} {way} LIMIT {place.size + 1}"
    if place.after is None:
        return "1", order, ()
    return f"({column}, {row}) {sign} (?, ?)", order, place.after
