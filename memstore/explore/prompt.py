"""The prompt: prompt_toolkit's, with history, completion and a line that says what is asked; else the plain one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from memstore.explore.completion import Vocabulary, candidates

if TYPE_CHECKING:
    from prompt_toolkit.input import Input
    from prompt_toolkit.output import Output

PROMPT = "search> "
MENU_LINES = 4
"""Lines below the prompt that are kept free for completions."""
ReadLine = Callable[[], str]


def rich_prompt(
    *,
    history: str | None,
    known: Callable[[], Vocabulary],
    toolbar: Callable[[], str],
    keyboard: Input | None = None,
    screen: Output | None = None,
) -> ReadLine:
    """A function that reads a line.

    Args:
        history: the file where lines are kept; None: they are forgotten.
        known: names for completion, as they are now.
        toolbar: what stands at the bottom.
        keyboard: instead of the terminal, for tests.
        screen: instead of the terminal, for tests.

    Raises:
        ImportError: prompt_toolkit is not installed.
    """
    from prompt_toolkit import PromptSession  # noqa: PLC0415 - optional
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion  # noqa: PLC0415
    from prompt_toolkit.document import Document  # noqa: PLC0415
    from prompt_toolkit.history import FileHistory, InMemoryHistory  # noqa: PLC0415

    class Names(Completer):
        """What `memstore.explore.completion` says."""

        def get_completions(self, document: Document, _: CompleteEvent) -> Iterable[Completion]:
            for each in candidates(document.text_before_cursor, known()):
                yield Completion(each.text, start_position=-each.replaces_chars, display_meta=each.meaning)

    session: PromptSession[str] = PromptSession(
        PROMPT,
        history=InMemoryHistory() if history is None else FileHistory(history),
        completer=Names(),
        complete_while_typing=True,
        bottom_toolbar=toolbar,
        reserve_space_for_menu=MENU_LINES,
        input=keyboard,
        output=screen,
    )
    read: Callable[[], Any] = session.prompt
    return lambda: str(read())


def plain_prompt() -> ReadLine:
    """Python's own, with what readline offers where it is there."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401, PLC0415 - importing it is what makes input() editable
    return lambda: input(PROMPT)
