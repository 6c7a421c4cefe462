"""One page of a list request, from its options to the token of the next.

Owns the order where a request says none: names go up, everything else begins with the newest or largest.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dispatch.beakerd.backend import Backend
from dispatch.beakerd.problems import invalid
from dispatch.beakerd.rpc.paging import SORT_ASCENDING, Place, keyset, next_token, open_page

_ASCENDING = ("name",)


class _HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=_HasId)


@dataclass
class Page:
    """A page. ``keyset`` is the condition, the order and the values of its query (see ``paging``); ``next``
    is the next page's token, None where there is none, after :meth:`cut`."""

    options: Any
    place: Place
    column: str
    descending: bool
    next: str | None = None

    @classmethod
    def of(cls, request: Any, backend: Backend, columns: Mapping[str, str]) -> Page:
        """The page that is asked for. ``columns`` are those of the request's ``sort_by``, the first of them
        where it says nothing.

        :raises Problem: INVALID, see ``paging``
        """
        options, place = open_page(request, backend.config.limits.page)
        clause = options.sort_clause
        column = columns.get(clause.WhichOneof("sort_by") or "", next(iter(columns.values())))
        if clause.sort_order:
            descending = clause.sort_order != SORT_ASCENDING
        else:
            descending = column not in _ASCENDING
        return cls(options, place, column, descending)

    @property
    def keyset(self) -> tuple[str, str, Sequence[Any]]:
        """What the query needs."""
        return keyset(self.column, self.descending, self.place)

    def cut(self, rows: Sequence[Any]) -> Sequence[Any]:
        """The rows of this page, of the rows of the query, which may be one more."""
        if len(rows) > self.place.size:
            rows = rows[: self.place.size]
            self.next = next_token(self.options, rows[-1][self.column], rows[-1]["id"])
        return rows

    def take(self, every: Sequence[Row], value: Callable[[Row], int | str]) -> Sequence[Row]:
        """The things of this page, of all that there are: for those that are few and not sorted by SQL."""
        keyed = sorted(((value(each), each.id, each) for each in every), key=_key, reverse=self.descending)
        if self.place.after is not None:
            try:
                keyed = [each for each in keyed if self._behind(_key(each), self.place.after)]
            except TypeError as error:
                raise invalid("next_page_token: this is none that was given out") from error
        if len(keyed) > self.place.size:
            keyed = keyed[: self.place.size]
            self.next = next_token(self.options, *_key(keyed[-1]))
        return [each for _, _, each in keyed]

    def _behind(self, key: tuple[Any, str], after: tuple[Any, str]) -> bool:
        return key < after if self.descending else key > after


def _key(each: tuple[Any, str, Any]) -> tuple[Any, str]:
    return each[0], each[1]
