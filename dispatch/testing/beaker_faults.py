"""Faults of a local Beaker, asked for by a test over its control endpoint."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from dispatch.testing.beaker import BeakerProcess, LocalBeaker

TIMEOUT = 30.0


class Faults:
    """Asks a server that has ``control`` on; what it refuses is an ``urllib.error.HTTPError``."""

    def __init__(self, beaker: LocalBeaker | BeakerProcess, token: str | None = None):
        self._rest = beaker.endpoint.rest
        self._authority = beaker.endpoint.ca if beaker.endpoint.rest_tls else None
        self._token = token or beaker.endpoint.admin_token

    def add(self, on: str, kind: str, **more: Any) -> str:
        """Let a rule hold, and return its id; see :class:`dispatch.beakerd.faults.Rule`."""
        return str(self.ask("POST", "faults", {"on": on, "kind": kind, **more})["id"])

    def hits(self, fault: str) -> int:
        """How many requests a rule has struck."""
        found: dict[str, int] = {each["id"]: each["hits"] for each in self.ask("GET", "faults")["faults"]}
        return found[fault]

    def remove(self, fault: str) -> None:
        """End a rule."""
        self.ask("DELETE", f"faults/{fault}")

    def clear(self) -> None:
        """End all rules."""
        self.ask("DELETE", "faults")

    def revoke(self, user: str) -> None:
        """Let a user's tokens open nothing more."""
        self.ask("POST", "tokens/revoke", {"user": user})

    def give_back(self, user: str) -> None:
        """Let them open again what they did."""
        self.ask("POST", "tokens/restore", {"user": user})

    def preempt(self, job: str) -> None:
        """Preempt a job that has a place."""
        self.ask("POST", f"jobs/{job}/preempt")

    def lose(self, node: str) -> list[str]:
        """Take a node away, and return the jobs that were on it."""
        return list(self.ask("POST", f"nodes/{quote(node)}/lose")["jobs"])

    def restore(self, node: str) -> None:
        """Give it back."""
        self.ask("POST", f"nodes/{quote(node)}/restore")

    def ask(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """One request to the endpoint."""
        request = urllib.request.Request(
            f"{'https' if self._authority else 'http'}://{self._rest}/local/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
            method=method,
        )
        trust = ssl.create_default_context(cafile=self._authority) if self._authority else None
        with urllib.request.urlopen(request, timeout=TIMEOUT, context=trust) as answer:
            found: dict[str, Any] = json.loads(answer.read())
        return found
