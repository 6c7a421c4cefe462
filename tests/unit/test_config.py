"""What a configuration means: its images are found, each step has one, and every mistake has an answer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dispatch.assets import images as packaged_images
from dispatch.config import Config, find_images, load
from dispatch.environment import BeakerImage, DockerImage, PipImage
from dispatch.errors import ConfigurationError
from dispatch.settings import Settings, WorkspaceSetting, read_settings

QUICKSTART = Path(__file__).parents[1] / "pipelines" / "quickstart"
SHELL_ONLY = Path(__file__).parents[1] / "pipelines" / "shell-only"
STEP = "steps: {one: {type: shell, command: 'true'}}\n"
DEBIAN = "debian: {suites: [s], packages: [p1], architecture: amd64, epoch: 1}\n"


class Project:
    """A repository in a temporary directory, and a folder of packaged images beside it."""

    def __init__(self, root: Path) -> None:
        self.root = root / "repo"
        self.packaged = root / "packaged"
        self.write("repo/.git", "")
        self.write("packaged/debian-python/image.yml", DEBIAN)
        self.settings = Settings(workspace=WorkspaceSetting("local", self.root / "workspace"))

    def write(self, name: str, text: str) -> Path:
        path = self.root.parent / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def set(self, text: str) -> None:
        path = self.write("repo/dispatch.yml", text)
        self.settings = read_settings(path, self.root, self.settings.workspace)

    def load(self, text: str, name: str = "experiment.yml") -> Config:
        return load(self.write(f"repo/{name}", text), self.settings, self.packaged)

    def refused(self, text: str) -> ConfigurationError:
        with pytest.raises(ConfigurationError) as caught:
            self.load(text)
        caught.value.message = caught.value.message.replace(f"{self.root}/", "")
        caught.value.remedy = caught.value.remedy.replace(f"{self.root}/", "")
        return caught.value


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def references(environments: Mapping[str, object]) -> dict[str, str]:
    """The Docker references of those environments that have one."""
    found = {}
    for name, environment in environments.items():
        declaration = getattr(environment, "declaration", None)
        if isinstance(declaration, DockerImage):
            found[name] = declaration.reference
    return found


def test_every_step_has_its_image(project: Project) -> None:
    """A step's own image wins over the default, and only images that are used are environments."""
    config = project.load(
        """
        image: a
        images: {a: {docker: "a:1"}, b: {docker: "b:1"}, unused: {docker: "c:1"}}
        steps:
          one: {type: shell, command: "true"}
          two: {type: shell, command: "true", step_image: b}
        """
    )
    assert config.images == {"one": "a", "two": "b"}
    assert references(config.environments) == {"a": "a:1", "b": "b:1"}
    assert (config.image, config.directory, config.path) == (
        "a",
        project.root,
        project.root / "experiment.yml",
    )
    assert config.graph.order == ("one", "two")


def test_a_step_without_an_image_has_none(project: Project) -> None:
    """Where nobody names an image there is none, and no environment for it; one step may differ."""
    config = project.load(
        "images: {a: {docker: 'a:1'}}\n"
        "steps: {one: {type: shell, command: x}, two: {type: shell, command: y, step_image: a}}"
    )
    assert config.images == {"one": None, "two": "a"}
    assert references(config.environments) == {"a": "a:1"}


def test_a_local_step_keeps_its_image(project: Project) -> None:
    """That a step runs on the client's machine is the plan's affair; the image it names is still said."""
    text = (
        "image: a\nimages: {a: {docker: 'a:1'}}\n"
        "steps: {one: {type: shell, command: x, step_resources: {machine: local}}}"
    )
    assert project.load(text).images == {"one": "a"}


def test_a_configuration_may_name_modules(project: Project) -> None:
    """`include_package` stands in a configuration, too, as one name or as several."""
    assert project.load("include_package: a.b\n" + STEP).include_package == ("a.b",)
    assert project.load("include_package: [a, b, a]\n" + STEP).include_package == ("a", "b")
    assert project.load(STEP).include_package == ()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("x.yml", "image: a\nimages: {a: {docker: 'a:1'}}\nsteps: {one: {type: shell, command: x}}"),
        ("x.yaml", "image: a\nimages: {a: {docker: 'a:1'}}\nsteps: {one: {type: shell, command: x}}"),
        (
            "x.json",
            '{"image": "a", "images": {"a": {"docker": "a:1"}},\n\t"steps": {"one": '
            '{"type": "shell", "command": "x"}}}',
        ),
        (
            "x.jsonnet",
            "local image = 'a';\n{ image: image, images: { [image]: { docker: image + ':1' } },"
            " steps: { one: { type: 'shell', command: 'x' } } }",
        ),
    ],
)
def test_the_ending_says_what_a_configuration_is_written_in(project: Project, name: str, text: str) -> None:
    """YAML, JSON and Jsonnet say the same."""
    config = project.load(text, name)
    assert (config.images, references(config.environments)) == ({"one": "a"}, {"a": "a:1"})
    assert config.graph["one"].arguments == {"command": "x"}
    assert config.path == project.root / name


