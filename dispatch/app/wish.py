"""How a user wants images to be built, as a value."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Wish:
    """How images are to be built.

    So many at a time; after a failure others are begun, unless ``fail_fast``. With ``renew_base`` the locks
    of bases are renewed where the archive has moved on. With ``again`` what was asked for is made although it
    is there, and without what is cached of it.
    """

    workers: int = 2
    fail_fast: bool = False
    renew_base: bool = False
    again: bool = False


WISH = Wish()
