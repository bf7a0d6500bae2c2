"""MANIFESTs: each agent's index and history."""