def test_steps_of_jsonnet_keep_their_order(project: Project) -> None:
    """Steps are listed as they are written, not in the alphabet's order."""
    text = (
        "{ steps: { z: { type: 'a', b: 1 }, a: self.z } + { ['m' + x]: { type: 'b' } for x in ['2', '1'] } }"
    )
    assert project.load(text, "x.jsonnet").graph.order == ("z", "a", "m2", "m1")


@pytest.mark.parametrize("name", ["x.json", "x.jsonnet"])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"stpes": {}}', "stpes: unknown key 'stpes', did you mean 'steps'?"),
        ('{"steps": {}}', "steps: there are no steps"),
        ('{"steps": []}', "steps: expected keys with values, got a list"),
        ("[]", "expected keys with values, got a list"),
        (
            '{"images": {"a": {"pip": "b", "lok": "c"}}, "steps": {"one": {"type": "b"}}}',
            "images.a.lok: unknown key of a 'pip' image 'lok', did you mean 'lock'?",
        ),
        (
            '{"images": {"a": {"pip": "b", "lock": 1}}, "steps": {"one": {"type": "b"}}}',
            "images.a.lock: expected text, got the number 1",
        ),
        (
            '{"image": "a", "steps": {"one": {"type": "b"}}}',
            "step 'one': no image is named 'a'",
        ),
        ('{"steps": {"one": {"tpye": "b"}}}', "step 'one': has no 'type', but 'tpye': did you mean 'type'?"),
    ],
)
def test_where_no_line_is_known_the_key_is_named(
    project: Project, name: str, text: str, message: str
) -> None:
    """JSON and Jsonnet have no positions: an error says file and key, the key once."""
    with pytest.raises(ConfigurationError) as caught:
        project.load(text, name)
    assert caught.value.message.startswith(f"{project.root / name}: {message}")


def test_the_default_image_of_the_settings_comes_second(project: Project) -> None:
    """``image:`` of the settings holds where the configuration has none."""
    project.set("{image: a, images: {a: {docker: 'a:1'}, b: {docker: 'b:1'}}}")
    assert project.load(STEP).images == {"one": "a"}
    assert project.load("image: b\n" + STEP).images == {"one": "b"}


def test_where_a_name_is_looked_up(project: Project) -> None:
    """The configuration's images come first, then the settings', the repository's, the packaged ones."""
    text = "image: it\n" + STEP

    def found() -> str:
        return references(project.load(text).environments)["it"]

    project.write("packaged/it/image.yml", "docker: packaged:1")
    assert found() == "packaged:1"
    project.write("repo/images/it/image.yml", "docker: repository:1")
    assert found() == "repository:1"
    project.set("images: {it: {docker: 'settings:1'}}")
    assert found() == "settings:1"
    text += "images: {it: {docker: 'config:1'}}"
    assert found() == "config:1"


def test_folders_are_read_only_for_names_that_are_used(project: Project) -> None:
    """A broken image in a folder is in nobody's way until a step names it."""
    project.write("repo/images/broken/image.yml", "nonsense: [")
    project.write("repo/images/fine/image.yml", "docker: fine:1")
    assert references(project.load("image: fine\n" + STEP).environments) == {"fine": "fine:1"}
    assert "images/broken/image.yml:" in project.refused("image: broken\n" + STEP).message


def test_a_base_comes_with_the_image_and_before_it(project: Project) -> None:
    """Bases are environments too, in the order in which they can be built."""
    project.write("repo/a.in", "")
    config = project.load("image: a\nimages: {a: {pip: a.in}}\n" + STEP)
    assert list(config.environments) == ["debian-python", "a"]
    declaration = config.environments["a"].declaration
    assert isinstance(declaration, PipImage)
    assert (declaration.requirements, declaration.lock) == (project.root / "a.in", project.root / "a.lock")


