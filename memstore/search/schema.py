"""The index's fields and how text becomes terms; the only place that names them to tantivy.

Nothing is stored: a hit is three numbers from columns (time, suffix, hash of the agent) that make up a memory id, and
the record is read from the store. Times are i64 microseconds, for bounds below a second are wrong on tantivy's date
fields. Every numeric field has a twin in ``sketch``, a logarithmic bucket: buckets of several partitions can be added
up, and percentiles cannot. Text is there twice: as stems with their positions, and as words without, for the
beginning of a word may be longer than its stem; that is 2 % of the records' bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from typing import Self

import tantivy
import xxhash

from memstore.config import SearchSettings
from memstore.errors import ConfigError

SCHEMA_VERSION = 3
"""Goes up when a field changes its meaning: partitions of another version are built again."""
TERM_BYTES_MAX = 100
"""Longer words are left out: hashes, encoded pictures."""
LANGUAGES = (
    "none", "arabic", "danish", "dutch", "english", "finnish", "french", "german", "greek", "hungarian", "italian",
    "norwegian", "portuguese", "romanian", "russian", "spanish", "swedish", "tamil", "turkish",
)  # fmt: skip
_STOP_WORD_LANGUAGES = frozenset(
    {"danish", "dutch", "english", "finnish", "french", "german", "hungarian", "italian", "norwegian", "portuguese",
     "russian", "spanish", "swedish"}
)  # fmt: skip

TEXT = "text"
WORD = "word"
AGENT = "agent"
TYPE = "type"
IMPORTANCE = "importance"
TAG = "tag"
SESSION = "session"
USER = "user"
TASK = "task"
MODEL = "model"
SOURCE_ID = "source_id"
FOLDED = "folded"
SUCCESS = "success"
CONFIDENCE = "confidence"
MS = "ms"
BYTES = "bytes"
TIME = "t"
SUFFIX = "suffix"
AGENT_HASH = "agent_hash"
KEY = "key"
CONTEXT = "ctx"
SKETCH = "sketch"
LANE = "lane"
PLACE = "place"

CONTEXT_FIELDS = {SESSION: "session_id", USER: "user_id", TASK: "task_id", MODEL: "model"}
"""Fields that are taken from a key of ``context``."""
_TOKENIZER = "memstore_text"
_WORD_TOKENIZER = "memstore_word"


@dataclass(frozen=True, slots=True)
class IndexShape:
    """What two indexes must have in common to be one: it decides the terms.

    Attributes:
        language: whose words are stemmed, or ``none``.
        context_keys: keys of ``context`` that are fields, sorted.
    """

    language: str
    context_keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.language not in LANGUAGES:
            raise ConfigError(f"search.language {self.language!r} is unknown; it is one of {', '.join(LANGUAGES)}")

    @classmethod
    def of(cls, settings: SearchSettings) -> Self:
        """The shape that these settings ask for."""
        return cls(settings.language, tuple(sorted(set(settings.context_keys))))

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints mean that partitions can be searched together."""
        text = f"{SCHEMA_VERSION}/{version('tantivy')}/{self.language}/{self.context_keys!r}"
        return xxhash.xxh3_64_hexdigest(text.encode())


def build_schema() -> tantivy.Schema:
    """The fields; the same for every shape."""
    builder = tantivy.SchemaBuilder()
    builder.add_text_field(TEXT, tokenizer_name=_TOKENIZER, index_option="position")
    builder.add_text_field(WORD, tokenizer_name=_WORD_TOKENIZER, index_option="basic")
    for name in (AGENT, TYPE, IMPORTANCE, TAG, SESSION, USER, TASK, MODEL):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic", fast=True)
    for name in (SOURCE_ID, FOLDED):
        builder.add_text_field(name, tokenizer_name="raw", index_option="basic")
    builder.add_boolean_field(SUCCESS, indexed=True, fast=True)
    builder.add_float_field(CONFIDENCE, fast=True)
    builder.add_float_field(MS, fast=True)
    builder.add_unsigned_field(BYTES, fast=True)
    builder.add_integer_field(TIME, fast=True)
    builder.add_unsigned_field(SUFFIX, fast=True)
    builder.add_unsigned_field(AGENT_HASH, fast=True)
    builder.add_unsigned_field(KEY, indexed=True)
    builder.add_json_field(CONTEXT, tokenizer_name="raw", index_option="basic", fast=True)
    builder.add_json_field(SKETCH, tokenizer_name="raw", index_option="basic", fast=True)
    builder.add_unsigned_field(LANE, fast=True)
    builder.add_unsigned_field(PLACE, fast=True)
    return builder.build()


