"""Passages of a record in which words of a question occur. Pure but for the analyzer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from memstore.search.question import Fuzzy, Node, Words, text_nodes
from memstore.search.result import Highlight
from memstore.search.schema import Analyzer

PASSAGE_CHARS = 200
PASSAGES_MAX = 2
TEXT_CHARS_MAX = 65_536
"""How far into a record words are looked for."""
_WORD = re.compile(r"[^\W_]+")


class Highlighter:
    """Made for one question.

    Args:
        node: what was asked.
        analyzer: the index's.
    """

    def __init__(self, node: Node | None, analyzer: Analyzer) -> None:
        self._analyzer = analyzer
        self._terms: set[str] = set()
        self._prefixes: list[str] = []
        self._near: list[tuple[str, int]] = []
        for each in text_nodes(node):
            self._take(each)
        self.wanted = bool(self._terms or self._prefixes or self._near)
        self._likely = None if self._near else _likely_words((*self._terms, *self._prefixes))

    def _take(self, node: Words | Fuzzy) -> None:
        words = _WORD.findall(node.text)
        if isinstance(node, Fuzzy):
            self._near += [(term, node.distance) for word in words for term in self._analyzer.word_terms(word)]
            return
        for index, word in enumerate(words):
            if not node.quoted and not node.prefix and self._analyzer.is_stop_word(word):
                continue
            if node.prefix and index == len(words) - 1:
                self._prefixes += self._analyzer.folded(word)
            else:
                self._terms.update(self._analyzer.word_terms(word))

    def passages(self, texts: Iterable[str]) -> tuple[Highlight, ...]:
        """The best passages, in order of the record."""
        found: list[tuple[int, int, Highlight]] = []
        left = TEXT_CHARS_MAX
        for number, text in enumerate(texts):
            if left <= 0:
                break
            spans = self._spans(text[:left])
            left -= len(text)
            if spans:
                passage, weight = _best_passage(text, spans)
                found.append((-weight, number, passage))
        best = sorted(sorted(found, key=lambda each: each[:2])[:PASSAGES_MAX], key=lambda each: each[1])
        return tuple(passage for _, _, passage in best)

    def _spans(self, text: str) -> list[tuple[int, int, str]]:
        # Letters with accents are folded, so only of plain text can be told by its first letters what may match.
        words = self._likely if self._likely is not None and text.isascii() else _WORD
        spans = []
        for word in words.finditer(text):
            term = self._match(word[0])
            if term is not None:
                spans.append((word.start(), word.end(), term))
        return spans

    def _match(self, word: str) -> str | None:
        terms = self._analyzer.word_terms(word)
        for term in terms:
            if term in self._terms:
                return term
        if self._prefixes:
            folded = self._analyzer.folded(word)
            for prefix in self._prefixes:
                if any(each.startswith(prefix) for each in folded):
                    return prefix
        for near, distance in self._near:
            if any(within_edits(term, near, distance) for term in terms):
                return near
        return None


def _likely_words(terms: Iterable[str]) -> re.Pattern[str] | None:
    """Finds words that begin like one of these terms: a stem and its words differ in their ends."""
    beginnings = {re.escape(term[:-1] if len(term) > _WHOLE_CHARS_MAX else term) for term in terms}
    if not beginnings:
        return None
    return re.compile(rf"(?<![^\W_])(?:{'|'.join(sorted(beginnings))})[^\W_]*", re.IGNORECASE)


_WHOLE_CHARS_MAX = 3


def _best_passage(text: str, spans: Sequence[tuple[int, int, str]]) -> tuple[Highlight, int]:
    """The stretch with most different words, and how many these are."""
    best = (0, 0, 0)
    for first in range(len(spans)):
        last = first
        while last + 1 < len(spans) and spans[last + 1][1] - spans[first][0] <= PASSAGE_CHARS:
            last += 1
        weight = len({term for _, _, term in spans[first : last + 1]})
        if weight > best[0]:
            best = (weight, first, last)
        if last == len(spans) - 1:
            break
    weight, first, last = best
    room = max(PASSAGE_CHARS - (spans[last][1] - spans[first][0]), 0)
    start = _word_start(text, max(spans[first][0] - room // 2, 0))
    end = _word_end(text, min(max(spans[last][1] + room // 2, start + PASSAGE_CHARS), len(text)))
    before, after = "…" if start else "", "…" if end < len(text) else ""
    passage = before + text[start:end].replace("\n", " ").replace("\t", " ") + after
    shift = len(before) - start
    inside = tuple((a + shift, b + shift) for a, b, _ in spans if a >= start and b <= end)
    return Highlight(passage, inside), weight


def _word_start(text: str, position: int) -> int:
    if position == 0:
        return 0
    space = text.find(" ", position, position + 20)
    return position if space < 0 else space + 1


def _word_end(text: str, position: int) -> int:
    if position >= len(text):
        return len(text)
    space = text.rfind(" ", max(position - 20, 0), position)
    return position if space < 0 else space


def within_edits(one: str, other: str, distance: int) -> bool:
    """Whether one word becomes the other by so many letters added, left out, changed or swapped with the next."""
    if abs(len(one) - len(other)) > distance:
        return False
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        two_before, before, row = before, row, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and one[i - 2] == b:
                cost = min(cost, two_before[j - 2] + 1)
            row.append(cost)
    return row[-1] <= distance
