"""The stand-in for conda as a command: how it reads what is asked for, and what its shell function does."""

from __future__ import annotations

import ast
import importlib.util
import json
import shlex
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dispatch.assets import images

COMMAND = images() / "stand-in-conda" / "conda.py"
MINOR = "{}.{}".format(*sys.version_info)


def loaded() -> ModuleType:
    """The command as a module."""
    spec = importlib.util.spec_from_file_location("stand_in_conda", COMMAND)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


conda = loaded()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An installation in a place whose name a shell has to be protected from; with two environments."""
    root = tmp_path / 'it\'s $HOME; a "root"'
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root], check=True)
    for prefix in (root, root / "envs" / "venv", root / "envs" / "other"):
        (prefix / "conda-meta").mkdir(parents=True)
        (prefix / "conda-meta" / "history").touch()
        (prefix / "bin").mkdir(exist_ok=True)
    script = root / "bin" / "conda"
    python = shlex.quote(str(root / "bin" / "python"))
    script.write_text(f'#!/bin/sh\nexec {python} -I {shlex.quote(str(COMMAND))} "$@"\n')
    script.chmod(0o755)
    return root


def ran(root: Path, script: str, shell: str = "bash", **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a shell that knows the installation, and nothing else of this machine."""
    env = {"PATH": f"{root}/bin:/usr/bin:/bin", "HOME": str(root / "home"), "ROOT": str(root), **environ}
    return subprocess.run([shell, "-c", script], env=env, capture_output=True, text=True, check=False)


def said(root: Path, script: str, shell: str = "bash", **environ: str) -> list[str]:
    """The lines that a script printed, once it has ended well."""
    done = ran(root, script, shell, **environ)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_it_is_written_for_the_oldest_python() -> None:
    """It parses as that of the PyTorch stand-in."""
    ast.parse(COMMAND.read_text("utf-8"), feature_version=(3, 9))


SPECS = {
    "python": ("python", ""),
    "python=3.9": ("python", "=3.9"),
    "python = 3.9": ("python", "= 3.9"),
    "python 3.9": ("python", "3.9"),
    "Python>=3.8,<4": ("python", ">=3.8,<4"),
    "scikit-learn": ("scikit-learn", ""),
    "conda-forge::python": ("", ""),
    "python[version='3.9']": ("", ""),
}


@pytest.mark.parametrize("spec", SPECS)
def test_a_specification_has_a_name_and_a_version(spec: str) -> None:
    """What is more than the two is left to py-rattler."""
    assert conda.parsed(spec) == SPECS[spec]


VERSIONS = [
    ("3.9.2", "", True),
    ("3.9.2", "=3.9", True),
    ("3.9.2", "3.9.*", True),
    ("3.9.2", "==3.9", False),
    ("3.9.0", "==3.9", True),
    ("3.9.2", "=3.1", False),
    ("3.10.1", "=3.1", False),
    ("3.9.2", ">=3.8,<3.10", True),
    ("3.9.2", ">=3.8, <3.9", False),
    ("3.9.2", "!=3.9.*", False),
    ("3.9.2", "!=3.9.1", True),
    ("3.9.2", ">3.9", True),
    ("3.9.2", "<=3.9", False),
    ("3.9.2", "~=3.9", None),
    ("3.9.2", "3.8|3.9", None),
]


@pytest.mark.parametrize(("version", "wanted", "expected"), VERSIONS)
def test_versions_are_compared_as_conda_does(version: str, wanted: str, expected: bool | None) -> None:
    """By numbers, with `=` and a star for all that begin so; what is not read is not guessed."""
    assert conda.satisfied(version, wanted) is expected


OWN = [
    ([], True),
    (["pip"], True),
    ([f"python={MINOR}", "pip"], True),
    ([f"python {MINOR}"], True),
    ([f"python=={MINOR}"], True),
    (["python>=3.8", "pip>=9"], True),
    (["pip<9"], False),
    (["python=2.7"], False),
    (["python", "numpy"], False),
    (["conda-forge::python"], False),
    (["python~=3.8"], False),
]


@pytest.mark.parametrize(("specs", "expected"), OWN)
def test_the_own_python_is_for_those_who_ask_for_no_more(specs: list[str], expected: bool) -> None:
    """Python as the image has it and pip need no channel; everything else does."""
    assert conda.own_python(conda.Wish(tuple(specs)), lambda _: "26.0.1") is expected


def test_a_file_is_read_with_its_pip_section(tmp_path: Path) -> None:
    """The seeds' shape: name, channels, dependencies; paths are relative to the file."""
    path = tmp_path / "environment.yml"
    path.write_text(
        "name: torch-env\nchannels: [pytorch]\nprefix: /theirs\n"
        "dependencies:\n  - python=3.9\n  - numpy\n  - pip:\n    - rich\n    - -r more.txt\n"
    )
    wish = conda.read_file(str(path))
    assert (wish.name, wish.channels, wish.specs) == ("torch-env", ("pytorch",), ("python=3.9", "numpy"))
    assert (wish.pip, wish.directory) == (("rich", "-r more.txt"), tmp_path)


