"""All cleaners there are: built in, registered, declared by entry points, and those that merely exist."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from memcell.clean.available import available_cleaners, how_to_use
from memcell.clean.entry_points import EntryPointCleaners
from memcell.clean.functools_caches import PREFIX, cache_cleaner
from memcell.clean.registry import Registry, unknown_cleaner
from memcell.errors import UnknownCleanerError

if TYPE_CHECKING:
    from memcell.clean.cleaner import Cleaner
    from memcell.records.cleaned import CleanerInfo, Effect

#: What runs when nobody names cleaners. What the user could miss runs by name only.
DEFAULT_EFFECTS: frozenset[Effect] = frozenset({"none", "recompute"})
#: Names of memcell's own cleaners that are there only while a shell is; nobody else can register them.
SHELL_CLEANERS = ("out", "traceback")


class Catalogue:
    """Finds cleaners by name.

    Args:
        built_in: Lists memcell's own; the registry has their names reserved.
        registry: What users and libraries registered.
        entry_points: What libraries declared.
        present: Lists cleaners that come and go, such as those of shared objects; asked each time.
    """

    def __init__(
        self,
        built_in: Callable[[], Sequence[Cleaner]],
        registry: Registry,
        entry_points: EntryPointCleaners | None = None,
        present: Callable[[], Iterable[Cleaner]] = tuple,
    ) -> None:
        self._present = present
        self._built_in = built_in
        self._added: tuple[Cleaner, ...] = ()
        self._registry = registry
        self._entry_points = EntryPointCleaners() if entry_points is None else entry_points

    def extend(self, cleaners: Iterable[Cleaner]) -> Callable[[], None]:
        """Add cleaners of memcell's own for a while, such as those of a shell; of the same name the newest counts.

        Returns:
            What takes them out again. May be called twice.
        """
        added = tuple(cleaners)
        self._added += added

        def undo() -> None:
            self._added = tuple(cleaner for cleaner in self._added if not any(cleaner is one for one in added))

        return undo

    def infos(self) -> list[CleanerInfo]:
        """One line for each cleaner, in the order in which they would run, then those that are only available."""
        cleaners = self._cleaners()
        return [cleaner.info() for cleaner in _in_order(cleaners.values())] + self._available(cleaners.values())

    def names(self) -> list[str]:
        """The names that ``select`` takes and for which there is something to clean, for completion."""
        return [cleaner.name for cleaner in self._cleaners().values() if cleaner.is_ready]

    def select(self, names: Iterable[str] = (), *, deep: bool = False) -> list[Cleaner]:
        """The cleaners of a clean-up, in the order in which they run.

        Args:
            names: Exactly these; without any, all of effect ``none`` or ``recompute`` whose library is imported.
                ``lru:package.module.function`` stands for the cache of a function under ``functools.cache``.
            deep: Those of effect ``state`` that are meant for ``--deep`` as well, also beside names.

        Raises:
            UnknownCleanerError: One of the names is not known.
        """
        cleaners = self._cleaners()
        chosen = list(dict.fromkeys(names))
        for name in chosen:
            if name not in cleaners and name.startswith(PREFIX):
                cleaners[name] = cache_cleaner(name)
            elif name not in cleaners:
                raise UnknownCleanerError(self._unknown(name, cleaners.values()))
        selected = {name: cleaners[name] for name in chosen}
        for cleaner in cleaners.values():
            by_default = not chosen and cleaner.effect in DEFAULT_EFFECTS
            if cleaner.is_ready and (by_default or (deep and cleaner.deep)):
                selected.setdefault(cleaner.name, cleaner)
        return _in_order(selected.values())

    def _cleaners(self) -> dict[str, Cleaner]:
        known = (*self._built_in(), *self._added, *self._registry.cleaners(), *self._present())
        cleaners = {cleaner.name: cleaner for cleaner in known}
        cleaners.update((cleaner.name, cleaner) for cleaner in self._entry_points.cleaners(taken=cleaners))
        return cleaners

    def _available(self, cleaners: Iterable[Cleaner]) -> list[CleanerInfo]:
        known = set[str]()
        for cleaner in cleaners:
            known.update((cleaner.name, cleaner.owner, cleaner.library.partition(".")[0]))
        return available_cleaners(known)

    def _unknown(self, name: str, cleaners: Iterable[Cleaner]) -> str:
        if any(info.name == name for info in self._available(cleaners)):
            return (
                f"{name!r} has a clear_caches() of its own, which memcell never calls unasked; "
                f"if it should, write {how_to_use(name)}"
            )
        return unknown_cleaner(name, [cleaner.name for cleaner in cleaners])


def _in_order(cleaners: Iterable[Cleaner]) -> list[Cleaner]:
    return sorted(cleaners, key=lambda cleaner: cleaner.stage)
