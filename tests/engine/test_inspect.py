"""Images of a real engine, looked into, built again, listed and pruned."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from dispatch._docker import Door
from dispatch._docker.containers import ContainerSpec
from dispatch.image.usage import UsageIndex
from dispatch.image.verify import Layer, Verifier
from dispatch.lock.model import PipLock
from dispatch.lock.pip import read_pip
from dispatch.testing.project import Project
from dispatch.testing.reporting import RecordingReporter

pytestmark = [pytest.mark.engine, pytest.mark.archive]
