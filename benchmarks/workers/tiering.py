"""Packing old day files."""

from __future__ import annotations

import argparse
from time import monotonic
from typing import Any

from benchmarks.meter import peak_mib
from benchmarks.tiers import tier_all, tier_old
from benchmarks.workers.start import wait_for_start


def tier(options: argparse.Namespace) -> dict[str, Any]:
    """All of them into a tier; or, where none is named, what is old enough today."""
    wait_for_start()
    started = monotonic()
    report = tier_all(options.root, options.tier)[1] if options.tier else tier_old(options.root)
    return {"started": started, "ended": monotonic(), "actions": len(report.done), "peak_mib": peak_mib()}
