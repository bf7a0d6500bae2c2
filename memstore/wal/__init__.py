"""Lanes: one process's write-ahead log each."""
