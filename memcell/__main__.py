"""``python -m memcell``: the same as the ``memcell`` command."""

from __future__ import annotations

from memcell.cli import main

raise SystemExit(main())
