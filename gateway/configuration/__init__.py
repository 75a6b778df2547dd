"""Configuration as a file: what `manage.py apply` reads and makes true, and what `manage.py export` writes.

`source` reads YAML with its line numbers, `parsing` turns it into the typed `document`, `apply` makes the database
match, with `pruning` for what the file no longer names.
"""
