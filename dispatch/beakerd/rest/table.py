"""All routes that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rest import experiments, local
from dispatch.beakerd.rest.app import Route

ROUTES: list[Route] = [*experiments.ROUTES, *local.ROUTES]
