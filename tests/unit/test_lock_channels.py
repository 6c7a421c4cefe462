"""Where channels are: conda's settings, what a package's address means, and what is never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispatch.errors import ConfigurationError
from dispatch.lock.channels import Channels, Place, channel_names

HERE = Path("/repo")

CONDARC = """\
channel_alias: https://conda.example.org/
custom_channels: {team: https://user:pass@private.example.org/t/secret}
custom_multichannels: {both: [https://one.example.org/x, two]}
mirrored_channels: {mirrored: [https://m1.example.org/c, https://m2.example.org/c]}
default_channels: [https://repo.example.org/pkgs/main, https://repo.example.org/pkgs/r]
"""


def channels(tmp_path: Path, **environ: str) -> Channels:
    """The channels of a home with a condarc."""
    (tmp_path / ".condarc").write_text(CONDARC, "utf-8")
    return Channels.of({"HOME": str(tmp_path), **environ})


@pytest.mark.parametrize(
    ("channel", "places"),
    [
        ("conda-forge", ("https://conda.example.org/conda-forge",)),
        ("conda-forge/label/dev", ("https://conda.example.org/conda-forge/label/dev",)),
        ("team", ("https://user:pass@private.example.org/t/secret/team",)),
        ("team/label/x", ("https://user:pass@private.example.org/t/secret/team/label/x",)),
        ("both", ("https://one.example.org/x", "https://conda.example.org/two")),
        ("mirrored", ("https://m1.example.org/c", "https://m2.example.org/c")),
        ("pkgs/main", ("https://repo.example.org/pkgs/main",)),
        ("https://a.example.org/c/", ("https://a.example.org/c",)),
        ("./mine", ("file:///repo/mine",)),
        ("/srv/my channel", ("file:///srv/my%20channel",)),
    ],
)
def test_where_a_channel_is(tmp_path: Path, channel: str, places: tuple[str, ...]) -> None:
    """Names are looked up in condarc as conda does, addresses and paths are themselves."""
    assert channels(tmp_path).addresses(channel, HERE) == places


def test_without_settings_and_by_variable(tmp_path: Path) -> None:
    """Conda's own alias is the default; the variable wins over a condarc; CONDARC is read last."""
    bare = Channels.of({"HOME": str(tmp_path)})
    assert bare.addresses("conda-forge", HERE) == ("https://conda.anaconda.org/conda-forge",)
    assert [bare.addresses(each, HERE)[0] for each in channel_names("defaults")] == [
        "https://repo.anaconda.com/pkgs/main",
        "https://repo.anaconda.com/pkgs/r",
    ]
    other = channels(tmp_path, CONDA_CHANNEL_ALIAS="http://127.0.0.1:1/")
    assert other.addresses("conda-forge", HERE) == ("http://127.0.0.1:1/conda-forge",)
    last = tmp_path / "last.yml"
    last.write_text("channel_alias: https://last.example.org\n", "utf-8")
    assert channels(tmp_path, CONDARC=str(last)).alias == "https://last.example.org"


@pytest.mark.parametrize("text", ["- a\n", "custom_channels: [a]\n", "channel_alias: [\n"])
def test_a_broken_condarc(tmp_path: Path, text: str) -> None:
    """It is named, and not passed over."""
    (tmp_path / ".condarc").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"\.condarc"):
        Channels.of({"HOME": str(tmp_path)})


def test_what_an_address_means(tmp_path: Path) -> None:
    """A package's address is taken apart in terms of the declared channels, credentials or not."""
    known = channels(tmp_path)
    declared = ("conda-forge", "team", "defaults", "./mine")
    cases = {
        "https://conda.example.org/conda-forge/linux-64/a-1-0.conda": ("conda-forge", "linux-64"),
        "https://private.example.org/team/noarch/a-1-0.conda": ("team", "noarch"),
        "https://user:pass@private.example.org/t/secret/team/noarch/a-1-0.conda": ("team", "noarch"),
        "https://repo.example.org/pkgs/r/noarch/a-1-0.conda": ("pkgs/r", "noarch"),
        "file:///repo/mine/linux-64/a-1-0.conda": ("./mine", "linux-64"),
    }
    for address, (channel, subdir) in cases.items():
        assert known.place(address, declared, HERE) == Place(channel, subdir, "a-1-0.conda")
    elsewhere = "https://unknown.example.org/mirror/conda-forge/noarch/a-1-0.conda"
    assert known.place(elsewhere, declared, HERE) == Place("conda-forge", "noarch", "a-1-0.conda")
    for foreign in (
        "conda-forge-x/noarch/a-1-0.conda",
        "other/noarch/a-1-0.conda",
        "conda-forge/noarch/a.sh",
    ):
        assert known.place(f"https://conda.example.org/{foreign}", declared, HERE) is None


def test_what_is_never_shown(tmp_path: Path) -> None:
    """Hosts, users, passwords and tokens of this machine are not in messages; declared addresses are."""
    known = channels(tmp_path)
    said = (
        "at https://user:pass@private.example.org/t/secret/team/noarch/x.conda and "
        "https://conda.example.org/c, then conda.example.org failed; https://open.example.org/c/x is gone"
    )
    shown = known.redact(said, ("team", "https://open.example.org/c"), HERE)
    assert shown == (
        "at team/noarch/x.conda and <channel> then <channel> failed; https://open.example.org/c/x is gone"
    )
    for secret in ("user", "pass", "private.example", "conda.example", "secret"):
        assert secret not in shown