class Analyzer:
    """Text to terms, as the index has them, and words of a question to terms. Thread-safe.

    Args:
        language: see `IndexShape`.
    """

    def __init__(self, language: str) -> None:
        self._analyzer = _analyzer(language)
        self._folder = _analyzer("none")
        self._terms: dict[str, tuple[str, ...]] = {}
        self._noise: dict[str, bool] = {}
        stop = language if language in _STOP_WORD_LANGUAGES else None
        self._without_stop_words = None if stop is None else _stop_word_filter(stop)

    def terms(self, text: str) -> list[str]:
        """Terms of a text, in order."""
        return self._analyzer.analyze(text)

    def word_terms(self, word: str) -> tuple[str, ...]:
        """Terms of one word or a few, remembered: texts and questions are made of the same words."""
        known = self._terms.get(word)
        if known is None:
            known = tuple(self._analyzer.analyze(word))
            if len(word) <= TERM_BYTES_MAX:
                if len(self._terms) >= _WORDS_MAX:
                    self._terms.clear()
                self._terms[word] = known
        return known

    def is_stop_word(self, word: str) -> bool:
        """Whether a word of a question says nothing by itself; remembered, for each is asked about several times."""
        if self._without_stop_words is None:
            return False
        known = self._noise.get(word)
        if known is None:
            known = not self._without_stop_words.analyze(word)
            if len(word) <= TERM_BYTES_MAX:
                if len(self._noise) >= _WORDS_MAX:
                    self._noise.clear()
                self._noise[word] = known
        return known

    def folded(self, text: str) -> list[str]:
        """Words of a text in order, as terms are but for their ends: lower case, without accents, not stemmed."""
        return self._folder.analyze(text)

    def register(self, index: tantivy.Index) -> None:
        """Make an index use it; once for each index that is opened."""
        index.register_tokenizer(_TOKENIZER, self._analyzer)
        index.register_tokenizer(_WORD_TOKENIZER, self._folder)


_WORDS_MAX = 65_536
"""Words whose terms are remembered: some 10 MB."""


def _analyzer(language: str) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    builder = builder.filter(tantivy.Filter.remove_long(TERM_BYTES_MAX)).filter(tantivy.Filter.lowercase())
    if language == "english":
        # Accents are dropped before English is stemmed; in other languages a stem depends on them.
        return builder.filter(tantivy.Filter.ascii_fold()).filter(tantivy.Filter.stemmer(language)).build()
    if language != "none":
        builder = builder.filter(tantivy.Filter.stemmer(language))
    return builder.filter(tantivy.Filter.ascii_fold()).build()


def _stop_word_filter(language: str) -> tantivy.TextAnalyzer:
    builder = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple()).filter(tantivy.Filter.lowercase())
    return builder.filter(tantivy.Filter.stopword(language)).build()


def context_column(key: str) -> str:
    """The column of a key of ``context`` that is a field: its name in hexadecimal digits.

    For tantivy a dot leads into an object and a backslash escapes, so a key can stand for itself in few places.
    """
    return f"{CONTEXT}.{context_segment(key)}"


def context_segment(key: str) -> str:
    """`context_column` without the name of the field that all of them share."""
    return f"k{key.encode().hex()}"


def marked(text: str) -> str:
    """A text of ``context`` as it is indexed: unmarked, tantivy would take some texts for dates."""
    return f"={text}"


def unmarked(text: str) -> str:
    """What was `marked`."""
    return text[1:]


def agent_hash(agent: str) -> int:
    """What stands for an agent in a column: 64 bits."""
    return xxhash.xxh3_64_intdigest(agent.encode())


def record_key(memory_id: str) -> int:
    """What a record is found by in the index: the first 64 bits of the hash that FORGOTTEN has of its id."""
    return xxhash.xxh3_128_intdigest(memory_id.encode()) >> 64


def key_of_hash(text_hash: str) -> int:
    """`record_key` of an id whose hash stands in FORGOTTEN."""
    return int(text_hash[:16], 16)
