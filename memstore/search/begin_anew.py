"""Have the index built anew behind a repair: what was damaged when it was built is not in it, and may be back now."""

from __future__ import annotations

import msgspec

from memstore.engine.engine import Engine
from memstore.errors import CorruptionError
from memstore.format.consumer_file import ConsumerFile
from memstore.search.state import CONSUMER, state_of, with_state


def begin_anew(engine: Engine) -> None:
    """Let nothing of the index count, nor what an indexer has under way; everything is scanned until it is built.

    Months are listed anew too: of one whose files could not be read, the index does not know that it lacks it.

    Raises:
        StorageError: the disk refused.
    """

    def change(content: ConsumerFile) -> ConsumerFile:
        state = state_of(content)
        if not state.listed:
            return content
        return with_state(content, msgspec.structs.replace(state, listed=False, erasures=state.erasures + 1))

    try:
        engine.consumers.update(CONSUMER, change)
    except KeyError:
        pass  # there is none
    except (CorruptionError, msgspec.ValidationError):
        engine.consumers.unregister(CONSUMER)
