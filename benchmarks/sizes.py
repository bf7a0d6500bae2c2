"""How much of everything is measured: to see that it runs, in ten minutes, or all of it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of records, unless the name says otherwise.

    Attributes:
        name: of the set.
        rounds: how often each workload and its floor take turns.
        agents: over so many records spread, where the workload is not about their number.
        processes: that append at once, each number in its turn; 1 and 2 are always there.
        openings: fresh processes that open a store; each takes longer to start than what it measures.
        replica_turns: so often a store with one copy and one with two take turns in a round.
        fill_one: appended one at a time.
        fill_batch: appended in batches.
        coroutines: how many of them append at once.
        fill_async_each: of each coroutine.
        fill_procs_each: of each process.
        fill_agents: over agents.
        crowds: over so many agents.
        reads: of the stores that reads share.
        lookups: reads of each side and round.
        searched: of the store that is searched.
        import_files: files of the tree.
        tier_bytes: lines to be packed, checked and collapsed.
        backup: to be backed up.
        mixed_operations: reads and writes of ``mixed``.
        mixed_agents: whose old day files are packed meanwhile.
        growth_records: how large stores become.
        growth_agents: over how many agents they spread, with ``growth_spread`` records.
        growth_spread: see there.
        tier_memory_bytes: lines of one day that a process of its own packs.
    """

    name: str
    rounds: int
    agents: int
    processes: tuple[int, ...]
    openings: int
    replica_turns: int
    fill_one: int
    fill_batch: int
    coroutines: int
    fill_async_each: int
    fill_procs_each: int
    fill_agents: int
    crowds: tuple[int, ...]
    reads: int
    lookups: int
    searched: int
    import_files: int
    tier_bytes: int
    backup: int
    mixed_operations: int
    mixed_agents: int
    growth_records: tuple[int, ...]
    growth_agents: tuple[int, ...]
    growth_spread: int
    tier_memory_bytes: int

    def with_rounds(self, rounds: int) -> Sizes:
        """The same, so many times."""
        return replace(self, rounds=rounds)


BENCH = Sizes(
    name="bench",
    rounds=3,
    agents=1000,
    processes=(1, 2, 4),
    openings=5,
    replica_turns=20,
    fill_one=5000,
    fill_batch=200_000,
    coroutines=1000,
    fill_async_each=30,
    fill_procs_each=40_000,
    fill_agents=100_000,
    crowds=(1, 10, 100, 1000, 10_000),
    reads=100_000,
    lookups=1000,
    searched=100_000,
    import_files=5000,
    tier_bytes=40_000_000,
    backup=200_000,
    mixed_operations=30_000,
    mixed_agents=200,
    growth_records=(10_000, 100_000, 1_000_000),
    growth_agents=(10, 100, 1000, 10_000),
    growth_spread=100_000,
    tier_memory_bytes=200_000_000,
)
FULL = replace(
    BENCH,
    name="full",
    rounds=5,
    fill_one=100_000,
    fill_batch=1_000_000,
    fill_async_each=100,
    fill_procs_each=400_000,
    fill_agents=1_000_000,
    crowds=(1, 10, 100, 1000, 10_000, 100_000),
    reads=1_000_000,
    searched=1_000_000,
    import_files=30_000,
    tier_bytes=200_000_000,
    backup=1_000_000,
    mixed_operations=200_000,
    lookups=5000,
    mixed_agents=500,
    growth_records=(10_000, 100_000, 1_000_000, 10_000_000),
    tier_memory_bytes=1_000_000_000,
)
SMOKE = replace(
    BENCH,
    name="smoke",
    rounds=1,
    agents=10,
    processes=(1, 2),
    openings=1,
    replica_turns=1,
    fill_one=50,
    fill_batch=2000,
    coroutines=20,
    fill_async_each=2,
    fill_procs_each=400,
    fill_agents=400,
    crowds=(1, 20),
    reads=1200,
    lookups=20,
    searched=600,
    import_files=40,
    tier_bytes=400_000,
    backup=500,
    mixed_operations=200,
    mixed_agents=3,
    growth_records=(300,),
    growth_agents=(20,),
    growth_spread=300,
    tier_memory_bytes=400_000,
)
SIZES = {sizes.name: sizes for sizes in (SMOKE, BENCH, FULL)}
