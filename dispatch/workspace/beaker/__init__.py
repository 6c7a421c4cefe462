"""A workspace on Beaker: datasets for the attempts at steps, for runs, and for who is at work.

Owns what the datasets are called and what is in them. It does not travel into containers: there the runtime
is enough. Refuses to run anything.
"""
