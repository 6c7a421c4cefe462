"""The HTTP side: REST for what is not gRPC, the storage of datasets, and the registry of images.

Owns paths, bodies and headers. A module's ``ROUTES`` lists what it answers; ``app`` finds the route, knows
the caller, bounds the body and turns refusals into JSON.
"""
