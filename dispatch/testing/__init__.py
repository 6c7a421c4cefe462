"""Fakes of our protocols and the contract classes that hold every implementation to them.

Ships with the package so that an engine or a workspace of somebody else's can be tested against the same
contracts. Nothing outside tests imports it.
"""
