"""The bytes, pure: what docs/FORMAT.md describes."""
