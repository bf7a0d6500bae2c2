"""What operators ask of a store as a whole: is it as it was written, and if not, what can be saved of it."""
