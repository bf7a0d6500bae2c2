"""The same face, awaitable."""

import asyncio
import inspect

import pytest

from memstore import AgentMemory, AsyncAgentMemory, AsyncMemStore, InvalidRecordError, MemStore, StoreClosedError


def run(coroutine):
    return asyncio.run(coroutine)


def test_a_thousand_coroutines_share_a_few_commits(tmp_path):
    async def main():
        async with AsyncMemStore(tmp_path) as store:
            ids = await asyncio.gather(*(store.append(agent_id=f"a{n % 10}", content=n) for n in range(1000)))
            assert len(set(ids)) == 1000
            assert (await store.stats())["counters"]["commits"] < 200
            assert [r.content for r in await store.get_many(ids)] == list(range(1000))

    run(main())


def test_every_question_can_be_awaited(tmp_path):
    async def main():
        async with AsyncMemStore(tmp_path) as store:
            bot = store.agent("bot")
            one = await bot.append(content=1, tags=["x"])
            await bot.append_many([{"content": n} for n in range(2, 500)])
            assert (await bot.get(one)).content == 1
            assert (await store.get(one)).content == 1
            assert [r.content for r in await bot.recent(2)] == [499, 498]
            assert [r.content async for r in bot.range()] == list(range(1, 500))
            assert len([line async for line in bot.lines(tags="x")]) == 1
            assert await bot.count() == 499
            assert await store.agents() == ["bot"]
            assert (await bot.stats())["records"] == 499
            assert (await store.drain()).records == 499
            outcome = await store.import_many([{"agent_id": "b", "source_id": "s", "timestamp_utc": "2025-01-01"}] * 2)
            assert outcome.added == [True, False]

    run(main())


def test_errors_reach_the_coroutine_that_caused_them(tmp_path):
    async def main():
        store = AsyncMemStore(tmp_path)
        with pytest.raises(InvalidRecordError):
            await store.append(agent_id="a", content={1, 2})
        await store.close()
        with pytest.raises(StoreClosedError):
            await store.append(agent_id="a")

    run(main())


def test_a_cancelled_append_does_not_disturb_the_others(tmp_path):
    async def main():
        async with AsyncMemStore(tmp_path) as store:
            tasks = [asyncio.create_task(store.append(agent_id="a", content=n)) for n in range(100)]
            await asyncio.sleep(0)
            tasks[50].cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert sum(isinstance(d, str) for d in done) >= 99

    run(main())


def test_more_than_may_be_pending_waits_instead_of_growing(tmp_path):
    async def main():
        settings = {"writing.pending_bytes_max": 100_000, "writing.commit_bytes_max": 50_000}
        async with AsyncMemStore(tmp_path, settings=settings) as store:
            await asyncio.gather(*(store.append(agent_id="a", content="x" * 10_000) for _ in range(100)))
            assert await store.agent("a").count() == 100

    run(main())


def test_both_faces_have_the_same_names():
    def names(kind):
        return {n for n, v in inspect.getmembers(kind) if not n.startswith("_") and callable(v)}

    assert names(AsyncAgentMemory) == names(AgentMemory)
    assert names(MemStore) == names(AsyncMemStore)


def test_searches_and_aggregates_are_awaited_and_say_the_same(tmp_path):
    async def main():
        async with AsyncMemStore(tmp_path / "store", durability="os") as store:
            bot = store.agent("bot")
            first = await bot.append(content="a timeout in the market", memory_type="ERROR")
            await bot.append(content="another timeout in the market")
            await store.append(agent_id="other", content="a timeout elsewhere")
            assert (await store.search("timeout")).total == 3
            assert (await bot.search("timeout", facets="type")).total == 2
            assert (await store.aggregate("timeout", by="agent")).rows[0].as_dict() == {"agent": "bot", "count": 2}
            assert (await bot.aggregate(by="type")).total == 2
            assert [hit.record.agent_id for hit in await store.similar(first, agent="other")] in (["other"], [])
            assert all(hit.record.agent_id == "bot" for hit in await bot.similar(first))
            assert (await store.index(rebuild=True))["finished"]
            assert (await store.index_status())["records"] == 3
            assert (await store.search("timeout", limit=2)).cursor is not None

    asyncio.run(main())


def test_matches_are_awaited_as_they_come(tmp_path):
    async def main():
        async with AsyncMemStore(tmp_path / "store", durability="os") as store:
            found = store.agent("bot").follow("timeout", every_s=0.01)
            first = asyncio.ensure_future(anext(found))
            while not first.done():  # what came before the follower stood is not its to show
                await store.append(agent_id="other", content="a timeout of somebody else")
                await store.append(agent_id="bot", content="a timeout")
            assert (await first).record.content == "a timeout"
            assert (tmp_path / "store" / "consumers" / "follow-1.json").exists()
            await found.aclose()
            assert not (tmp_path / "store" / "consumers" / "follow-1.json").exists()

    asyncio.run(main())
