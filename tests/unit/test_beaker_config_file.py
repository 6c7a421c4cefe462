"""The local Beaker's configuration file: what it says, and what is refused in it."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from dispatch.beakerd.config import (
    Assumptions,
    ClusterConfig,
    Config,
    Interception,
    Limits,
    NameScope,
    NodeConfig,
    UserConfig,
    WorkspaceConfig,
)
from dispatch.beakerd.config_file import parse_config, read_config
from dispatch.beakerd.config_text import dump
from dispatch.errors import ConfigurationError

GIB = 1 << 30
FULL = """
organizations: [ai2, acme]
users:
  - {name: me, organizations: [ai2], admin: true}
  - {name: "007", organizations: [ai2, acme], email: bond@example.org}
workspaces:
  - {name: ai2/my-workspace, budget: ai2/default}
  - name: acme/on
    budget: ai2/other
    description: "a: b"
    maximum_priority: high
clusters:
  - name: ai2/one
    aliases: [uno]
    tags: [fast, "interconnect:ib"]
    max_task_timeout: 7d
    nodes:
      - hostname: local-1
      - {hostname: n2.example.org, cpus: 0.5, memory: 64GiB, gpus: 8, gpu_type: NVIDIA_A100_80GB, slots: 4}
      - {hostname: n3, cpus: 8, cordoned: "being mended"}
