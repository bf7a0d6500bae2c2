"""What can be saved of a store that a check has found damaged: planned, set aside, written anew. Nothing is deleted."""
