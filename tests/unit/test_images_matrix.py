"""Folders of images as configurations, and declarations that stand for several images."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.config import Config, load, load_folder
from dispatch.environment import CondaImage, DockerfileImage, PipImage, TargetProfile
from dispatch.errors import ConfigurationError
from dispatch.settings import Settings, WorkspaceSetting

DEBIAN = "debian: {suites: [s], packages: [p1], architecture: amd64, epoch: 1}\n"


class Repository:
    """A repository with a folder of images, and no images beside those and ``debian-python``."""

    def __init__(self, root: Path) -> None:
        self.root = root / "repo"
        self.packaged = root / "packaged"
        self.settings = Settings(workspace=WorkspaceSetting("local", self.root / "workspace"))
        self.write(".git", "")
        self.write("../packaged/debian-python/image.yml", DEBIAN)

    def write(self, name: str, text: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def image(self, name: str, text: str) -> Path:
        for file in ("requirements.in", "Dockerfile"):
            self.write(f"images/{name}/{file}", "")
        self.write(f"images/{name}/environment.yml", "dependencies: [python, {pip: [flask]}]")
        return self.write(f"images/{name}/image.yml", text).parent

    def folder(self, path: Path, overrides: str | None = None) -> Config:
        return load_folder(path, self.settings, self.packaged, overrides=overrides)

    def load(self, text: str) -> Config:
        return load(self.write("experiment.yml", text), self.settings, self.packaged)


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    return Repository(tmp_path)


MATRIX = """
matrix: {python: ["3.11", "3.12"], cuda: ["12.1", "12.4"]}
pip: requirements.in
base: "python:{python}-slim"
env: {CUDA: "{cuda}", SHELL: "${cuda}"}
"""


def test_a_folder_is_a_configuration_of_its_image(repository: Repository) -> None:
    """The folder's name is the image's, and the file in it may be named as well."""
    folder = repository.image("tools", "pip: requirements.in")
    for path in (folder, folder / "image.yml"):
        config = repository.folder(path)
        assert config.names == ("tools",)
        assert list(config.environments) == ["debian-python", "tools"]
        assert config.lockable() == ["tools"]
        assert not config.graph


def test_a_folder_takes_what_is_laid_over_it(repository: Repository) -> None:
    """``-o`` merges over the declaration as over a configuration."""
    config = repository.folder(repository.image("tools", "pip: requirements.in"), '{"base": "u:1"}')
    assert list(config.environments) == ["u:1", "tools"]


def test_a_folder_of_a_base_has_the_bases_lock(repository: Repository) -> None:
    """A base that is named itself is locked; one that others stand on keeps its lock."""
    assert repository.folder(repository.image("mine", DEBIAN)).lockable() == ["mine"]
    text = "pip: requirements.in\nbase: mine\napt: [git]\nrun: [x]"
    config = repository.folder(repository.image("tools", text))
    assert config.lockable() == ["tools+apt", "tools+packages"]
    assert config.lockable(["mine"]) == ["mine"]
    with pytest.raises(ConfigurationError, match=r"no image 'mina', did you mean 'mine'"):
        config.lockable(["mina"])


def test_a_matrix_is_an_image_for_each_combination(repository: Repository) -> None:
    """Each has a name and a lock of its own; what the declaration leaves open is the combination's."""
    folder = repository.image("gpu", MATRIX)
    config = repository.folder(folder)
    assert config.names == (
        "gpu-py3.11-cu12.1",
        "gpu-py3.11-cu12.4",
        "gpu-py3.12-cu12.1",
        "gpu-py3.12-cu12.4",
    )
    declaration = config.environments["gpu-py3.12-cu12.1"].declaration
    assert isinstance(declaration, PipImage)
    assert declaration.base == "python:3.12-slim"
    assert declaration.python == "3.12"
    assert declaration.more.target == TargetProfile(cuda="12.1")
    assert declaration.env == (("CUDA", "12.1"), ("SHELL", "${cuda}"))
    assert declaration.lock == folder / "image.py3.12-cu12.1.lock"


def test_a_matrix_of_conda_has_two_locks_for_each(repository: Repository) -> None:
    """The conda packages and the pip section of each combination have locks that are nobody else's."""
    text = 'matrix: {cuda: ["12.1", "12.4"]}\nconda: environment.yml\ntarget: {glibc: "2.28"}'
    folder = repository.image("sci", text)
    environments = repository.folder(folder).environments
    conda, pip = environments["sci-cu12.4+conda"].declaration, environments["sci-cu12.4"].declaration
    assert isinstance(conda, CondaImage)
    assert isinstance(pip, PipImage)
    assert conda.more.target == TargetProfile("2.28", "12.4")
    assert (conda.lock.name, pip.lock.name) == ("image.cu12.4.lock", "image.cu12.4.pip.lock")


