"""What the server remembers: one SQLite file, its tables, and the changes that must happen together.

Owns every SQL statement. Refuses to know of protocols, containers and threads' purposes: functions take an
open transaction and values, and return values.
"""
