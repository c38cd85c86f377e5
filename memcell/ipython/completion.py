"""Tab completion of cleaner names and options after ``%memclean``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from IPython.core.completer import CompletionContext, SimpleCompletion, context_matcher

_CALL = re.compile(r"\s*%?memclean(?:\s+\S+)*\s+(\S*)")


def make_cleaner_matcher(
    names: Callable[[], list[str]], options: list[str]
) -> Callable[[CompletionContext], dict[str, Any]]:
    """A matcher for IPython's completer that offers names and options on a ``%memclean`` line."""

    @context_matcher()
    def match_cleaners(context: CompletionContext) -> dict[str, Any]:
        call = _CALL.fullmatch(context.text_until_cursor)
        if call is None:
            return {"completions": []}
        typed = call[1]
        candidates = options if typed.startswith("-") else names()
        return {
            "completions": [SimpleCompletion(text, type="cleaner") for text in candidates if text.startswith(typed)],
            # The whole word: IPython's own splitter would cut a name at its hyphen.
            "matched_fragment": typed,
            "suppress": True,
        }

    return match_cleaners  # type: ignore[no-any-return] # the decorator has no types