def test_a_matrix_of_dockerfiles_passes_its_values_on(repository: Repository) -> None:
    """Where a kind has no key for a value it is put where the declaration says."""
    text = 'matrix: {python: ["3.11"]}\ndockerfile: Dockerfile\nargs: {PYTHON: "{python}"}'
    declaration = repository.folder(repository.image("own", text)).environments["own-py3.11"].declaration
    assert isinstance(declaration, DockerfileImage)
    assert declaration.args == (("PYTHON", "3.11"),)


def test_what_a_declaration_says_itself_stays(repository: Repository) -> None:
    """A combination fills gaps only."""
    text = 'matrix: {cuda: ["12.1"]}\npip: requirements.in\ntarget: {cuda: "11.8"}\nlock: "my.{cuda}.lock"'
    folder = repository.image("old", text)
    declaration = repository.folder(folder).environments["old-cu12.1"].declaration
    assert isinstance(declaration, PipImage)
    assert declaration.more.target == TargetProfile(cuda="11.8")
    assert declaration.lock == folder / "my.12.1.lock"


def test_a_step_names_one_image_of_a_matrix(repository: Repository) -> None:
    """The name of a combination is found in the folder; that of the matrix says nothing, and lists them."""
    repository.image("gpu", MATRIX)
    step = "steps: {{one: {{type: shell, command: x, step_image: {}}}}}"
    assert "gpu-py3.12-cu12.4" in repository.load(step.format("gpu-py3.12-cu12.4")).environments
    with pytest.raises(ConfigurationError, match=r"'gpu' stands for several images") as caught:
        repository.load(step.format("gpu"))
    assert caught.value.remedy.startswith("name one of them: gpu-py3.11-cu12.1, gpu-py3.11-cu12.4")
    with pytest.raises(ConfigurationError, match=r"no image is named 'gpu-py3.9'"):
        repository.load(step.format("gpu-py3.9"))


def test_a_configuration_may_hold_a_matrix(repository: Repository) -> None:
    """Under ``images:`` the locks have the image's name, as another may lie beside them."""
    config = (
        repository.load("""
images: {a: {pip: requirements.in, matrix: {python: ["3.11", "3.12"]}, base: "u:1"}}
steps: {one: {type: shell, command: x, step_image: a-py3.12}}
""")
        if repository.write("requirements.in", "")
        else None
    )
    assert config is not None
    declaration = config.environments["a-py3.12"].declaration
    assert isinstance(declaration, PipImage)
    assert declaration.lock.name == "a.py3.12.lock"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{pip: a.in, matrix: }", ":1:13: matrix: expected versions such as"),
        ("{pip: a.in, matrix: {}}", ":1:13: matrix: expected versions such as"),
        ("{pip: a.in, matrix: {python: []}}", ":1:22: matrix.python: expected a list of versions in quotes"),
        (
            "{pip: a.in, matrix: {python: [3.11]}}",
            ":1:31: matrix.python: expected texts in the list, got the",
        ),
        ("{pip: a.in, matrix: {python: ['3.11.1']}}", ":1:22: matrix.python: expected versions in quotes"),
        ("{pip: a.in, matrix: {pyton: ['3.11']}}", ":1:22: unknown key 'pyton', did you mean 'python'?"),
        ("{matrix: {python: ['3.11']}}", ":1:1: image 'it' is of no kind"),
        (
            "{docker: 'u:1', lok: x, matrix: {python: ['3.11']}}",
            ":1:17: unknown key of a 'docker' image 'lok'",
        ),
    ],
)
def test_mistakes_in_a_matrix(repository: Repository, text: str, words: str) -> None:
    """Each mistake is named at its place."""
    path = repository.image("it", text)
    with pytest.raises(ConfigurationError) as caught:
        repository.folder(path)
    assert caught.value.message.startswith(f"{path}/image.yml{words}")


def test_folders_that_are_of_no_image(repository: Repository) -> None:
    """A folder without a declaration says where there are some, and a declaration is no configuration."""
    folder = repository.image("tools", "pip: requirements.in")
    with pytest.raises(ConfigurationError, match=r"holds no image\.yml") as caught:
        repository.folder(folder.parent)
    assert caught.value.remedy == f"name one of: {folder}"
    with pytest.raises(ConfigurationError, match=r"declares an image, and no steps"):
        load(folder / "image.yml", repository.settings, repository.packaged)
    odd = repository.write("images/a b/image.yml", "pip: requirements.in")
    with pytest.raises(ConfigurationError, match="'a b', is no name for an image"):
        repository.folder(odd.parent)
