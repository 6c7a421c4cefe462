"""Which GPUs an engine has, by what the driver and the engine say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from dispatch.engine.base import Resources
from dispatch.engine.container import holding_of
from dispatch.engine.gpus import Gpu, gpus_here, gpus_of_engine, in_bus_order, visible

INFORMATION = """\
Model: \t\t {model}
IRQ:   \t\t 120
GPU UUID: \t {uuid}
Video BIOS: \t 92.00.45.00.03
"""
NVIDIA: dict[str, Any] = {"Runtimes": {"runc": {}, "nvidia": {}}}
CDI = [{"Source": "cdi", "ID": f"nvidia.com/gpu={each}"} for each in ("1", "0", "all", "GPU-1f")]


@pytest.fixture
def driver(tmp_path: Path) -> Path:
    """What the driver of a machine with three GPUs shows, the second of which says nothing."""
    for place, content in {
        "0000:81:00.0": INFORMATION.format(model="NVIDIA H100 PCIe", uuid="GPU-bb"),
        "0000:07:00.0": INFORMATION.format(model="NVIDIA A100-SXM4-80GB", uuid="GPU-aa"),
        "0000:0f:00.0": None,
    }.items():
        (tmp_path / place).mkdir()
        if content is not None:
            (tmp_path / place / "information").write_text(content)
    return tmp_path


def test_gpus_of_this_machine(driver: Path) -> None:
    """They are counted in the order of the bus, as the driver's own tools do, each with its model."""
    assert gpus_here(driver) == (
        Gpu("0", "NVIDIA A100-SXM4-80GB", "GPU-aa"),
        Gpu("1"),
        Gpu("2", "NVIDIA H100 PCIe", "GPU-bb"),
    )
    assert gpus_here(driver / "nothing") == ()


@pytest.mark.parametrize(
    ("info", "here", "ids"),
    [
        (NVIDIA, True, ["0", "1", "2"]),
        (NVIDIA, False, []),
        ({**NVIDIA, "DiscoveredDevices": CDI}, False, ["0", "1"]),
        ({**NVIDIA, "DiscoveredDevices": None}, False, []),
        ({"DiscoveredDevices": CDI}, False, []),
        ({"Runtimes": {"runc": {}}}, True, []),
        ({"Runtimes": None}, True, []),
    ],
)
def test_gpus_of_an_engine(driver: Path, info: Mapping[str, Any], here: bool, ids: list[str]) -> None:
    """This machine's GPUs are an engine's only if it runs here; one elsewhere has those that it lists."""
    assert [gpu.id for gpu in gpus_of_engine(info, here, driver)] == ids


@pytest.mark.parametrize(
    ("variable", "gpus"),
    [
        (None, ["0", "1", "2"]),
        ("2, 0", ["2", "0"]),
        ("GPU-bb", ["GPU-bb"]),
        ("7", ["7"]),
        ("", []),
        ("-1", []),
    ],
)
def test_gpus_that_the_user_leaves(driver: Path, variable: str | None, gpus: list[str]) -> None:
    """The user's own variable names GPUs by index or UUID, and those keep their models."""
    found = visible(gpus_here(driver), variable)
    assert [gpu.id for gpu in found] == gpus
    models = {"0": "NVIDIA A100-SXM4-80GB", "2": "NVIDIA H100 PCIe", "GPU-bb": "NVIDIA H100 PCIe"}
    assert [gpu.type for gpu in found] == [models.get(gpu, "") for gpu in gpus]


@pytest.mark.parametrize(
    ("environ", "order"),
    [
        ({}, "PCI_BUS_ID"),
        ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "FASTEST_FIRST"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, None),
    ],
)
def test_programs_count_as_we_do(driver: Path, environ: Mapping[str, str], order: str | None) -> None:
    """Without a driver, or where the user chose GPUs or an order himself, nothing is changed."""
    assert in_bus_order(environ, driver) == dict(environ) | (
        {} if order is None else {"CUDA_DEVICE_ORDER": order}
    )
    assert in_bus_order(environ, driver / "nothing") == environ


@pytest.mark.parametrize(
    ("labels", "resources"),
    [
        ({}, Resources()),
        ({"dispatch.gpus": "0,3", "dispatch.cpus": "1.5"}, Resources(cpus=1.5, gpus=("0", "3"))),
        ({"dispatch.cpus": "", "dispatch.memory": "", "dispatch.gpus": ""}, Resources()),
        ({"dispatch.memory": "1024"}, Resources(memory=1024)),
        ({"dispatch.cpus": "nan", "dispatch.memory": "1e9"}, Resources()),
        ({"dispatch.cpus": "-1", "dispatch.memory": "²"}, Resources()),
        ({"dispatch.cpus": "inf", "dispatch.gpus": ",,1,"}, Resources(gpus=("1",))),
    ],
)
def test_what_labels_mean(labels: Mapping[str, str], resources: Resources) -> None:
    """Labels of another client's container say what it holds; what is no number counts as nothing."""
    assert holding_of(labels).resources == resources