def test_a_base_may_be_a_reference(project: Project) -> None:
    """A base that nobody declares, but is written as a reference, is a Docker image of that name."""
    project.write("repo/a.in", "")
    config = project.load("image: a\nimages: {a: {pip: a.in, base: 'python:3.11-slim'}}\n" + STEP)
    assert references(config.environments) == {"python:3.11-slim": "python:3.11-slim"}


def test_an_image_may_stand_in_the_step(project: Project) -> None:
    """An inline declaration gets a name derived from the step's, which no other image has."""
    project.write("repo/images/one-image/image.yml", "docker: other:1")
    config = project.load(
        """
        steps:
          one: {type: shell, command: "true", step_image: {docker: "a:1"}}
          two: {type: shell, command: "true", step_image: {docker: "b:1"}}
          three: {type: shell, command: "true", step_image: one-image}
        """
    )
    assert config.images == {"one": "one-image-", "two": "two-image", "three": "one-image"}
    assert references(config.environments) == {
        "one-image-": "a:1",
        "two-image": "b:1",
        "one-image": "other:1",
    }


def test_images_without_a_configuration(project: Project) -> None:
    """Names are found for commands that take no configuration, by the same order and with the same errors."""
    project.set("images: {it: {docker: 'settings:1'}}")
    found = find_images(["it", "debian-python"], project.root, project.settings, project.packaged)
    assert list(found) == ["it", "debian-python"]
    with pytest.raises(ConfigurationError, match="image 'itt': no image is named 'itt', did you mean 'it'"):
        find_images(["itt"], project.root, project.settings, project.packaged)


def test_two_images_may_share_a_lock_that_answers_both(project: Project) -> None:
    """Whether bytecode is made, and which variables are set, is no question to a lock."""
    project.write("repo/a.in", "")
    images = "images: {a: {pip: a.in}, b: {pip: a.in, bytecode: false, env: {A: b}}}\n"
    assert list(project.load(images + TWO).environments) == ["debian-python", "a", "b"]


def test_images_that_exist_have_no_lock(project: Project) -> None:
    """Of Docker or of Beaker, by name, in place, and twice: none stands in the way of another's lock."""
    images = "images: {a: {beaker: me/tools}, b: {beaker: me/tools}, c: {docker: 'a:1'}}\n"
    assert set(project.load(images + TWO).environments) == {"a", "b"}
    inline = "steps: {one: {type: shell, command: x, step_image: {beaker: ai2/conda}}}"
    (found,) = project.load(inline).environments.values()
    assert (found.name, found.declaration) == ("one-image", BeakerImage("ai2/conda"))


TWO = "steps: {one: {type: shell, command: x, step_image: a}, two: {type: shell, command: y, step_image: b}}"


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        (
            "stpes: {}",
            "experiment.yml:1:1: unknown key 'stpes', did you mean 'steps'?",
            "use one of: image, imag",
        ),
        ("", "experiment.yml: steps: there are no steps", "declare them"),
        ("steps: {}", "experiment.yml:1:1: there are no steps", "declare them"),
        ("steps: [a]", "experiment.yml:1:1: steps: expected keys with values, got a list", ""),
        ("a: b: c", "experiment.yml:1:5: not YAML: mapping values are not allowed", "mend the file"),
        (
            f"include_package: [a/b]\n{STEP}",
            "experiment.yml:1:1: include_package: expected names of modules",
            "",
        ),
        (
            f"images: {{sklearn: {{docker: x}}}}\nimage: sklern\n{STEP}",
            "experiment.yml:3:9: step 'one': no image is named 'sklern', did you mean 'sklearn'?\n"
            "  known: debian-python, sklearn",
            "declare it under `images:`; looked there and for images/sklern/image.yml, ",
        ),
        (
            "steps: {one: {type: shell, command: x, step_image: 'busybox:1'}}",
            "experiment.yml:1:9: step 'one': no image is named 'busybox:1'",
            "declare it: `images: {NAME: {docker: busybox:1}}`, and use NAME",
        ),
        (
            "steps: {one: {type: shell, command: x, step_image: ../../etc}}",
            "experiment.yml:1:9: step 'one': no image is named '../../etc'",
            "",
        ),
        (
            f"image: a\nimages: {{a: {{conda: environment.yml}}}}\n{STEP}",
            "experiment.yml: image 'a': the file environment.yml does not exist",
            "create it, or mend the path after `conda:`",
        ),
        (
            "steps: {one: {type: shell, command: x, step_image: {dockerfile: y}}}",
            "experiment.yml: image 'one-image': the file y does not exist",
            "create it, or mend the path after `dockerfile:`",
        ),
        (
            "steps: {one: {type: shell, command: x, step_image: {pip: a.in, lok: b}}}",
            "experiment.yml:1:64: unknown key of a 'pip' image 'lok', did you mean 'lock'?",
            "",
        ),
        (
            f"image: a\nimages: {{a: {{pip: missing.in}}}}\n{STEP}",
            "experiment.yml: image 'a': the file missing.in does not exist",
            "create it, or mend the path after `pip:`",
        ),
        (
            f"image: a\nimages: {{a: {{pip: x.in, base: debain-python}}}}\n{STEP}",
            "experiment.yml: base of image 'a': no image is named 'debain-python', did you mean 'debian-py",
            "declare it",
        ),
        (
            f"""
            image: a
            images: {{a: {{pip: x.in, base: b}}, b: {{pip: x.in, base: c}}, c: {{pip: x.in, base: b}}}}
            {STEP}""",
            "experiment.yml: an image is its own base: b → c → b",
            "give one of them another `base:`",
        ),
        (
            f"images: {{a: {{pip: x.in}}, b: {{pip: x.in, python: '3.11'}}}}\n{TWO}",
            "experiment.yml: images 'a' and 'b' differ but have one lock, x.lock",
            "give one of them a `lock:` of its own",
        ),
        (
            f"images: {{a: {{pip: x.in, lock: l}}, b: {{pip: y.in, lock: z/../l}}}}\n{TWO}",
            "experiment.yml: images 'a' and 'b' differ but have one lock, l",
            "",
        ),
    ],
)
def test_mistakes_in_a_configuration(project: Project, text: str, message: str, remedy: str) -> None:
    """Each mistake names file, place, thing and fact, and says the way out."""
    project.write("repo/x.in", "")
    project.write("repo/y.in", "")
    error = project.refused(text)
    assert error.message.startswith(message)
    assert error.remedy.startswith(remedy)


