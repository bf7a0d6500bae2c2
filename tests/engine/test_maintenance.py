"""When lanes are merged in the background."""

from __future__ import annotations

from typing import Any

from support import QUIET, T0_US, make_engine, put

from memstore.clock import ManualClock

SETTINGS: dict[str, Any] = {**QUIET, "merging": {"background": False, "age_s": 60}}
DAY_S = 86_400.0


def test_lanes_are_merged_with_age_also_by_a_clock_that_was_set_back(tmp_path: Any) -> None:
    clock = ManualClock(T0_US)
    writer, other = (make_engine(tmp_path / "store", settings=SETTINGS, clock=clock) for _ in range(2))
    put(writer, "a", "from a year ahead")
    lane = writer._committer.release_lane()
    lane.close()  # as when its process ends
    clock.step(-365 * DAY_S)
    report = other.maintenance.merge_due()
    assert report is not None
    assert report.records == 1
    put(other, "a", "from now")
    other._committer.release_lane().close()
    assert writer.maintenance.merge_due() is None
    clock.advance(61)
    assert writer.maintenance.merge_due().records == 1
    writer.close()
    other.close()
