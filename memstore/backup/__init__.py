"""Backups of a store: points that are plain stores, the lanes between them, and the way back."""
