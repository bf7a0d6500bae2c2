"""Records out: as lines, as CSV, as a tree of files."""
