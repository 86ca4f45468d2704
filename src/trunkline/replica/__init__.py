"""The host's read copy of the log, in SQLite: thrown away and rebuilt at will."""
