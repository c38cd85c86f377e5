"""Show me: lines, tables, pictures and pages, all made from plain records."""

from __future__ import annotations
