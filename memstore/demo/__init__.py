"""Made-up agent memories, the processes that write them, and the check that all of them are there."""
