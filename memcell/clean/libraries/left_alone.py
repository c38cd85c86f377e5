"""What a cleaner says when it did its work, save for something that the user would lose."""

from __future__ import annotations

from memcell.errors import MemcellError


class LeftAloneError(MemcellError):
    """Raised at the end of a cleaner for what it did not touch; the message says why and what to do."""
