"""The proxies of the docker command's configuration, as builds get them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dispatch._docker.proxies import build_proxies

PROXIES = {
    "default": {"httpProxy": "http://proxy:3128", "noProxy": "localhost", "other": "x", "allProxy": ""},
    "tcp://engine:2375": {"httpsProxy": "http://near:3128"},
}


def test_proxies_are_those_of_the_engine_else_the_default(tmp_path: Path) -> None:
    """Each comes in capitals and in small letters; what is no proxy, or empty, does not."""
    (tmp_path / "config.json").write_text(json.dumps({"proxies": PROXIES}))
    environ = {"DOCKER_CONFIG": str(tmp_path)}
    assert build_proxies(environ, "unix:///var/run/docker.sock") == {
        "HTTP_PROXY": "http://proxy:3128",
        "NO_PROXY": "localhost",
        "http_proxy": "http://proxy:3128",
        "no_proxy": "localhost",
    }
    assert set(build_proxies(environ, "tcp://engine:2375")) == {"HTTPS_PROXY", "https_proxy"}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"proxies": 1}', '{"proxies": {"default": [1]}}', "\udcff"]
)
def test_a_configuration_that_names_none(tmp_path: Path, text: str) -> None:
    """Whatever stands there, a build goes on without."""
    (tmp_path / ".docker").mkdir()
    (tmp_path / ".docker" / "config.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert build_proxies({"HOME": str(tmp_path)}, "unix:///s") == {}
    assert build_proxies({}, "unix:///s") == {}
