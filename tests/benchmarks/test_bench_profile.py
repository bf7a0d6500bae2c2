"""A workload is profiled under its own name only."""

from benchmarks.profile import command


def test_the_profiler_runs_one_workload_and_writes_a_named_file():
    run = command("fill_batch", "profile-fill_batch.svg", size="smoke", rounds=2)
    assert run[0].endswith("py-spy")
    assert "--output=profile-fill_batch.svg" in run
    assert run[run.index("--") + 1 :][3:] == [
        "benchmarks",
        "-k",
        "bench_fill_batch",
        "--size",
        "smoke",
        "--rounds=2",
        "--quiet",
    ]


def test_every_thread_and_worker_is_seen():
    assert "--subprocesses" in command("fill_procs", "target.svg", size="bench", rounds=1)