images: {ai2/conda: "local/conda:1", me/x: sha256-y}
host_paths: [PLACE]
assume: {names: workspace, mount_uncommitted: true, finalize_gap: 1m30s, grace: 0, check_secrets: false}
limits: {file_body: 1MiB, page: 10, storage_token: 60}
rpc_port: 4000
rest_port: 4001
control: true
rest_tls: true
intercept: {host: github.com, mirrors: PLACE}
"""


def test_every_field(tmp_path: Path) -> None:
    """Sizes, durations, names and switches become values; what is left out has its default."""
    config = parse_config(FULL.replace("PLACE", str(tmp_path)), "c.yml")
    assert config == Config(
        organizations=("ai2", "acme"),
        users=(
            UserConfig("me", ("ai2",), admin=True),
            UserConfig("007", ("ai2", "acme"), "bond@example.org"),
        ),
        workspaces=(
            WorkspaceConfig("ai2/my-workspace", "ai2/default"),
            WorkspaceConfig("acme/on", "ai2/other", "a: b", "high"),
        ),
        clusters=(
            ClusterConfig(
                "ai2/one",
                (
                    NodeConfig("local-1"),
                    NodeConfig("n2.example.org", 0.5, 64 * GIB, 8, "NVIDIA_A100_80GB", slots=4),
                    NodeConfig("n3", 8.0, cordoned="being mended"),
                ),
                ("uno",),
                ("fast", "interconnect:ib"),
                7 * 86400.0,
            ),
        ),
        images={"ai2/conda": "local/conda:1", "me/x": "sha256-y"},
        host_paths=(tmp_path,),
        assume=Assumptions(
            names=NameScope.WORKSPACE,
            mount_uncommitted=True,
            finalize_gap=90.0,
            grace=0.0,
            check_secrets=False,
        ),
        limits=Limits(file_body=1 << 20, page=10, storage_token=60.0),
        rpc_port=4000,
        rest_port=4001,
        control=True,
        rest_tls=True,
        intercept=Interception("github.com", tmp_path),
    )
    assert parse_config(dump(config), "again") == config


def test_a_file_that_says_nothing_is_the_default() -> None:
    """Nothing, a comment and empty keys leave the defaults; the default file says all of them."""
    assert parse_config("", "c") == parse_config("# x\n", "c") == parse_config("users:\n", "c") == Config()
    assert parse_config(dump(Config()), "c") == Config()


def test_the_file_explains_itself() -> None:
    """Every key is in the default file, and every switch is explained there."""
    lines = dump(Config()).splitlines()
    for each in fields(Config):
        assert [line for line in lines if line.removeprefix("# ").startswith(f"{each.name}:")]
    for each in fields(Assumptions):
        assert [line for line in lines if line.startswith(f"  {each.name}: ") and "# " in line]
    assert max(map(len, lines)) <= 120


@pytest.mark.parametrize(
    "name", ["1e3", "007", "on", "12", "null", "0x1f", "1_0", "12.5", "_a", "true", "2024-01-02"]
)
def test_names_that_yaml_would_take_for_more(name: str) -> None:
    """A name that looks like a number or a word of YAML is read back as the name it is."""
    config = replace(Config(), organizations=(name, "ai2"))
    assert parse_config(dump(config), "c") == config


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("[]", "c: is a list"),
        ("x", "c: is a text"),
        ("a: b: c", "c:1:5: not YAML"),
        ("users: &a [*a]", "c: users[0]: is a list"),
        ("[" * 40 + "]" * 40, "c: nested too deeply"),
        ("[" * 3000, "nest"),
        ("a: 1\n---\nb: 2", "not YAML"),
        ("control: true\ncontrol: false", "c:2:1: not YAML: 'control' is given twice"),
        ("1: x", "a key is no text"),
        ("control: !!python/object:os.x {}", "not YAML"),
        ("contrl: true", "c: there is no key 'contrl', did you mean 'control'?"),
        ("control: yes", "c: control: 'yes' is a text"),
        ("control: 1", "c: control: 1 is a number"),
        ("rpc_port: 65536", "c: rpc_port: 65536 is no whole number from 0 to 65535"),
        ("rpc_port: true", "c: rpc_port: True is no whole number"),
        ("{rpc_port: 7, rest_port: 7}", "c: rpc_port and rest_port are the same"),
        ("organizations: []", "c: organizations: is empty"),
        ("organizations: ai2", "c: organizations: is a text"),
        ("organizations: [ai2, -x]", "c: organizations[1]: '-x' is no name"),
        ("organizations: [ai2, 7]", "c: organizations[1]: 7 is a number"),
        ("organizations: [ai2, a/b]", "c: organizations[1]: 'a/b' is no name"),
        ("organizations: [ai2, ..]", "c: organizations[1]: '..' is no name"),
        ("organizations: [ai2, 'x\\n']", "is no name"),
        ("organizations: [ai2, \u00e4]", "is no name"),
        ("organizations: [ai2, ai2]", "c: organizations: 'ai2' is given twice"),
        ("users: [{name: a}]", "c: users[0].organizations: is missing"),
        (
            "users: [{name: a, organizations: [ai3]}]",
            "user 'a': there is no organization 'ai3', did you mean 'ai2'?",
        ),
        ("users: [{name: a, organizations: [ai2], admn: true}]", "c: users[0]: there is no key 'admn'"),
        ("users: [a]", "c: users[0]: is a text"),
        (
            "users: [{name: a, organizations: [ai2]}, {name: a, organizations: []}]",
            "c: users: 'a' is given twice",
        ),
        ("workspaces: [{name: ws, budget: ai2/b}]", "c: workspaces[0].name: 'ws' has no owner"),
        ("workspaces: [{name: ai2/ws}]", "c: workspaces[0].budget: is missing"),
        ("workspaces: [{name: x/ws, budget: ai2/b}]", "workspace 'x/ws': there is no organization 'x'"),
        ("workspaces: [{name: ai2/ws, budget: x/b}]", "budget 'x/b': there is no organization 'x'"),
        (
            "workspaces: [{name: ai2/ws, budget: ai2/b, maximum_priority: urgnt}]",
            "'urgnt' is no priority, did you mean 'urgent'?",
        ),
        ("clusters: [{name: ai2/c}]", "c: clusters[0].nodes: is missing"),
        ("clusters: [{name: ai2/c, nodes: []}]", "cluster 'ai2/c' has no nodes"),
        ("clusters: [{name: x/c, nodes: [{hostname: a}]}]", "cluster 'x/c': there is no organization 'x'"),
        ("clusters: [{name: ai2/c, nodes: [{hostname: a}, {hostname: a}]}]", "hostname: 'a' is given twice"),
        ("clusters: [{name: ai2/c, aliases: [c], nodes: [{hostname: a}]}]", "'ai2/c' is given twice"),
        ("clusters: [{name: ai2/c, nodes: [{hostname: a_b}]}]", "nodes[0].hostname: 'a_b' is no host name"),
        ("clusters: [{name: ai2/c, nodes: [{hostname: a, cpus: 0}]}]", "nodes[0].cpus: 0 is no number above"),
        ("clusters: [{name: ai2/c, nodes: [{hostname: a, memory: 16G}]}]", "memory: '16G' is not a size"),
        ("clusters: [{name: ai2/c, nodes: [{hostname: a, gpus: 1.5}]}]", "gpus: 1.5 is no whole number"),
        (
            "clusters: [{name: ai2/c, nodes: [{hostname: a, gpus: 1, gpu_type: NVIDIA_A100_80}]}]",
            "gpu_type: 'NVIDIA_A100_80' is no GPU type, did you mean 'NVIDIA_A100_80GB'",
        ),
        (
            "clusters: [{name: ai2/c, nodes: [{hostname: a, gpu_type: NVIDIA_L4}]}]",
            "nodes[0].gpu_type: the node has no GPUs",
        ),
        ("clusters: [{name: ai2/c, max_task_timeout: soon, nodes: []}]", "'soon' is not a duration"),
        ("images: {conda: x}", "c: images[conda]: 'conda' has no owner"),
        ("images: {ai2/conda: 'a b'}", "c: images[ai2/conda]: 'a b' is no reference"),
        ("images: {ai2/conda: ''}", "'' is no reference"),
        ("host_paths: [data]", "c: host_paths[0]: 'data' is not an absolute path"),
        ("host_paths: [/tmp/../etc]", "is not an absolute path"),
        ("host_paths: [/not/there]", "c: host_paths[0]: /not/there is no directory that is there"),
        ("assume: {names: user}", "c: assume.names: 'user' is no scope of names"),
        ("assume: {grace: -1}", "c: assume.grace: -1 is not a duration"),
        ("assume: {grace: false}", "c: assume.grace: False is not a duration"),
        ("assume: {mount_uncommited: true}", "did you mean 'mount_uncommitted'?"),
        ("limits: {page: 0}", "c: limits.page: 0 is no whole number"),
        ("limits: {upload: -1}", "c: limits.upload: -1 is not a size"),
        ("intercept: {host: github.com}", "c: intercept.mirrors: is missing"),
        ("intercept: {host: 'a b', mirrors: /tmp}", "c: intercept.host: 'a b' is no host name"),
    ],
)
def test_refused(written: str, message: str) -> None:
    """What makes no sense is refused with its place, the fact, and what to write instead."""
    with pytest.raises(ConfigurationError) as caught:
        parse_config(written, "c")
    assert message in caught.value.message
    assert caught.value.remedy


def test_files(tmp_path: Path) -> None:
    """A file that is not there, is a directory, is no text or is much too large is refused, not read."""
    path = tmp_path / "c.yml"
    for content, message in (
        (None, "cannot be read"),
        (b"\xff", "not UTF-8"),
        (b"#" * (2 << 20), "larger than"),
    ):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=message):
            read_config(path)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_config(tmp_path)
    path.write_bytes("\ufeffcontrol: true\n".encode())
    assert read_config(path).control
