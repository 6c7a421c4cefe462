"""The gRPC side: one module for each kind of thing, and the table of their methods.

Owns messages: rows become the API's messages here and nowhere else. A module's ``METHODS`` maps names of the
API's methods to functions ``(backend, principal, request) -> response``; ``STREAMS`` to functions that yield.
What is in no table is UNIMPLEMENTED.
"""
