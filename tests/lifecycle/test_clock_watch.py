import logging

import pytest

from memstore.clock import ManualClock, WallClock
from memstore.errors import CorruptionError
from memstore.format.lifecycle_file import ClockNote, decode_lifecycle_file, encode_lifecycle_file
from memstore.format.names import StorePaths
from memstore.fs.local import LocalStorage
from memstore.lifecycle.clock_watch import ClockWatch, judge
from tests.support import T0_US

MINUTE, HOUR, DAY = 60, 3600, 86400


def us(seconds: float) -> int:
    return int(seconds * 1_000_000)


def look(previous, wall_s=0, boot_s=0.0, boot="one", merged_s=None, **options):
    """Judge at T0 and so many seconds; the store's youngest merge is given the same way."""
    return judge(
        previous,
        now_us=T0_US + us(wall_s),
        boot_s=boot_s,
        boot_id=boot,
        newest_evidence_us=None if merged_s is None else T0_US + us(merged_s),
        **options,
    )


FIRST = look(None).note


@pytest.mark.parametrize(
    ("wall_s", "boot_s", "trusted"),
    [
        (0, 0, True),
        (DAY, DAY, True),
        (400 * DAY, 400 * DAY, True),
        (DAY + 59 * MINUTE, DAY, True),
        (DAY - 59 * MINUTE, DAY, True),
        (DAY + 61 * MINUTE, DAY, False),
        (DAY - 61 * MINUTE, DAY, False),
        (-1 * HOUR, 5 * MINUTE, False),
        (366 * DAY, MINUTE, False),
    ],
)
def test_within_a_boot_wall_time_goes_as_far_as_the_time_since_boot(wall_s, boot_s, trusted):
    verdict = look(FIRST, wall_s, boot_s)
    assert verdict.trusted is trusted
    assert bool(verdict.why) is not trusted
    assert bool(verdict.note.doubt) is not trusted


@pytest.mark.parametrize(
    ("wall_s", "merged_s", "trusted"),
    [
        (0, None, True),
        (31 * DAY, None, True),
        (32 * DAY, None, False),
        (-4 * MINUTE, None, True),
        (-6 * MINUTE, None, False),
        (HOUR, 2 * HOUR, False),
        (HOUR, HOUR + 4 * MINUTE, True),
        (60 * DAY, 40 * DAY, True),
        (60 * DAY, 20 * DAY, False),
    ],
)
def test_across_boots_wall_time_is_held_against_what_was_seen_last(wall_s, merged_s, trusted):
    assert look(FIRST, wall_s, 10, boot="two", merged_s=merged_s).trusted is trusted


@pytest.mark.parametrize(("merged_s", "trusted"), [(None, True), (-DAY, True), (HOUR, False), (-32 * DAY, False)])
def test_without_a_note_the_youngest_merge_alone_tells(merged_s, trusted):
    assert look(None, merged_s=merged_s).trusted is trusted


def test_a_platform_without_boot_ids_is_taken_for_a_new_boot_each_time():
    first = look(None, boot="").note
    assert look(first, 20 * DAY, 5, boot="").trusted
    assert not look(first, 32 * DAY, 32 * DAY, boot="").trusted


def test_many_small_steps_add_up():
    note = FIRST
    verdicts = []
    for step in range(1, 5):
        verdict = look(note, step * (DAY + 20 * MINUTE), step * DAY)
        note = verdict.note
        verdicts.append(verdict.trusted)
    assert verdicts == [True, True, True, False]


def test_after_a_jump_the_clock_is_trusted_when_it_has_gone_on_evenly_for_a_day():
    jump = look(FIRST, 10 * DAY, HOUR)
    assert "set 10 days forward while the machine was running" in jump.why
    assert "with trust_clock" in jump.why
    almost = look(jump.note, 11 * DAY - HOUR, DAY)
    assert not almost.trusted
    assert almost.why == jump.why
    again = look(almost.note, 11 * DAY, HOUR + DAY)
    assert again.trusted
    assert again.note.doubt == ""
    assert look(again.note, 12 * DAY, HOUR + 2 * DAY).trusted


def test_another_jump_begins_the_day_anew():
    jump = look(FIRST, 10 * DAY, HOUR)
    back = look(jump.note, 20 * HOUR, 20 * HOUR)
    assert "back while the machine" in back.why
    assert not look(back.note, 40 * HOUR, 40 * HOUR).trusted
    assert look(back.note, 44 * HOUR, 44 * HOUR).trusted


def test_the_day_goes_on_over_restarts():
    jump = look(FIRST, 10 * DAY, HOUR)
    restarted = look(jump.note, 10 * DAY + 12 * HOUR, 30, boot="two")
    assert not restarted.trusted
    assert not look(restarted.note, 10 * DAY + 23 * HOUR, 30 + 11 * HOUR, boot="two").trusted
    assert look(restarted.note, 11 * DAY, 30 + 12 * HOUR, boot="two").trusted
    assert not look(restarted.note, 11 * DAY + 2 * HOUR, 30 + 12 * HOUR, boot="two").trusted


def test_who_vouches_for_the_clock_is_believed_at_once_and_after():
    jump = look(FIRST, 10 * DAY, HOUR)
    vouched = look(jump.note, 10 * DAY, HOUR, trust_clock=True)
    assert vouched.trusted
    assert look(vouched.note, 10 * DAY + HOUR, 2 * HOUR).trusted


# --- LIFECYCLE.json ---------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path):
    clock = ManualClock(T0_US)
    return clock, ClockWatch(LocalStorage(), StorePaths(str(tmp_path)), clock=clock)


def test_a_simulated_year_in_one_process_is_no_jump(watched):
    clock, watch = watched
    for _ in range(365):
        clock.advance(DAY)
        assert watch.look(clock.now_us() - us(HOUR)).trusted
    clock.step(400 * DAY)
    assert not watch.look(clock.now_us()).trusted


def test_what_was_seen_is_kept_from_process_to_process(watched, tmp_path):
    clock, watch = watched
    assert watch.look(None).trusted
    later = ManualClock(T0_US - us(HOUR))
    other = ClockWatch(LocalStorage(), StorePaths(str(tmp_path)), clock=later)
    assert not other.look(None, keep=False).trusted
    assert not other.look(None).trusted
    clock.advance(MINUTE)
    assert not watch.look(None).trusted, "a doubt is for every process"


def test_a_dry_run_writes_nothing(watched, tmp_path):
    assert watched[1].look(None, keep=False).trusted
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_note_is_logged_and_the_merges_are_asked(watched, tmp_path, caplog):
    _, watch = watched
    watch.look(None)
    (tmp_path / "LIFECYCLE.json").write_bytes(b"{}\n")
    with caplog.at_level(logging.WARNING):
        assert not watch.look(T0_US + us(DAY)).trusted
    assert "LIFECYCLE.json" in caplog.text


def test_the_note_comes_back_as_it_was_written():
    note = ClockNote(wall_us=T0_US, boot_s=1.5, boot_id="one", last_us=T0_US + 1, doubt="x")
    assert decode_lifecycle_file(encode_lifecycle_file(note), "L") == note
    with pytest.raises(CorruptionError):
        decode_lifecycle_file(encode_lifecycle_file(note)[:-3], "L")


def test_the_machines_clock_knows_its_boot():
    clock = WallClock()
    assert clock.boot_id() == WallClock().boot_id()
    assert clock.boot_s() > 0
    assert ManualClock(0).boot_id() != ManualClock(0).boot_id()
    assert ManualClock(0, boot_id="x").boot_id() == "x"
