"""Pending batches to durable commits, commits to day files, both to one view."""
