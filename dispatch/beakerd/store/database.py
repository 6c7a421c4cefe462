"""Transactions on the one database.

Owns connections: as many as there are transactions at once, one writer at a time. WAL: readers never wait
for the writer, and a killed process loses nothing that was committed; after a loss of power the last moments
may be missing, but nothing is half there (``synchronous=NORMAL``): what a workstation's Beaker needs.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
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
        self._writing = threading.Lock()
        self._lock = threading.Lock()
        self._free: list[sqlite3.Connection] = []
        self._closed = False

    def open(self) -> None:
        """Make or check the tables.

        :raises DispatchError: when the file is of a newer version, or is no database
        """
        try:
            connection = self._connect()
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
            self._give_back(connection)
        except sqlite3.DatabaseError as error:
            raise DispatchError(
                f"{self._path}: cannot be used: {error}", "`dispatch beaker reset` begins anew"
            ) from error

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """A consistent look at everything that is committed. Not to be nested."""
        connection = self._take()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            self._give_back(connection)

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Changes that happen together or not at all: an exception takes them all back. Not to be nested.

        :raises Problem: of kind TROUBLE, when the disk has no room for them
        """
        with self._writing:
            connection = self._take()
            try:
                connection.execute("BEGIN IMMEDIATE")
                yield connection
                connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                if "full" in str(error):
                    raise Problem(Kind.TROUBLE, "the server's disk is full") from error
                raise
            finally:
                self._give_back(connection)

    def settle(self) -> None:
        """Bring all that was committed into the one file, as far as no reader is in the way, and empty the
        journal: what was overwritten stands in it otherwise."""
        with self._writing:
            connection = self._take()
            try:
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                self._give_back(connection)

    def close(self) -> None:
        """Close every connection; of transactions that are open still, when they end."""
        with self._lock:
            self._closed = True
            free, self._free = self._free, []
        for connection in free:
            connection.close()

    def _take(self) -> sqlite3.Connection:
        with self._lock:
            if self._free:
                return self._free.pop()
        return self._connect()

    def _give_back(self, connection: sqlite3.Connection) -> None:
        """Keep it for the next transaction, with nothing open in it. A thread has none of its own: there may
        be a new one for each job."""
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            connection.close()
            raise
        with self._lock:
            if not self._closed:
                self._free.append(connection)
                return
        connection.close()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        # What is deleted, a secret perhaps, is overwritten.
        connection.execute("PRAGMA secure_delete = ON")
        return connection
