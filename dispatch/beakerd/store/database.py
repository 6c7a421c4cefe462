"""Transactions on the one database.

Owns connections: a reader for each thread, one writer at a time. WAL: readers never wait for the writer, and
a killed process loses nothing that was committed; after a loss of power the last moments may be missing, but
nothing is half there (``synchronous=NORMAL``), which is what a workstation's Beaker needs.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dispatch.beakerd.problems import Kind, Problem
from dispatch.beakerd.store.schema import SCHEMA, VERSION
from dispatch.errors import DispatchError

Transaction = sqlite3.Connection


class Database:
    """The database in a file, made if it is not there. :meth:`open` it once; threads may share it."""

    def __init__(self, path: Path):
        self._path = path
        self._local = threading.local()
        self._writing = threading.Lock()
        self._all: list[sqlite3.Connection] = []
        self._listeners: list[Callable[[], None]] = []

    def open(self) -> None:
        """Make or check the tables.

        :raises DispatchError: when the file is of a newer version, or is no database
        """
        try:
            connection = self._connection()
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > VERSION:
                raise DispatchError(
                    f"{self._path}: is of version {found}, this server knows {VERSION}",
                    "use the newer dispatch, or `dispatch beaker reset`",
                )
            if found < VERSION:
                connection.executescript(
                    f"BEGIN IMMEDIATE; {SCHEMA}; PRAGMA user_version = {VERSION}; COMMIT;"
                )
        except sqlite3.DatabaseError as error:
            raise DispatchError(
                f"{self._path}: cannot be used: {error}", "`dispatch beaker reset` begins anew"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent look at everything that is committed. Not to be nested."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Changes that happen together or not at all: an exception takes them all back. Not to be nested.

        :raises Problem: of kind TROUBLE, when the disk has no room for them
        """
        connection = self._connection()
        with self._writing:
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException as error:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                if isinstance(error, sqlite3.OperationalError) and "full" in str(error):
                    raise Problem(Kind.TROUBLE, "the server's disk is full") from error
                raise

    def close(self) -> None:
        """Close every connection; no thread may use the database any more."""
        for connection in self._all:
            connection.close()
        self._all.clear()

    def _connection(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = sqlite3.connect(
                self._path, timeout=30, isolation_level=None, check_same_thread=False
            )
            connection.row_factory = sqlite3.Row
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA temp_store = MEMORY")
            self._local.connection = connection
            self._all.append(connection)
        return connection