BAD_FILES = {
    "no mapping": ("- python\n", "it has no keys"),
    "no YAML": ("a: [\n", "it is no YAML"),
    "unknown key": ("dependencies: []\nvariables: {A: b}\n", "variables: this is not supported"),
    "a number": ("dependencies: [3.9]\n", "3.9 is no text"),
    "no list": ("dependencies: python\n", "dependencies: it is no list"),
    "another section": ("dependencies: [{npm: [x]}]\n", "is no text"),
    "empty": ("", "it has no keys"),
}


@pytest.mark.parametrize(("text", "expected"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_error(text: str, expected: str, tmp_path: Path) -> None:
    """It names the file, the fact and a remedy."""
    path = tmp_path / "environment.yml"
    path.write_text(text)
    with pytest.raises(conda.CondaError, match=expected) as caught:
        conda.read_file(str(path))
    assert str(path) in str(caught.value)
    assert caught.value.remedy


CHANNELS = [
    ("conda-forge", {}, "conda-forge"),
    ("defaults", {}, "main"),
    ("a/label/b", {"CONDA_CHANNEL_ALIAS": "http://here:1/c/"}, "http://here:1/c/a/label/b"),
    ("https://there/c/", {"CONDA_CHANNEL_ALIAS": "http://here:1"}, "https://there/c"),
    ("/srv/channel", {}, "file:///srv/channel"),
]


@pytest.mark.parametrize(("channel", "environ", "expected"), CHANNELS)
def test_a_channel_has_an_address(channel: str, environ: dict[str, str], expected: str) -> None:
    """Its own, or its name after the alias."""
    assert conda.channel_url(channel, environ) == expected


def test_named_channels_replace_the_default() -> None:
    """Without any, CONDA_CHANNELS and then conda-forge are asked; `nodefaults` is no channel."""
    some = conda.Wish(channels=("file:///a", "nodefaults", "file:///a", "file:///b"))
    assert conda.channels_of(some, {"CONDA_CHANNELS": "c"}) == ["file:///a", "file:///b"]
    assert conda.channels_of(conda.Wish(), {"CONDA_CHANNELS": "file:///c, file:///d"}) == [
        "file:///c",
        "file:///d",
    ]
    assert conda.channels_of(conda.Wish(), {}) == ["conda-forge"]


def test_no_message_has_credentials() -> None:
    """Users, passwords and tokens in addresses are taken out, and a message is one line."""
    text = "error for (http://me:s3cret@host/t/tk-s3cret/main/x)\nCaused by: nobody\n"
    assert conda.plain(text) == "error for (http://host/t/…/main/x); nobody"


SHOW = 'echo "${CONDA_DEFAULT_ENV-none} ${CONDA_SHLVL-}"; echo "$PATH"; echo "${CONDA_PREFIX-none}"'
PLAIN = ":/usr/bin:/bin"


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_environments_are_activated_one_over_the_other(shell: str, root: Path) -> None:
    """The hook makes the base active; each that follows takes its place on PATH, and gives it back."""
    script = f"""\
set -eu
eval "$("$ROOT/bin/conda" shell.posix hook)"
{SHOW}; conda activate venv; {SHOW}; conda activate other; {SHOW}; conda activate other; {SHOW}
conda deactivate; {SHOW}; conda deactivate; conda deactivate; {SHOW}; conda deactivate; {SHOW}
"""
    base, venv, other = f"{root}/bin", f"{root}/envs/venv/bin", f"{root}/envs/other/bin"
    path = f"{base}{PLAIN}"
    assert said(root, script, shell) == [
        *("base 1", f"{base}:{path}", str(root)),
        *("venv 2", f"{venv}:{path}", f"{root}/envs/venv"),
        *("other 3", f"{other}:{path}", f"{root}/envs/other"),
        *("other 3", f"{other}:{path}", f"{root}/envs/other"),
        *("venv 2", f"{venv}:{path}", f"{root}/envs/venv"),
        *("none 0", path, "none"),
        *("none 0", path, "none"),
    ]


def test_the_profile_script_only_defines_the_function(root: Path) -> None:
    """`. conda.sh` activates nothing by itself."""
    script = f'set -eu; eval "$(conda shell.posix function)"; {SHOW}; conda activate; {SHOW}'
    lines = said(root, script)
    assert (lines[0], lines[3]) == ("none 0", "base 1")


def test_a_failed_activation_changes_nothing(root: Path) -> None:
    """It is told by the exit code, also under `set -e`; one that is no environment is not activated."""
    (root / "envs" / "half").mkdir()
    script = f"""\
set -euo pipefail
eval "$(conda shell.bash hook)"
for name in nothing half "a b" "../envs/none"; do
    if conda activate "$name" 2>/dev/null; then echo "$name"; fi
done
{SHOW}
conda activate nothing
"""
    done = ran(root, script)
    assert done.stdout.splitlines()[0] == "base 1"
    assert done.returncode == 1
    assert "environment 'nothing': there is none; known: base, other, venv" in done.stderr


def test_scripts_of_packages_are_read(root: Path) -> None:
    """Those of activate.d on the way in, of deactivate.d on the way out, by the shell itself."""
    for when in ("activate", "deactivate"):
        place = root / "envs" / "venv" / "etc" / "conda" / f"{when}.d"
        place.mkdir(parents=True)
        (place / "it's.sh").write_text(f'echo "{when} $CONDA_DEFAULT_ENV"\n')
    script = 'set -eu; eval "$(conda shell.posix hook)"; conda activate venv; conda deactivate'
    assert said(root, script) == ["activate venv", "deactivate venv"]
    assert said(root, "conda run -n venv echo ran") == ["activate venv", "ran"]


def test_the_prompt_names_the_environment(root: Path) -> None:
    """Where there is one; the name that was in it goes."""
    script = 'PS1="$ "; eval "$(conda shell.posix hook)"; echo "$PS1"; conda activate venv; echo "$PS1"'
    lines = said(root, f'{script}; conda deactivate; conda deactivate; echo "$PS1"; echo "${{PS1}}"')
    assert lines == ["(base) $ ", "(venv) $ ", "$ ", "$ "]


def test_facts_are_answered_for_machines(root: Path) -> None:
    """`info`, `env list` and `list` in JSON, with conda's keys."""
    envs = [str(root), f"{root}/envs/other", f"{root}/envs/venv"]
    assert json.loads("".join(said(root, "conda env list --json"))) == {"envs": envs}
    facts = json.loads("".join(said(root, "conda info --json", CONDA_PREFIX=envs[2], CONDA_SHLVL="1")))
    assert (facts["root_prefix"], facts["active_prefix_name"], facts["envs"]) == (str(root), "venv", envs)
    assert said(root, "conda info --base") == [str(root)]
    assert said(root, "conda --version")[0].startswith("conda 24.")
    assert json.loads("".join(said(root, "conda list -n venv --json"))) == []


def test_run_gives_the_commands_own_end(root: Path) -> None:
    """Its arguments, its exit code and its directory are as given; the environment is active in it."""
    script = (
        f"""conda run -n venv --no-capture-output sh -c 'printf "%s|" "$@"; {SHOW}; exit 7' - "a b" '' '$x'"""
    )
    done = ran(root, script)
    assert done.returncode == 7
    assert done.stdout.splitlines()[0] == "a b||$x|venv 1"
    assert said(root, "conda run -n venv --cwd /usr pwd") == ["/usr"]
    assert ran(root, "conda run -n venv").returncode == 2


def test_an_environment_is_removed_by_name_only(root: Path) -> None:
    """Never the base, the active one, or a directory that is none."""
    (root / "envs" / "half").mkdir()
    assert ran(root, "conda env remove -n venv -y").returncode == 0
    for name in ("base", "half", "venv", "../.."):
        assert ran(root, f"conda env remove -y -n {name}").returncode == 1
    assert ran(root, "conda env remove -y").returncode == 2
    assert ran(root, "conda env remove -y -n other", CONDA_PREFIX=f"{root}/envs/other").returncode == 1
    assert sorted(path.name for path in (root / "envs").iterdir()) == ["half", "other"]


@pytest.mark.parametrize(
    "command",
    ["tos", "config --set a b", "create --no-such -n x", "env export", "activate venv", "create", "shell"],
)
def test_what_it_does_not_have_is_one_error(command: str, root: Path) -> None:
    """It says that it is a stand-in or what to do, and makes nothing."""
    done = ran(root, f"conda {command}")
    assert done.returncode in (1, 2)
    assert done.stdout == ""
    assert done.stderr.startswith("conda: error: ")
    assert len(done.stderr.splitlines()) == 2
    assert sorted(path.name for path in (root / "envs").iterdir()) == ["other", "venv"]


@pytest.mark.parametrize("name", ["", "a/b", "..", "base", "a b", "a:b", "-x"])
def test_a_new_environment_has_a_plain_name(name: str, root: Path) -> None:
    """What could lead elsewhere is refused."""
    home = conda.Home(root, {"HOME": "/nowhere"})
    with pytest.raises(conda.CondaError, match="no name for a new environment"):
        home.new(name, None)
