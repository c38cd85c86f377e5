"""Give memory back: named clear-callbacks, garbage collection and heap trim, and what each of them measurably freed."""

from __future__ import annotations
