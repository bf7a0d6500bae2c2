"""More like this: the words that make a record what it is, as a question."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

from memstore.search.question import Boosted, Group, Node, Words
from memstore.search.schema import Analyzer

TERMS_MAX = 25
TEXT_CHARS_MAX = 65_536
_TERM_CHARS_MIN = 2
_WORD = re.compile(r"[^\W_]+")
Frequencies = Callable[[Sequence[str]], tuple[dict[str, int], int]]


def like(texts: Sequence[str], analyzer: Analyzer, frequencies: Frequencies) -> Node | None:
    """A question for records that share a text's most telling words; None where it has none.

    Args:
        texts: of the record.
        analyzer: the index's.
        frequencies: in how many records each term occurs, and how many records there are.
    """
    words: dict[str, str] = {}
    counts: Counter[str] = Counter()
    left = TEXT_CHARS_MAX
    for text in texts:
        for word in _WORD.findall(text[: max(left, 0)]):
            if analyzer.is_stop_word(word):
                continue
            for term in analyzer.word_terms(word):
                if len(term) >= _TERM_CHARS_MIN:
                    counts[term] += 1
                    words.setdefault(term, word)
        left -= len(text)
    known, records = frequencies(list(counts))
    weights = {
        term: math.sqrt(count) * math.log(1 + records / (1 + known.get(term, 0)))
        for term, count in counts.items()
        if known.get(term, 0) > 1 or records < _SMALL_STORE_RECORDS
    }
    chosen = sorted(weights, key=lambda term: (-weights[term], term))[:TERMS_MAX]
    if not chosen:
        return None
    return Group(should=tuple(Boosted(Words(words[term], quoted=True), max(weights[term], 0.01)) for term in chosen))


_SMALL_STORE_RECORDS = 1000
"""Below it even words that occur once are looked for: most of it may not be indexed yet."""
