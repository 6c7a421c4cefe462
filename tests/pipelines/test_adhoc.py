"""`dispatch run -- COMMAND…`: one step from the command line, and what becomes of its result."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from dispatch._docker import ImageRecord
from dispatch.testing.project import Done, Project

Make = Callable[[Mapping[str, str]], Project]

BUSYBOX = 'images: {busybox: {docker: "dispatch-test-busybox:1"}}\n'
CONFIG = """\
steps:
  seed: {type: shell, command: 'echo hello > "$DISPATCH_OUTPUT_DIR/seed"'}
"""


def verdict(done: Done, step: str = "command") -> str:
    """What became of a step in a run that ended well."""
    return done.well().table()[step][0]


@pytest.fixture
def project(make: Make) -> Project:
    """A repository with a configuration, a script and a folder."""
    return make({"e.yml": CONFIG, "plot.sh": "echo one\n", "docs/a.txt": "text\n"})


def log(project: Project, step: str = "command") -> list[str]:
    """What a step of the newest run printed itself."""
    lines = project.dispatch("logs", "latest", step).well().out.splitlines()
    return [line for line in lines if not line.startswith("dispatch: ")]


def test_a_result_is_kept_like_any_other(project: Project) -> None:
    """The same command on the same files is cached; a changed file, variable or command is another step."""
    command = ("--", "sh", "-c", 'sh plot.sh > "$DISPATCH_OUTPUT_DIR/out.txt"')
    assert verdict(project.dispatch("run", *command)) == "completed"
    assert verdict(project.dispatch("run", *command)) == "cached"
    path = Path(project.dispatch("result", "latest", "command").well().out.strip())
    assert (path / "out.txt").read_text() == "one\n"
    assert project.dispatch("show", "latest", "--json").well().json()["steps"][0]["name"] == "command"
    assert verdict(project.dispatch("run", "--env", "A=1", *command)) == "completed"
    project.write({"plot.sh": "echo two\n"})
    assert verdict(project.dispatch("run", *command)) == "completed"
    project.write({"plot.sh": "echo one\n"})
    assert verdict(project.dispatch("run", *command)) == "cached"


def test_what_it_depends_on_can_be_narrowed(project: Project) -> None:
    """With `--path` only those files count, from the working directory; `--again` runs it all the same."""
    command = ("--path", "plot.sh", "--", "sh plot.sh")
    assert verdict(project.dispatch("run", *command)) == "completed"
    project.write({"docs/a.txt": "other\n"})
    assert verdict(project.dispatch("run", *command)) == "cached"
    assert verdict(project.dispatch("run", "--again", *command)) == "completed"
    assert log(project) == ["one"]
    missing = project.dispatch("run", "--path", "plto.sh", "--", "true")
    assert (missing.code, "did you mean 'plot.sh'" in missing.err) == (2, True)


def test_words_are_quoted_and_a_line_is_not(project: Project) -> None:
    """Several words reach the program as they are; a single one is a line for the shell."""
    project.dispatch("run", "--", "printf", "%s|", "a  b", "$HOME", "'", "-n", "--").well()
    assert log(project) == ["a  b|$HOME|'|-n|--|"]
    project.dispatch("run", "--", "echo a  b | tr a c").well()
    assert log(project) == ["c b"]


def test_results_of_earlier_runs_are_inputs(project: Project) -> None:
    """`--input` gives a result under its step's name or another; by its unique id it enters the identity."""
    project.dispatch("run", "e.yml", "-n", "first").well()
    read = 'cat "$DISPATCH_INPUT_{}/seed"'.format
    done = project.dispatch("run", "--json", "--input", "seed@first", "--", read("SEED")).well().json()
    steps = {step["name"]: step for step in done["steps"]}
    assert (steps["seed"]["verdict"], steps["command"]["verdict"]) == ("cached", "completed")
    assert log(project) == ["hello"]
    assert verdict(project.dispatch("run", "--input", "seed@latest", "--", read("SEED"))) == "cached"
    twice = ("--input", "a=seed@first", "--input", "b=seed@latest", "--step-name", "both")
    project.dispatch("run", *twice, "--", f"{read('A')} && {read('B')}").well()
    assert log(project, "both") == ["hello", "hello"]
    over = '{"steps": {"seed": {"command": "echo bye > $DISPATCH_OUTPUT_DIR/seed"}}}'
    project.dispatch("run", "e.yml", "-o", over, "-n", "second").well()
    assert verdict(project.dispatch("run", "--input", "seed@second", "--", read("SEED"))) == "completed"
    assert log(project) == ["bye"]
    pair = ("--input", "a=seed@first", "--input", "b=seed@second")
    project.dispatch("run", *pair, "--", f"{read('A')} && {read('B')}").well()
    assert log(project) == ["hello", "bye"]
    # Even its own result may go in, under another name.
    assert verdict(project.dispatch("run", "--input", "x=command@latest", "--", "true")) == "completed"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("seed@nowhere", "no run 'nowhere'"),
        ("sede@first", "has no step 'sede', did you mean 'seed'?"),
        ("seed", "write [NAME=]STEP@RUN"),
        ("a b=seed@first", "write [NAME=]STEP@RUN"),
        ("bad@failed", "step 'bad' of run failed has no result: it is failed"),
        ("command=seed@failed", "has no step 'seed'"),
    ],
)
def test_an_input_that_is_none(word: str, said: str, project: Project) -> None:
    """Each mistake is an error with exit code 2 that says what there is, and nothing runs."""
    project.dispatch("run", "e.yml", "-n", "first").well()
    assert project.dispatch("run", "-n", "failed", "--step-name", "bad", "--", "false").code == 1
    done = project.dispatch("run", "--input", word, "--", "true")
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_failure_ends_as_that_of_any_step(project: Project) -> None:
    """Exit code 1, the command's own code, and the way to its log."""
    done = project.dispatch("run", "-n", "bad", "--", "exit 9")
    assert done.code == 1
    assert "the command exited with code 9" in done.err
    assert "dispatch logs bad command" in done.err


