"""Sizes and durations: every spelling that is taken, and those that are not."""

from __future__ import annotations

import pytest

from dispatch.errors import ConfigurationError
from dispatch.units import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (1, 1),
        (4096, 4096),
        ("512", 512),
        ("512B", 512),
        ("1KiB", 1024),
        ("1 kib", 1024),
        ("16GiB", 16 * 1024**3),
        ("1.5 GiB", 3 * 1024**3 // 2),
        ("2TB", 2 * 1000**4),
        (" 10 MB ", 10_000_000),
        ("0.001kB", 1),
        ("9007199254740993B", None),
        ("999999999999999TiB", 999_999_999_999_999 * 1024**4),
    ],
)
def test_sizes_are_read_exactly(text: object, size: int | None) -> None:
    """A size is a whole number of bytes, without rounding; more digits than any disk has are no size."""
    if size is None:
        with pytest.raises(ConfigurationError):
            parse_size(text)
    else:
        assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    ["16G", "16g", "", "GiB", "-1", "0", 0, -5, True, 1.5, None, "1e3", "0.5B", "1GiB2", "1 Gi B", "٣"],
)
def test_ambiguous_or_malformed_sizes_are_refused(text: object) -> None:
    """A size that means two things, or nothing, is refused with the value's name and a remedy."""
    with pytest.raises(ConfigurationError, match=r"^memory: ") as caught:
        parse_size(text, "memory")
    assert "GiB" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (1, 1.0),
        (0.5, 0.5),
        ("90", 90.0),
        ("90s", 90.0),
        ("1.5", 1.5),
        ("15m", 900.0),
        ("1h30m", 5400.0),
        ("2d", 172800.0),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    """A duration is a number of seconds, or units from the largest to the smallest."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "0", 0, -1, True, "30m1h", "1w", "h", None, float("nan"), float("inf"), "1 h"]
)
def test_malformed_durations_are_refused(text: object) -> None:
    """A duration that is not above zero, or not written as one, is refused."""
    with pytest.raises(ConfigurationError, match=r"^step_timeout: "):
        parse_duration(text, "step_timeout")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1024**2 - 1, "1 MiB"),
        (192 * 1024**2, "192 MiB"),
        (5 * 1024**5, "5120 TiB"),
    ],
)
def test_sizes_are_shown_short(size: int, text: str) -> None:
    """A size is shown in the largest unit in which it is at least one, with three digits."""
    assert format_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"),
        (0.012, "12 ms"),
        (0.9999, "1.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 m 00 s"),
        (65, "1 m 05 s"),
        (3599.9, "1 h 00 m"),
        (7800, "2 h 10 m"),
        (90000, "1 d 01 h"),
    ],
)
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    """A duration is shown in two units at most, and never as sixty of the smaller one."""
    assert format_duration(seconds) == text
