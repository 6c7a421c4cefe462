"""Directories on their way to datasets and back, while the line or the server does its worst."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch._beaker import (
    BeakerDamagedError,
    BeakerDoor,
)
from dispatch._beaker.parcels import download
from dispatch.testing.beaker_faults import Faults
from dispatch.testing.beaker_parcels import fetched, sent
from dispatch.workspace.manifest import Content, survey

DEADLINE = 60.0


@pytest.fixture
def door(beaker_door: BeakerDoor) -> BeakerDoor:
    """The door to the server at which faults can be asked for."""
    return beaker_door


ON_THE_WAY_IN = [
    (f"rest:{request}", kind)
    for request in ("POST /uploads", "PATCH /uploads/*", "PUT /datasets/*", "PATCH /api/v3/datasets/*")
    for kind in ("drop", "lose", "unavailable", "429", "500", "conflict")
] + [("rest:PATCH /uploads/*", "wrong-digest"), ("rpc:ListDatasetFiles", "wrong-digest")]


@pytest.mark.parametrize(("on", "kind"), ON_THE_WAY_IN)
def test_what_goes_wrong_on_the_way_in_is_done_again(
    door: BeakerDoor, faults: Faults, large: Path, tmp_path: Path, on: str, kind: str
) -> None:
    """The second and third request of each kind fail; what lies there in the end is what was sent."""
    times = 1 if kind == "wrong-digest" else 2
    fault = faults.add(on, kind, times=times)
    where = sent(door, large)
    assert faults.hits(fault) == times
    faults.clear()
    assert where[1].content == survey(large)
    assert fetched(door, where, tmp_path / "target", told=False) == survey(large)


ON_THE_WAY_OUT = ["drop", "lose", "unavailable", "429", "500", "truncate", "corrupt"]


@pytest.mark.parametrize("kind", ON_THE_WAY_OUT)
@pytest.mark.parametrize("told", [True, False])
def test_what_goes_wrong_on_the_way_out_is_done_again(
    door: BeakerDoor, faults: Faults, large: Path, small: Path, tmp_path: Path, kind: str, told: bool
) -> None:
    """Be it a tar or files: every byte is right in the end."""
    for number, source in enumerate((large, small)):
        where = sent(door, source)
        fault = faults.add("rest:GET */files/*", kind, times=2)
        target = tmp_path / f"target{number}"
        assert fetched(door, where, target, told=told) == survey(source) == survey(target)
        assert faults.hits(fault) == 2
        faults.clear()


def test_a_download_goes_on_where_it_broke_off(
    door: BeakerDoor, faults: Faults, large: Path, tmp_path: Path
) -> None:
    """A line that always breaks in the middle brings the whole file all the same, half of the rest a time."""
    where = sent(door, large)
    fault = faults.add("rest:GET */files/result/big", "truncate", times=10)
    assert fetched(door, where, tmp_path / "target") == survey(large)
    assert faults.hits(fault) == 10


@pytest.mark.parametrize("which", ["large", "small"])
def test_bytes_that_stay_wrong_are_no_result(
    door: BeakerDoor, faults: Faults, tmp_path: Path, which: str, request: pytest.FixtureRequest
) -> None:
    """The error names the dataset and the path, after a few tries."""
    where = sent(door, request.getfixturevalue(which))
    fault = faults.add("rest:GET */files/*", "corrupt")
    with pytest.raises(BeakerDamagedError) as caught:
        fetched(door, where, tmp_path / "target")
    assert 3 <= faults.hits(fault) <= 12
    assert (where[0] in caught.value.message) or "archive" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize("which", ["large", "small"])
def test_another_content_than_expected_is_no_result(
    door: BeakerDoor, tmp_path: Path, which: str, request: pytest.FixtureRequest
) -> None:
    """Beaker's own digests fit, the manifest's do not: somebody else's bytes lie there."""
    source = request.getfixturevalue(which)
    dataset, parcel = sent(door, source)
    name = min(parcel.content.files)
    size, _ = parcel.content.files[name]
    files = {**parcel.content.files, name: (size, "0" * 64)}
    expected = Content(files, {}, parcel.content.directories)
    with pytest.raises(BeakerDamagedError):
        download(door, dataset, parcel.subpath, parcel.packed, tmp_path / "target", expected)


def test_a_pointer_to_a_tar_knows_the_tar_alone(door: BeakerDoor, small: Path, tmp_path: Path) -> None:
    """Its digest is what is compared, whatever name it goes by."""
    dataset, parcel = sent(door, small)
    (file,) = door.datasets.files(dataset)
    pointer = Content({"result.tar": (file.size, file.sha256)})
    assert download(door, dataset, "result.tar", True, tmp_path / "a", pointer) == survey(small)
    wrong = Content({"result.tar": (file.size, "0" * 64)})
    with pytest.raises(BeakerDamagedError):
        download(door, dataset, "result.tar", True, tmp_path / "b", wrong)
    assert parcel.packed


def test_a_listing_that_lies_is_asked_again(
    door: BeakerDoor, faults: Faults, large: Path, tmp_path: Path
) -> None:
    """Once is the line's fault; always, and nothing is believed."""
    where = sent(door, large)
    faults.add("rpc:ListDatasetFiles", "wrong-digest")
    with pytest.raises(BeakerDamagedError):
        fetched(door, where, tmp_path / "target", told=False)
    with pytest.raises(BeakerDamagedError):
        sent(door, large)


def test_whole_files_of_an_earlier_download_are_kept(
    door: BeakerDoor, faults: Faults, large: Path, tmp_path: Path
) -> None:
    """Only what is missing or other is fetched; rests of a file are replaced."""
    where, target = sent(door, large), tmp_path / "target"
    (target / "sub").mkdir(parents=True)
    (target / "big").write_bytes((large / "big").read_bytes())
    (target / "sub" / "small").write_bytes(b"x" * 999)
    asked = faults.add("rest:GET */files/*", "latency", seconds=0.001)
    assert fetched(door, where, target) == survey(large) == survey(target)
    assert faults.hits(asked) == 1
