"""Hot files: an agent's records of one UTC day as NDJSON."""
