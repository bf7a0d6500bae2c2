"""Passages of a record in which words of a question occur. Pure but for the analyzer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

import orjson

from memstore.search.document import texts_of
from memstore.search.question import Fuzzy, Node, Words, text_nodes
from memstore.search.result import Highlight
from memstore.search.schema import Analyzer

PASSAGE_CHARS = 200
PASSAGES_MAX = 2
TEXT_CHARS_MAX = 65_536
"""How far into a record words are looked for."""
_WORD = re.compile(r"[^\W_]+")
_KNOWN_MAX = 4096
"""Words of which it is remembered what they match."""
_Span = tuple[int, int, str]
"""Where a word begins and ends in a text, and the word of the question that it is."""


class PassageFinder:
    """Finds passages in stored lines, for the hits of one answer; begins nothing before the first is asked for.

    Thread-safe. It outlives its search, so it holds nothing of the store.

    Args:
        node: what was asked.
        analyzer: the index's.
    """

    def __init__(self, node: Node | None, analyzer: Analyzer) -> None:
        self._node = node
        self._analyzer = analyzer
        self._highlighter: Highlighter | None = None

    def of(self, line: bytes) -> tuple[Highlight, ...]:
        """The best passages of a record; none where no text was asked for."""
        highlighter = self._highlighter
        if highlighter is None:  # two threads may make two, which are equal
            highlighter = self._highlighter = Highlighter(self._node, self._analyzer)
        return highlighter.passages(texts_of(orjson.loads(line))) if highlighter.wanted else ()


class Highlighter:
    """Made for one question. Thread-safe.

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
        self._weight_max = len(self._terms) + len({*self._prefixes, *(term for term, _ in self._near)} - self._terms)
        beginnings = () if self._near else _beginnings((*self._terms, *self._prefixes))
        self._likely = _likely_words(beginnings) if beginnings else None
        self._known: dict[str, str] = {}

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

    def passages(self, texts: Sequence[str]) -> tuple[Highlight, ...]:
        """The best passages, in order of the record: those with most different words of the question, early ones first.

        Looked for no further than until there cannot be a better one.
        """
        best: list[tuple[int, int, Highlight]] = []
        for number, spans in self._spans_by_text(texts):
            to_beat = -best[-1][0] if len(best) == PASSAGES_MAX else 0
            most = len({term for _, _, term in spans})
            if most <= to_beat:
                continue
            passage, weight = _best_passage(texts[number], spans, most)
            best = sorted([*best, (-weight, number, passage)], key=lambda each: each[:2])[:PASSAGES_MAX]
            if len(best) == PASSAGES_MAX and -best[-1][0] >= self._weight_max:
                break
        return tuple(passage for _, _, passage in sorted(best, key=lambda each: each[1]))

    def _spans_by_text(self, texts: Sequence[str]) -> Iterator[tuple[int, list[_Span]]]:
        """The words of the question in each text that has one, with the text's number."""
        whole = "\n".join(texts)
        if len(whole) > TEXT_CHARS_MAX:
            texts = _cut(texts)
            whole = "\n".join(texts)
        # Letters with accents are folded, so only of plain text can be told by its first letters what may match.
        if self._likely is not None and whole.isascii():
            yield from self._plain_spans(texts, whole.lower(), self._likely)
            return
        for number, text in enumerate(texts):
            if self._likely is not None and text.isascii():
                yield from ((number, spans) for _, spans in self._plain_spans([text], text.lower(), self._likely))
                continue
            spans = [
                (word.start(), word.end(), term) for word in _WORD.finditer(text) if (term := self._match(word[0]))
            ]
            if spans:
                yield number, spans

    def _plain_spans(
        self, texts: Sequence[str], whole: str, likely: re.Pattern[str]
    ) -> Iterator[tuple[int, list[_Span]]]:
        """The same, of all texts at once, in lower case."""
        known = self._known
        number, begin, end = 0, 0, len(texts[0]) if texts else 0
        spans: list[_Span] = []
        for word in likely.finditer(whole):
            start, letters = word.start(), word[0]
            if start and whole[start - 1].isalnum():
                continue  # the end of a longer word, and taken to that word's end
            term = known.get(letters)
            if term is None:
                term = self._match(letters)
            if not term:
                continue
            if start > end:
                if spans:
                    yield number, spans
                    spans = []
                while start > end:
                    number, begin = number + 1, end + 1
                    end = begin + len(texts[number])
            spans.append((start - begin, word.end() - begin, term))
        if spans:
            yield number, spans

    def _match(self, word: str) -> str:
        """The word of the question that a word is, or nothing; remembered, for records are made of the same words."""
        term = self._known.get(word)
        if term is None:
            term = self._term_of(word)
            if len(self._known) >= _KNOWN_MAX:
                self._known.clear()
            self._known[word] = term
        return term

    def _term_of(self, word: str) -> str:
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
        return ""


def _cut(texts: Sequence[str]) -> list[str]:
    """The texts as far as words are looked for."""
    cut: list[str] = []
    left = TEXT_CHARS_MAX
    for text in texts:
        if left <= 0:
            break
        cut.append(text[:left])
        left -= len(text)
    return cut


def _beginnings(terms: Iterable[str]) -> tuple[str, ...]:
    """How words that come to one of these terms begin: a stem and its words differ in their ends."""
    return tuple(sorted({term[:-1] if len(term) > _WHOLE_CHARS_MAX else term for term in terms}))


def _likely_words(beginnings: Sequence[str]) -> re.Pattern[str]:
    """Finds in plain lower case what begins so, to the end of its word.

    It begins with letters that are there as they stand: so `re` skips whatever does not begin with one of them.
    """
    return re.compile(rf"(?:{'|'.join(map(re.escape, beginnings))})[0-9a-z]*", re.ASCII)


_WHOLE_CHARS_MAX = 3


def _best_passage(text: str, spans: Sequence[_Span], most: int) -> tuple[Highlight, int]:
    """The stretch with most different words, and how many these are; ``most``: how many all spans have."""
    if spans[-1][1] - spans[0][0] <= PASSAGE_CHARS:
        weight, first, last = most, 0, len(spans) - 1
    else:
        weight, first, last = _best_stretch(spans, most)
    room = max(PASSAGE_CHARS - (spans[last][1] - spans[first][0]), 0)
    start = _word_start(text, max(spans[first][0] - room // 2, 0))
    end = _word_end(text, min(max(spans[last][1] + room // 2, start + PASSAGE_CHARS), len(text)))
    before, after = "…" if start else "", "…" if end < len(text) else ""
    passage = before + text[start:end].replace("\n", " ").replace("\t", " ") + after
    shift = len(before) - start
    inside = [(a + shift, b + shift) for a, b, _ in spans if a >= start and b <= end]
    return Highlight(passage, tuple(inside)), weight


def _best_stretch(spans: Sequence[_Span], most: int) -> tuple[int, int, int]:
    """How many different words the best stretch has, and its first and last span."""
    best = (0, 0, 0)
    counts: dict[str, int] = {}  # of the terms from the first span to before the one behind the last
    end = 0
    for first, (start, _, term) in enumerate(spans):
        while end < len(spans) and (end <= first or spans[end][1] - start <= PASSAGE_CHARS):
            counts[spans[end][2]] = counts.get(spans[end][2], 0) + 1
            end += 1
        if len(counts) > best[0]:
            best = (len(counts), first, end - 1)
        if len(counts) == most or end == len(spans):
            break
        counts[term] -= 1
        if not counts[term]:
            del counts[term]
    return best


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
