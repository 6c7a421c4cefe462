"""Two steps that need nothing but Python."""

from __future__ import annotations

from dispatch import Step, step


@step("split")
def split(text: str) -> list:
    return text.split()


@Step.register("count")
class Count(Step):
    VERSION = "001"

    def run(self, words: list) -> dict:
        self.logger.info("counting %d words", len(words))
        return {word: words.count(word) for word in sorted(set(words))}