def test_outside_of_a_repository_nothing_is_taken_for_the_same(tmp_path: Path) -> None:
    """Where nobody can tell what the files are, the result serves its own run, and that is said."""
    project = Project(tmp_path).write({"x.sh": "echo one\n"})
    for text in ("one", "two"):
        project.write({"x.sh": f"echo {text}\n"})
        done = project.dispatch("run", "--", "sh x.sh").well()
        assert "not in a git repository" in done.err
        assert log(project) == [text]
    assert project.dispatch("run", "--image", "a:1", "--", "true").code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name a CONFIG, or a command after `--`"),
        (("--",), "say what to run after `--`"),
        (("--", " "), "say what to run after `--`"),
        (("e.yml", "--", "ls"), "takes a CONFIG (e.yml) or a command after `--`, not both"),
        (("-s", "seed", "--", "ls"), "--step is for a CONFIG"),
        (("-D", "a=1", "--", "ls"), "--ext-var is for a CONFIG"),
        (("-o", "{}", "--", "ls"), "--overrides is for a CONFIG"),
        (("--rerun-changed", "--", "ls"), "--rerun-changed is for a CONFIG"),
        (("e.yml", "--image", "x"), "--image is for a command"),
        (("e.yml", "--input", "a@b"), "--input is for a command"),
        (("e.yml", "--again"), "--again is for a command"),
        (("--step-name", "a b", "--", "ls"), "this cannot be a step's name"),
        (("--memory", "much", "--", "ls"), "memory"),
        (("--mount", "/data", "--", "ls"), "write SOURCE:TARGET"),
        (("--env", "A", "--", "ls"), "'A': has no value, and the environment has none either"),
        (("--env", "DISPATCH_X=1", "--", "ls"), "reserved"),
        (("--image", "nope", "--", "ls"), "no image is named 'nope'"),
        (("--cpus", "100000", "--", "ls"), "CPUs"),
    ],
)
def test_what_cannot_be_meant(arguments: tuple[str, ...], said: str, project: Project) -> None:
    """Options of the other form, and values that nothing could be, end with exit code 2 before anything."""
    done = project.dispatch("run", *arguments, env={"A": ""})
    assert (done.code, done.out) == (2, "")
    assert said in done.err
    assert len(done.errors()) == 1


