"""Agent memories that look real, each a pure function of (seed, agent, index).

The shape follows what was measured on 44,965 real records: half are under some 550 bytes, 90 % under 7.4 KB, 99 % under
112 KB, which is also the cap here (the real tail goes on to 203 KB); between 7.4 and 112 KB the tail is thinned so that
50,000 records come to about 250 MB. One agent writes two fifths of the records, half of all records repeat another's
content, and times spread over the days before now.

Prose is cut out of one text that is written once per seed: joining words for every record would take minutes.
"""

from __future__ import annotations

import bisect
import functools
import itertools
import math
import random
from dataclasses import dataclass
from typing import Any

import xxhash

from memstore.demo.words import MODELS, QUESTIONS, ROLES, SENTENCES, TAGS, WORDS
from memstore.timestamps import US_PER_DAY, iso_text

_SIZE_QUANTILES = (
    (0.0, 400.0),
    (0.5, 560.0),
    (0.9, 7_400.0),
    (0.95, 15_500.0),
    (0.99, 112_000.0),
    (1.0, 112_000.0),
)
"""Share of records and the bytes of their lines up to it; in between the logarithm is linear."""
_ENVELOPE_BYTES = 455
"""What a line takes besides its prose: id, time, question, context, tags and names."""
_HEAVY_SHARE = 0.4
_REPEATED_SHARE = 0.55
_ROUTINES_PER_AGENT = 24
"""Contents that an agent comes back to; nearly every draw of one repeats an earlier one."""
_PROSE_CHARS = 512 * 1024
_SESSION_RECORDS = 25
_TYPES = (
    ("INTERACTION", 0.46),
    ("CONTEXT", 0.60),
    ("LEARNING", 0.70),
    ("SYSTEM_STATE", 0.78),
    ("PERFORMANCE", 0.86),
    ("ERROR", 0.90),
    ("GOAL", 0.94),
    ("BELIEF", 0.97),
    ("PLAN", 1.0),
)
"""Types and the share of records up to each."""
_IMPORTANCES = (("LOW", 0.30), ("MEDIUM", 0.80), ("HIGH", 0.95), ("CRITICAL", 1.0))
_ERROR_IMPORTANCES = (("MEDIUM", 0.40), ("HIGH", 0.80), ("CRITICAL", 1.0))


@dataclass(frozen=True, slots=True)
class Plan:
    """What a demo consists of; immutable, and the same plan gives the same records.

    Attributes:
        seed: of everything random.
        agents: how many agents.
        records: how many records in all.
        days: over how many days before ``now_us`` they spread.
        now_us: the end of these days, microseconds since 1970 UTC.
    """

    seed: int
    agents: int
    records: int
    days: int
    now_us: int

    def count_of(self, agent: int) -> int:
        """How many records an agent has: the first two fifths of all, the others by rank, unevenly."""
        return _counts(self.agents, self.records)[agent]

    def agent_id(self, agent: int) -> str:
        """``analyst_agent_001``: agents are numbered from 1 in their names."""
        return f"{ROLES[agent % len(ROLES)]}_agent_{agent + 1:03d}"

    def time_us(self, agent: int, index: int) -> int:
        """When record ``index`` of an agent happens: in order, unevenly, all in the past."""
        jitter = _number(self.seed, agent, index, "time") / 2**64
        share = (index + jitter) / self.count_of(agent)
        return self.now_us - int((1 - share) * (self.days * US_PER_DAY - 1)) - 1

    def record(self, agent: int, index: int) -> dict[str, Any]:
        """A record as ``append_many`` takes it, time included."""
        fields = memory(self.seed, agent, index)
        return {"agent_id": self.agent_id(agent), "timestamp_utc": iso_text(self.time_us(agent, index)), **fields}


@functools.lru_cache(maxsize=4)
def _counts(agents: int, records: int) -> tuple[int, ...]:
    if agents == 1:
        return (records,)
    spare = records - agents  # after one for each
    heavy = int(spare * _HEAVY_SHARE)
    weights = [1 / (agent + 3) for agent in range(agents - 1)]  # a gentle Zipf: the quietest still writes now and then
    bounds = [0.0]
    for weight in weights:
        bounds.append(bounds[-1] + weight)
    places = [round(bound / bounds[-1] * (spare - heavy)) for bound in bounds]
    return (1 + heavy, *(1 + after - before for before, after in itertools.pairwise(places)))


def memory(seed: int, agent: int, index: int) -> dict[str, Any]:
    """The fields of one record but for agent and time: type, importance, what was said, tags, context.

    The same arguments give the same record in every process and Python version.
    """
    own = random.Random(_number(seed, agent, index, "record"))  # noqa: S311 - a demo's dice
    repeated = own.random() < _REPEATED_SHARE
    routine = int(own.random() * _ROUTINES_PER_AGENT)
    # A repeated content is decided by the routine alone, so its type, size and words come back together.
    dice = random.Random(_number(seed, agent, routine, "routine")) if repeated else own  # noqa: S311
    memory_type = _pick(_TYPES, dice.random())
    # Routines are spread evenly over the sizes: a few unlucky ones would bend the whole shape.
    chance = (routine * 7 % _ROUTINES_PER_AGENT + dice.random()) / _ROUTINES_PER_AGENT if repeated else dice.random()
    prose_chars = max(int(_size_bytes(chance)) - _ENVELOPE_BYTES, 24)
    fields: dict[str, Any] = {
        "memory_type": memory_type,
        "importance": _pick(_ERROR_IMPORTANCES if memory_type == "ERROR" else _IMPORTANCES, dice.random()),
        **_said(prose(seed), memory_type, prose_chars, dice),
    }
    first = int(dice.random() * len(TAGS))
    fields["tags"] = [TAGS[(first + step * 5) % len(TAGS)] for step in range(1 + int(dice.random() * 3))]
    fields["context"] = {
        "session_id": f"session_{agent + 1:03d}_{index // _SESSION_RECORDS:05d}",
        "user_id": f"user_{int(own.random() * 40):02d}",
        "model": MODELS[int(own.random() * len(MODELS))],
    }
    return fields


