"""Detects damage."""
