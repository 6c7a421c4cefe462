"""All routes that are answered, from the modules that answer them."""

from __future__ import annotations

from dispatch.beakerd.rest import datasets, local, secrets, uploads
from dispatch.beakerd.rest.app import Route

ROUTES: list[Route] = [*local.ROUTES, *datasets.ROUTES, *uploads.ROUTES, *secrets.ROUTES]
