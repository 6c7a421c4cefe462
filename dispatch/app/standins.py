"""Local stand-ins for the images that a local Beaker offers, where no registry gives the real ones.

Owns which there are, what lies on top of their locked environments (the command ``conda``, the base's
place, the note that says what they are) and their making. They are as every generated image: made once, found
again by digest, the same everywhere. Refuses to give them the names they stand in for: that is the server's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dispatch import assets
from dispatch.app.wish import Wish
from dispatch.environment import LocalId
from dispatch.errors import DispatchError, ImageError
from dispatch.image.config import is_image_of
from dispatch.image.plan import Generated
from dispatch.image.spec import REPOSITORY, ImageSpec
from dispatch.reporting import Reporter
from dispatch.settings import Surroundings

if TYPE_CHECKING:
    from dispatch._docker import Door
    from dispatch.app.images import Images
    from dispatch.image.overlay import Overlay
    from dispatch.image.plan import BuildPlan
    from dispatch.image.tar import Entry

LABEL = "dispatch.stand-in"
CONDA = "/opt/conda"
_VENV = "/opt/venv"
_COMMAND = Path("stand-in-conda", "conda.py")
_PATH = f"{CONDA}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class StandIn:
    """An image that stands in for ``names``; ``image`` is the folder of ``images/`` that it is made from."""

    names: tuple[str, ...]
    image: str
    python: str
    lacks: str

    @property
    def note(self) -> str:
        """What it is, for whoever looks into it."""
        return (
            f"This image stands in for {' and '.join(self.names)} on a local Beaker. It was made by dispatch:"
            f" Debian, Python {self.python}, and a command `conda` over py-rattler. It lacks {self.lacks}."
        )


STAND_INS = (
    StandIn(("ai2/conda", "beaker-py/gantry"), "stand-in-conda", "3.11", "conda itself"),
    StandIn(
        ("ghcr.io/allenai/pytorch:1.12.0-cuda11.3-python3.9",),
        "stand-in-pytorch",
        "3.9",
        "conda itself, torch and CUDA",
    ),
)


class StandIns:
    """The stand-ins on one engine. ``folder`` holds their declarations and locks: what ships, by default."""

    def __init__(
        self, surroundings: Surroundings, door: Callable[[], Door], say: Reporter, folder: Path | None = None
    ) -> None:
        self._surroundings = surroundings
        self._door = door
        self._say = say
        self._folder = folder

    def present(self) -> dict[str, LocalId]:
        """Return those that the engine holds, by the name each stands in for; nothing is made."""
        plan = self._plan()
        found = {}
        for stand_in in STAND_INS:
            spec, _ = self._recipe(stand_in, plan)
            # By name: what users make on top of one has its labels, too.
            record = self._door().inspect_image(f"{REPOSITORY}:{_tag(stand_in, spec)}")
            if record is not None and is_image_of(record, spec, None):
                found.update(dict.fromkeys(stand_in.names, LocalId(record.id)))
        return found

    def build(self, *, renew_base: bool = False) -> dict[str, LocalId]:
        """Make those that the engine lacks; return all, by the name each stands in for.

        The first time needs the Debian archive and the package index; once made, neither. With ``renew_base``
        locks that the archive has moved on from are renewed. Raises ImageError, naming the stand-ins that
        cannot be had and why: the others are there, whole.
        """
        made = self.present()
        missing = [each for each in STAND_INS if each.names[0] not in made]
        if not missing:
            return made
        images, wish = self._images(), Wish(renew_base=renew_base)
        report = images.build(images.plan([each.image for each in missing]), wish)
        plan = self._plan()
        for stand_in in missing:
            below = report.images.get(stand_in.image)
            if isinstance(below, LocalId):
                made.update(dict.fromkeys(stand_in.names, self._finish(stand_in, below, plan)))
        failures = {each: report.failures[each.image] for each in missing if each.image in report.failures}
        if failures:
            raise _unavailable(failures)
        return made

    def _plan(self) -> BuildPlan:
        """Read all that they are made from, as it is now."""
        return self._images().plan([each.image for each in STAND_INS])

    def _finish(self, stand_in: StandIn, below: LocalId, plan: BuildPlan) -> LocalId:
        """Put our files on top of the environment."""
        spec, overlay = self._recipe(stand_in, plan)
        door = self._door()
        base = door.inspect_image(below.id)
        if base is None:
            raise ImageError(f"image {stand_in.image!r}: the engine no longer holds it", "repeat the command")
        record = overlay.provide(spec, base, door, self._surroundings.cache)
        door.tag(record.id, REPOSITORY, _tag(stand_in, spec))
        return LocalId(record.id)

    def _images(self) -> Images:
        from dispatch.app.images import Doors, Images
        from dispatch.config.catalogue import Catalogue, collect

        catalogue = Catalogue((), (self._place,))
        environments = collect(catalogue, [(each.image, "the local Beaker") for each in STAND_INS])
        return Images(environments, self._surroundings, Doors(self._door), "", self._say)

    @property
    def _place(self) -> Path:
        return self._folder or assets.images()

    def _recipe(self, stand_in: StandIn, plan: BuildPlan) -> tuple[ImageSpec, Overlay]:
        """Return a stand-in's specification: known before anything is made, since the base's is."""
        from dispatch.image.overlay import Overlay

        below = plan.of(stand_in.image).source
        assert isinstance(below, Generated)
        overlay = Overlay("stand-in", _entries(stand_in, self._place / _COMMAND))
        spec = ImageSpec(
            platform=below.spec.platform,
            base=f"spec:{below.spec.digest}",
            lock=below.spec.lock,
            layers=(overlay.recipe,),
            env=(("PATH", _PATH),),
            labels=((LABEL, " ".join(stand_in.names)),),
        )
        return spec, overlay


def _tag(stand_in: StandIn, spec: ImageSpec) -> str:
    return spec.tag(f"{stand_in.image}-ready")


def _entries(stand_in: StandIn, command: Path) -> Iterator[Entry]:
    """What lies on top: conda's places. The base environment is the locked one, under another name."""
    from dispatch.image.tar import Entry

    root = CONDA[1:]
    yield Entry.file(f"{_VENV[1:]}/bin/conda", command.read_bytes(), 0o755)
    for name in ("bin", "lib", "pyvenv.cfg"):
        yield Entry.symlink(f"{root}/{name}", f"{_VENV}/{name}")
    yield Entry.directory(f"{root}/envs")
    yield Entry.directory(f"{root}/pkgs")
    yield Entry.file(f"{root}/conda-meta/history", b"")
    yield Entry.file(f"{root}/conda-meta/stand-in", f"python {stand_in.python}\n".encode())
    yield Entry.symlink(f"{root}/condabin/conda", "../bin/conda")
    function = f'eval "$({CONDA}/bin/conda shell.posix function)"\n'
    yield Entry.file(f"{root}/etc/profile.d/conda.sh", function.encode())
    yield Entry.file("etc/motd", f"{stand_in.note}\n".encode())


def _unavailable(failures: Mapping[StandIn, DispatchError]) -> ImageError:
    """One error for all that cannot be had."""
    first = next(iter(failures.values()))
    names = ", ".join(name for stand_in in failures for name in stand_in.names)
    reasons = dict.fromkeys(error.message for error in failures.values())
    return ImageError(f"stand-ins for {names}: they cannot be made: {'; '.join(reasons)}", first.remedy)
