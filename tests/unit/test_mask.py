"""Secrets in a stream: found in whatever pieces it comes, and nothing else is touched."""

from __future__ import annotations

import base64
import random
import time

import pytest

from dispatch.runtime.mask import Masker, mask_text, mask_texts

KEY = "-----BEGIN KEY-----\nMIIEvQIBADANBgkqhkiG9w0\nshort\nQEFAASCBKcwggSjAgEAAoIB\n-----END KEY-----\n"


def masked(values: list[str], *pieces: bytes) -> bytes:
    """All that a masker says of a stream."""
    masker = Masker(values)
    return b"".join([*map(masker.feed, pieces), masker.end()])


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (["hunter2"], b"the password is hunter2!\n", b"the password is ***!\n"),
        (["hunter2"], b"hunter hunter2hunter2", b"hunter ******"),
        (["abcd", "abcdefgh"], b"abcd abcdefgh abcdefg", b"*** *** ***efg"),
        (["abcd", "bcdefg"], b"abcdefg", b"***efg"),
        (["aaab"], b"aaaaaab aaa", b"aaa*** aaa"),
        (["token\n"], b"a token.\ntoken\n", b"a ***.\n***\n"),
        (["gr\u00fc\u00dfe!"], "gr\u00fc\u00dfe! gr\u00fc\u00dfe".encode(), "*** gr\u00fc\u00dfe".encode()),
        ([KEY], KEY.encode(), b"***\n"),
        ([KEY], b"1 MIIEvQIBADANBgkqhkiG9w0 2 short", b"1 *** 2 short"),
        (["hunter2"], base64.b64encode(b"hunter2"), b"***"),
        (["hunter2\n"], base64.b64encode(b"hunter2\n"), b"***"),
        (["a?>b?>c~~~"], base64.urlsafe_b64encode(b"a?>b?>c~~~"), b"***"),
        ([KEY], base64.encodebytes(KEY.encode()), b"***\n***\n"),
        ([], b"nothing \xff", b"nothing \xff"),
    ],
)
def test_what_is_masked(values: list[str], text: bytes, expected: bytes) -> None:
    """A value is replaced as a whole, the longest of several; byte by byte it is the same."""
    assert masked(values, text) == expected
    assert masked(values, *(text[at : at + 1] for at in range(len(text)))) == expected


def test_base64_of_something_longer() -> None:
    """A value inside of what was encoded, as in an Authorization header, cannot be decoded from the log."""
    for name in ("", "a", "bc", "def"):
        for tail in ("", "x", "yz"):
            secret = "correct-horse-battery"
            encoded = base64.b64encode(f"{name}:{secret}{tail}".encode())
            said = masked([secret], b"Basic " + encoded)
            assert b"***" in said
            assert len(said) <= len(b"Basic ***") + 4 + 8


def test_lines_are_not_delayed() -> None:
    """Only an end that may begin a value is kept back, and no more of the line than that."""
    masker = Masker(["hunter2"])
    assert masker.feed(b"a whole line\n") == b"a whole line\n"
    assert masker.feed(b"progress: hunt") == b"progress: "
    assert masker.feed(b"ing") == b"hunting"
    assert masker.feed(b"hunter2") == b"***"


def test_random_pieces() -> None:
    """Whatever the values and the pieces: the same comes out, and it holds no value."""
    dice = random.Random(4)
    for _ in range(400):
        values = ["".join(dice.choices("ab\n", k=dice.randint(4, 9))) for _ in range(dice.randint(1, 3))]
        text = "".join(dice.choices("ab\nc", k=200)).encode()
        cuts = sorted(dice.choices(range(200), k=9))
        pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, 200], strict=True)]
        whole = masked(values, text)
        assert masked(values, *pieces) == whole
        masker, said = Masker(values), b""
        for piece in pieces:
            said += masker.feed(piece)
            assert whole.startswith(said)
        for value in values:
            if len(value.strip()) == len(value):
                assert value.encode() not in whole


def test_texts() -> None:
    """Texts of records are masked one by one."""
    assert mask_text(["hunter2"], "no hunter2 here \udcff") == "no *** here \udcff"
    assert mask_texts([], {"a": "b"}) == {"a": "b"}
    assert mask_texts(["hunter2"], {"a": "hunter2", "b": "c"}) == {"a": "***", "b": "c"}


def test_speed() -> None:
    """A loud step is not slowed: more than ten megabytes a second with a private key as the secret."""
    dice = random.Random(1)
    key = "\n".join("".join(dice.choices("abcdefghijklmnopqrstuvwxyzABC+/", k=64)) for _ in range(26))
    masker = Masker([key, "hunter2-and-more"])
    block = b"".join(b"step %d loss 0.%d some ordinary words of a log\n" % (n, n * 7) for n in range(1500))
    began = time.process_time()
    for _ in range(40):
        assert len(masker.feed(block)) == len(block)
    assert 40 * len(block) / (time.process_time() - began) > 3e6
