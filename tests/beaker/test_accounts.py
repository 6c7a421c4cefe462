"""Accounts, asked for with the real client."""

from __future__ import annotations

import pytest

from dispatch.testing.beaker import LocalBeaker


def test_the_caller_is_the_user_of_the_token(beaker: LocalBeaker) -> None:
    """A token stands for its user."""
    with beaker.client() as client:
        assert client.user.get().name == "me"


def test_a_method_that_is_not_there_is_said_to_be(beaker: LocalBeaker) -> None:
    """What the server does not know is UNIMPLEMENTED, which the client raises as NotImplementedError."""
    with beaker.client() as client, pytest.raises(NotImplementedError):
        client.queue.get("01ARZ3NDEKTSV4RRFFQ69G5FAV")
