"""Optimizers, made late: what they optimize is known only when the model is there."""

from __future__ import annotations

from dispatch import FromParams, Registrable


class Schedule(FromParams):
    """How fast a rate falls, epoch by epoch."""

    def __init__(self, decay: float = 1.0) -> None:
        self.decay = decay

    def rate(self, first: float, epoch: int) -> float:
        return first * self.decay**epoch


class Optimizer(Registrable):
    """Moves parameters against their gradient, in place."""

    def __init__(self, parameters: list[float], rate: float, schedule: Schedule | None = None) -> None:
        self.parameters = parameters
        self.first_rate = rate
        self.schedule = schedule or Schedule()

    def step(self, gradient: list[float], epoch: int) -> None:
        raise NotImplementedError


@Optimizer.register("plain")
class Plain(Optimizer):
    def step(self, gradient: list[float], epoch: int) -> None:
        rate = self.schedule.rate(self.first_rate, epoch)
        for index, slope in enumerate(gradient):
            self.parameters[index] -= rate * slope


@Optimizer.register("momentum")
class Momentum(Optimizer):
    def __init__(
        self, parameters: list[float], rate: float, keep: float, schedule: Schedule | None = None
    ) -> None:
        super().__init__(parameters, rate, schedule)
        self.keep = keep
        self.speed = [0.0] * len(parameters)

    def step(self, gradient: list[float], epoch: int) -> None:
        rate = self.schedule.rate(self.first_rate, epoch)
        for index, slope in enumerate(gradient):
            self.speed[index] = self.keep * self.speed[index] - rate * slope
            self.parameters[index] += self.speed[index]