def test_a_step_that_is_wrong_is_named_with_its_file(project: Project) -> None:
    """What the graph refuses comes with the file it stands in."""
    error = project.refused("image: a\nsteps: {one: {tpye: shell}}")
    assert error.message.startswith("experiment.yml: ")
    assert "'one'" in error.message


def test_a_configuration_that_is_not_there(project: Project) -> None:
    """A missing file is a configuration error, not a traceback."""
    with pytest.raises(ConfigurationError, match=r"nowhere\.yml: cannot be read: No such file"):
        load(project.root / "nowhere.yml", project.settings, project.packaged)


def test_the_quickstart_is_a_configuration() -> None:
    """The pipeline users copy has eight steps in three images, and its settings name all modules of steps."""
    settings = read_settings(
        QUICKSTART / "dispatch.yml", QUICKSTART, WorkspaceSetting("local", QUICKSTART / "workspace")
    )
    config = load(QUICKSTART / "experiment.yml", settings, packaged_images())
    assert len(config.graph) == 8
    assert set(config.images.values()) == {"sklearn", "plots", "debian-python"} == set(config.environments)
    modules = {f"digits.{path.stem}" for path in (QUICKSTART / "digits").glob("*.py")}
    assert modules - set(settings.include_package) == {"digits.__init__", "digits.draw"}


def test_the_shell_only_pipeline_is_a_configuration() -> None:
    """Two shell steps, one image that exists already, one reference."""
    settings = read_settings(
        SHELL_ONLY / "dispatch.yml", SHELL_ONLY, WorkspaceSetting("local", SHELL_ONLY / "workspace")
    )
    config = load(SHELL_ONLY / "experiment.yml", settings, packaged_images())
    assert references(config.environments) == {"busybox": "dispatch-test-busybox:1"}
    assert config.graph["sorted"].dependencies == ("words",)


def test_images_that_no_step_uses(tmp_path: Path) -> None:
    """They are there for who asks, with their bases; one that is not well is in nobody's way."""
    (tmp_path / "plots.in").touch()
    text = (
        "images:\n  tools: {docker: 'a:1'}\n  plots: {pip: plots.in, base: tools}\n  gone: {pip: gone.in}\n"
        "  later: {conda: environment.yml}\nsteps: {a: {type: shell, command: x}}\n"
    )
    (tmp_path / "x.yml").write_text(text)
    settings = Settings(WorkspaceSetting("local", tmp_path / "workspace"))
    assert not load(tmp_path / "x.yml", settings, tmp_path).environments
    found = load(tmp_path / "x.yml", settings, tmp_path, unused=True).environments
    assert list(found) == ["tools", "plots"]
