"""``python -m benchmarks.workers {fill,floor,open,read,search,tier,mix} ...``."""

from __future__ import annotations

import argparse
import importlib
import json

from benchmarks.workloads import SEED


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    for name, run in (("fill", "filling.fill"), ("floor", "filling.fill_floor")):
        filling = commands.add_parser(name)
        filling.add_argument("root")
        filling.add_argument("--durability", default="fsync")
        filling.add_argument("--records", type=int, required=True)
        filling.add_argument("--batch", type=int, default=1)
        filling.add_argument("--seed", type=int, default=SEED)
        filling.add_argument("--agents", type=int, required=True)
        filling.set_defaults(run=run)
    opening = commands.add_parser("open")
    opening.add_argument("root")
    opening.add_argument("--agent", required=True)
    opening.add_argument("--lookups", type=int, default=0)
    opening.set_defaults(run="reading.open_and_read")
    searching = commands.add_parser("search")
    searching.add_argument("root")
    searching.add_argument("--add-up", action="store_true")
    searching.set_defaults(run="reading.search")
    tiering = commands.add_parser("tier")
    tiering.add_argument("root")
    tiering.add_argument("--tier", choices=["warm", "cold"], default=None)
    tiering.set_defaults(run="tiering.tier")
    mixing = commands.add_parser("mix")
    mixing.add_argument("root")
    mixing.add_argument("--operations", type=int, required=True)
    mixing.add_argument("--agent", required=True)
    mixing.add_argument("--reads-only", action="store_true")
    mixing.set_defaults(run="mixing.mix")
    options = parser.parse_args()
    # Only what is run is imported: the memory of a worker is measured.
    module, function = options.run.split(".")
    run = getattr(importlib.import_module(f"benchmarks.workers.{module}"), function)
    print(json.dumps(run(options)))


main()