def test_executors_of_one_kind(project: Project) -> None:
    """Settings that have everything in containers, or nothing, are told by name."""
    project.write({"dispatch.yml": "executor: {type: docker}\n"})
    done = project.dispatch("run", "--", "ls")
    assert (done.code, "name one with --image" in done.err) == (2, True)
    project.write({"dispatch.yml": "executor: {type: local}\n"})
    done = project.dispatch("run", "--image", "a:1", "--", "ls")
    assert (done.code, "leave --image out" in done.err) == (2, True)


def test_values_of_variables_are_not_recorded_as_words(project: Project) -> None:
    """The command line that is kept with a result has names of variables only."""
    project.dispatch("run", "--env", "TOKEN=hush-hush", "--env=OTHER=hush-two", "--", "true").well()
    kept = b"".join(path.read_bytes() for path in (project.workspace / "cache").glob("*/manifest.json"))
    assert b"TOKEN=\\u2026" in kept or "TOKEN=…".encode() in kept
    assert kept.count(b"--env") == 2
    words = kept.partition(b'"command": [')[2].partition(b"]")[0]
    assert b"hush" not in words


@pytest.mark.engine
def test_images(project: Project, busybox_image: ImageRecord) -> None:
    """A name of the settings, of a configuration that lies here, of `images/`, and a reference."""
    assert busybox_image
    inside = ("--", 'cd /src && ls > "$DISPATCH_OUTPUT_DIR/names"; echo "$DISPATCH_STEP_NAME"')
    reference = project.dispatch("run", "--image", "dispatch-test-busybox:1", *inside)
    assert verdict(reference) == "completed"
    assert log(project) == ["command"]
    project.write({"f.yml": BUSYBOX + CONFIG, "images/folder/image.yml": "docker: dispatch-test-busybox:1\n"})
    whole = ("--path", "plot.sh", *inside)
    assert verdict(project.dispatch("run", "--image", "busybox", *whole)) == "completed"
    assert verdict(project.dispatch("run", "--image", "folder", *whole)) == "cached"
    project.write({"g.yml": BUSYBOX + CONFIG})
    twice = project.dispatch("run", "--image", "busybox", *whole)
    assert (twice.code, "several configurations here: f.yml, g.yml" in twice.err) == (2, True)
    project.write({"dispatch.yml": BUSYBOX})
    assert verdict(project.dispatch("run", "--image", "busybox", *whole)) == "cached"


@pytest.mark.engine
def test_inputs_and_limits_in_a_container(project: Project, busybox_image: ImageRecord) -> None:
    """A result of this machine is mounted; memory, network and variables are those asked for."""
    assert busybox_image
    project.dispatch("run", "e.yml").well()
    options = ["--image", "dispatch-test-busybox:1", "--input", "seed@latest", "--memory", "64MiB"]
    options += ["--network", "none", "--env", "COLOUR", "--cpus", "1", "--timeout", "5m", "--retries", "1"]
    script = (
        'cat "$DISPATCH_INPUT_SEED/seed"; echo $COLOUR $OMP_NUM_THREADS; ls /sys/class/net\n'
        "cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null; true"
    )
    project.call(*("dispatch", "run", *options, "--", script), env={"COLOUR": "blue"}).well()
    assert log(project) == ["hello", "blue 1", "lo", str(64 * 1024**2)]


@pytest.mark.engine
@pytest.mark.archive
def test_an_image_of_a_configuration_that_lies_here(tmp_path: Path, base: str) -> None:
    """`dispatch run --image plots -- python plot.py` builds it, and names the configuration for its lock."""
    assert base
    project = Project(tmp_path).write(
        {
            "requirements/plots.in": "",
            "experiment.yml": "images: {plots: {pip: requirements/plots.in, base: debian-python}}\n" + CONFIG,
            "plot.py": "print('plotted')\n",
        }
    )
    project.commit()
    project.dispatch("lock", "experiment.yml").well()
    project.dispatch("run", "--image", "plots", "--", "python", "plot.py").well()
    assert log(project) == ["plotted"]
    (project.root / "requirements/plots.lock").unlink()
    stale = project.dispatch("run", "--image", "plots", "--", "python", "plot.py")
    assert (stale.code, "dispatch lock experiment.yml" in stale.err) == (2, True)
