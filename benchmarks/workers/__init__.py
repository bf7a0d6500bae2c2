"""What a benchmark runs in processes of its own."""

from benchmarks.workers.process import Worker, fill_command, run_together

__all__ = ["Worker", "fill_command", "run_together"]
