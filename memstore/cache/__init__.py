"""Bounded in bytes."""
