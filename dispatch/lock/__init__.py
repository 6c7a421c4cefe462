"""Locks: what an environment asks for → the exact packages it is made of, with hashes, in a committed file.

Reading a lock needs nothing but files; renewing one asks a package index or a distribution's archive. The
modules are imported one by one: reading is on the path of every command, renewing and its tools are not.
"""
