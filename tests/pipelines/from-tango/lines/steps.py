"""The steps: points, their split, a fit, its score, the best of all, and a report."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from dispatch import Format, JsonFormat, Lazy, Step, step
from lines.model import Model
from lines.optimizer import Optimizer

Point = list[float]


@dataclass
class Training:
    """How long to train, and when to stop early."""

    epochs: int
    tolerance: float = 0.0


@step("noisy_line", format=JsonFormat(), version="001")
def noisy_line(count: int, slope: float, intercept: float, noise: float = 0.1) -> list[Point]:
    dice = random.Random(0)
    xs = [index / count for index in range(count)]
    return [[x, slope * x + intercept + dice.gauss(0, noise)] for x in xs]


@Step.register("lines::split")
class Split(Step):
    FORMAT: Format = JsonFormat()
    SKIP_DEFAULT_ARGUMENTS = {"shuffle": False}

    def run(self, points: list[Point], every: int = 4, shuffle: bool = False) -> dict[str, list[Point]]:
        if shuffle:
            random.Random(0).shuffle(points)
        train = [point for index, point in enumerate(points) if index % every]
        return {"train": train, "test": points[::every]}


@Step.register("lines::fit")
class Fit(Step):
    VERSION = "002"
    SKIP_ID_ARGUMENTS = {"progress"}

    def run(
        self,
        train: list[Point],
        model: Model,
        optimizer: Lazy[Optimizer],
        training: Training,
        progress: bool = True,
    ) -> Model:
        moving = optimizer.construct(parameters=model.parameters)
        for epoch in range(training.epochs):
            before = list(model.parameters)
            for x, y in train:
                moving.step(model.gradient(x, model.predict(x) - y), epoch)
            if progress:
                self.logger.info("epoch %d: %s", epoch, model.parameters)
            moves = [abs(new - old) for new, old in zip(model.parameters, before, strict=True)]
            if max(moves) < training.tolerance:
                break
        (self.work_dir / "epochs.txt").write_text(str(epoch))
        return model


class Score(Step):
    FORMAT: Format = JsonFormat()

    @classmethod
    def massage_kwargs(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        # Two names of one thing have one identity.
        if kwargs["loss"] == "l2":
            kwargs["loss"] = "square"
        return kwargs

    def run(self, model: Model, test: list[Point], loss: str = "square") -> float:
        errors = [model.predict(x) - y for x, y in test]
        total = sum(abs(e) for e in errors) if loss == "absolute" else sum(e * e for e in errors)
        return round(total / len(errors), 9)


@step("best", format=JsonFormat())
def best(scores: dict[str, float]) -> dict[str, Any]:
    name = min(scores, key=lambda each: (scores[each], each))
    return {"name": name, "score": scores[name], "all": scores}


@step("print_report", cacheable=False, bind=True)
def print_report(self: Step, best: dict[str, Any]) -> str:
    self.logger.info("of %d", len(best["all"]))
    line = f"best: {best['name']} with {best['score']:.6f}"
    print(line)  # noqa: T201
    return line
