"""The file layouts of the platform: from a source object to a record's fields, and from a stored record back. Pure."""
