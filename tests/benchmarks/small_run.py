"""A result of three workloads, a peer and growth, as pytest-benchmark and the suite write it."""

import json

from benchmarks.meter import Weight
from benchmarks.report import Headline, Report, Row, judged


def report(name, *, of_floor=(0.5, 0.55, 0.6), median_us=(3.0, 4.0, 5.0)):
    made = Report(name, ".", "fsync", 1000, 780_000, rows=[Row("floor", [2.0, 3.0], "µs")])
    made.headline = Headline(
        "append | get", list(median_us), [1000.0, 2000.0], "encode & write", list(of_floor), Weight(64, 40, 2.25)
    )
    return made


def growth(records, rate):
    made = report(f"growth[{records} records]")
    made.point = {"over": "records", "records": records, "agents": 100, "append, records/s": rate, "open, ms": 3.0}
    return made


def peers():
    told = report("peers_get").as_dict()
    told["headline"] = None
    common = {"durability_words": "", "durability": "does not matter", "finding": "", "bytes_per_record": None}
    told |= {
        "question": "get",
        "better": "faster",
        "peers": [
            common | {"peer": "memstore", "version": "1", "records_per_second": 5e4, "us_median": 20.0, "us_p99": 30.0,
                      "ratio": 1.0, "missing": None},
            common | {"peer": "lmdb", "version": "3", "records_per_second": 1e5, "us_median": 10.0, "us_p99": 15.0,
                      "ratio": 0.5, "missing": None, "durability_words": "synced", "finding": "reads see all"},
            common | {"peer": "chroma", "version": "", "records_per_second": None, "us_median": None, "us_p99": None,
                      "ratio": None, "missing": "chromadb is not installed"},
        ],
    }  # fmt: skip
    return told


def run(*reports, size="bench", machine_cpus=2):
    """The JSON of a run."""
    cached = report("get_cached")
    cached.ratios = [judged("get_cached", "median", [4.0])]
    told = [
        each.as_dict()
        for each in reports or (report("fill_batch"), cached, growth(10_000, 100.0), growth(100_000, 50.0))
    ]
    return {
        "datetime": "2025-01-15T14:30:00.123456+00:00",
        "commit_info": {"id": "0123456789abcdef"},
        "machine_info": {
            "cpus": machine_cpus, "processor": "a processor", "memory_gib": 8.0, "kernel": "Linux 6",
            "file_system": "ext4",
            "python": "3.11.7", "implementation": "cpython", "fdatasync_us": 40.0, "create_us": 12.5,
            "versions": {"orjson": "3.10"},
        },
        "memstore": {"size": size, "rounds": 3, "load": [0.1, 1.4], "took_s": 570},
        "benchmarks": [{"extra_info": each} for each in (*told, *(() if reports else (peers(),)))],
    }  # fmt: skip


def write_run(path, *reports, **options):
    path.write_text(json.dumps(run(*reports, **options)))
    return path
