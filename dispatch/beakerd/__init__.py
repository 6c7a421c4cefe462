"""A Beaker on one machine: the API that beaker-py speaks, kept in SQLite, its jobs containers of the local
engine.

Owns the server side: accounts, datasets, secrets, images, experiments, their scheduling and their running. It
stands apart: of the house it imports errors, units, the port for progress and the one door to the engine, and
nobody in the house imports it; ``dispatch beaker up`` starts it as a process. So the client side is proved
against what the public client speaks, not against ourselves.

What of the real Beaker is only assumed is a switch in :class:`dispatch.beakerd.config.Assumptions`.
"""
