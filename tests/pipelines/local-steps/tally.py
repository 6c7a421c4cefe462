"""The steps of the pipeline: words of a text, and how often each occurs."""

from collections import Counter

from dispatch import step


@step()
def words(text: str) -> list[str]:
    return text.split()


@step()
def count(words: list[str]) -> dict[str, int]:
    return dict(Counter(words))
