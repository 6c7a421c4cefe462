"""What Beaker tells of a dataset's files, where one answer may be wrong."""

from __future__ import annotations

import hashlib

import pytest

from dispatch._beaker import BeakerDamagedError
from dispatch.beakerd.config import Config
from dispatch.testing.beaker import Beakers
from dispatch.testing.beaker_doors import door_of
from dispatch.testing.beaker_faults import Faults

METHOD = "rpc:ListDatasetFiles"


def test_an_answer_that_is_wrong_once(beakers: Beakers) -> None:
    """Two answers that agree are believed, a single one is not; where they never agree nothing is."""
    server = beakers.start(Config(control=True))
    door, control = door_of(server), Faults(server)
    created = door.datasets.create("told")
    door.datasets.write(created, "value", b"bytes")
    door.datasets.commit(created.dataset.id)
    digest = hashlib.sha256(b"bytes").hexdigest()
    for lies in ((), (0,), (1,), (0, 2)):
        for place in lies:
            control.add(METHOD, "wrong-digest", times=1, after=place)
        (found,) = door.datasets.agreed_files(created.dataset.id)
        assert (found.path, found.size, found.sha256) == ("value", 5, digest)
        control.clear()
    for place in range(0, 6, 2):
        # A rule does not see those that an earlier one struck.
        control.add(METHOD, "wrong-digest", times=1, after=place - place // 2)
    with pytest.raises(BeakerDamagedError, match="other files each time"):
        door.datasets.agreed_files(created.dataset.id)
    door.close()