def _said(text: Prose, memory_type: str, chars: int, dice: random.Random) -> dict[str, Any]:  # noqa: PLR0911 - one a type
    """What the record holds, by type; ``chars`` of prose in all."""
    if memory_type == "INTERACTION":
        question = text.question(dice.random())
        answer = {
            "content": text.cut(dice.random(), chars - len(question)),
            "success": dice.random() < 0.97,
            "confidence": round(0.5 + dice.random() / 2, 2),
            "processing_time_ms": round(40 + 4000 * dice.random() ** 3, 1),
        }
        return {"input": {"content": question, "source": "user"}, "response": answer}
    said = text.cut(dice.random(), chars)
    match memory_type:
        case "CONTEXT":
            half = len(said) // 2
            messages = [{"role": "user", "text": said[:half]}, {"role": "agent", "text": said[half:]}]
            return {"content": {"topic": text.question(dice.random()), "messages": messages}}
        case "LEARNING":
            return {"content": {"lesson": said, "evidence": 1 + int(dice.random() * 9)}}
        case "SYSTEM_STATE":
            load = round(dice.random() * 4, 2)
            return {
                "content": {
                    "state": "ready" if load < 3 else "busy",
                    "load": load,
                    "queue": int(dice.random() * 80),
                    "log": said,
                }
            }
        case "PERFORMANCE":
            return {
                "content": {
                    "tokens": int(dice.random() * 9000),
                    "latency_ms": round(900 * dice.random(), 1),
                    "trace": said,
                }
            }
        case "ERROR":
            fault = WORDS["fault"][int(dice.random() * len(WORDS["fault"]))]
            return {"content": {"code": (408, 429, 500, 502)[int(dice.random() * 4)], "message": fault, "detail": said}}
        case "GOAL":
            return {"content": {"goal": text.question(dice.random()), "why": said, "progress": round(dice.random(), 2)}}
        case "BELIEF":
            return {"content": {"belief": said, "confidence": round(dice.random(), 2)}}
        case _:
            steps = said.split(". ")
            return {"content": {"steps": steps, "done": int(dice.random() * len(steps))}}


class Prose:
    """A long text of whole sentences, and questions; immutable once written, one per seed."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)  # noqa: S311
        self._questions = [_sentence(QUESTIONS, dice) for _ in range(400)]
        sentences, length = [], 0
        while length < _PROSE_CHARS:
            sentences.append(_sentence(SENTENCES, dice))
            length += len(sentences[-1]) + 1
        self._text = " ".join(sentences)
        self._starts = [0]
        for sentence in sentences[:-1]:
            self._starts.append(self._starts[-1] + len(sentence) + 1)

    def question(self, chance: float) -> str:
        """One question; ``chance`` in [0, 1)."""
        return self._questions[int(chance * len(self._questions))]

    def cut(self, chance: float, chars: int) -> str:
        """About ``chars`` characters from the start of a sentence on, whole words, at least two words."""
        chars = max(chars, 24)
        start = self._starts[bisect.bisect_right(self._starts, int(chance * (len(self._text) - chars))) - 1]
        end = self._text.rfind(" ", start, start + chars)
        return self._text[start:end]


@functools.lru_cache(maxsize=2)
def prose(seed: int) -> Prose:
    """The text of a seed, written once per process (some 50 ms)."""
    return Prose(seed)


def _sentence(patterns: tuple[str, ...], dice: random.Random) -> str:
    words = {name: choices[int(dice.random() * len(choices))] for name, choices in WORDS.items()}
    text = patterns[int(dice.random() * len(patterns))].format_map(words)
    return text[0].upper() + text[1:]


def _number(seed: int, agent: int, index: int, purpose: str) -> int:
    """64 bits that depend on nothing else."""
    return xxhash.xxh3_64_intdigest(f"{seed}/{agent}/{index}/{purpose}".encode())


def _pick(shares: tuple[tuple[str, float], ...], chance: float) -> str:
    return next(name for name, upper in shares if chance < upper)


def _size_bytes(chance: float) -> float:
    """The size at this share of the records."""
    index = next(i for i, (share, _) in enumerate(_SIZE_QUANTILES) if chance <= share) or 1
    (low_share, low), (high_share, high) = _SIZE_QUANTILES[index - 1], _SIZE_QUANTILES[index]
    part = (chance - low_share) / (high_share - low_share)
    return math.exp(math.log(low) + part * (math.log(high) - math.log(low)))
