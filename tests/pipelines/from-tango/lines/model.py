"""Models, by the names that a configuration gives them."""

from __future__ import annotations

from dispatch import Registrable


class Model(Registrable):
    """Parameters, and what they make of an x."""

    default_implementation = "linear"

    def __init__(self, start: list[float]) -> None:
        self.parameters = list(start)

    def predict(self, x: float) -> float:
        raise NotImplementedError

    def gradient(self, x: float, error: float) -> list[float]:
        raise NotImplementedError


@Model.register("linear")
class Linear(Model):
    def predict(self, x: float) -> float:
        return self.parameters[0] * x + self.parameters[1]

    def gradient(self, x: float, error: float) -> list[float]:
        return [error * x, error]


@Model.register("proportional")
class Proportional(Model):
    def predict(self, x: float) -> float:
        return self.parameters[0] * x

    def gradient(self, x: float, error: float) -> list[float]:
        return [error * x]
