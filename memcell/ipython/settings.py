"""The settings as traitlets: ``%config Memcell`` lists them, ``ipython_config.py`` sets them."""

from __future__ import annotations

import logging
import math
from typing import Any, cast

from traitlets import Bool, Enum, Float, Int, TraitError, Unicode, Union, observe, validate
from traitlets.config import Configurable

from memcell.errors import InvalidSizeError
from memcell.protect.policy import AutoClean, Thresholds
from memcell.session import Session, Settings
from memcell.units import parse_size

logger = logging.getLogger("memcell")

_DEFAULTS = Settings()
_SESSION_SETTINGS = ["limit", "exact_peak", "history_size", "sample_interval_s", "end_children", "blackbox"]


class Memcell(Configurable):
    """Settings of the memcell extension."""

    show = Enum(
        ("notable", "always", "never"),
        default_value="notable",
        help="Which cells say a line about their memory: those that keep or peak above 32 MiB, all, or none.",
    ).tag(config=True)
    limit = Union(
        [Int(), Unicode()],
        default_value=_DEFAULTS.limit,
        help="""The memory limit of the session: 'auto' (the lowest of control group, host, resource limits and the
        environment variable MEM_LIMIT), a size such as '8GB' (10⁹ bytes) or '8GiB' (2³⁰), or 'off'.""",
    ).tag(config=True)
    exact_peak = Bool(
        _DEFAULTS.exact_peak,
        help="""Reset the kernel's high-water mark for each run, so that its peak is exact (Linux). This lowers the
        ru_maxrss that getrusage() tells; switch it off if your own code reads that.""",
    ).tag(config=True)
    history_size = Int(_DEFAULTS.history_size, min=1, help="How many runs are kept in memcell.history().").tag(
        config=True
    )
    sample_interval_s = Float(
        _DEFAULTS.sample_interval_s,
        min=0.005,
        max=60.0,
        help="How often the memory is sampled during a run, in seconds, for its curve and the peak of its children.",
    ).tag(config=True)

    auto_clean = Enum(
        ("pressure", "growth", "always", "never"),
        default_value=_DEFAULTS.thresholds.auto_clean,
        help="""When to run the cleaners of effect none and recompute without being asked: under memory pressure that
        this kernel can relieve (and before a cell whose last peak would not fit), also when a re-run cell grows, after
        every run, or never.""",
    ).tag(config=True)
    auto_clean_every = Int(
        _DEFAULTS.thresholds.every, min=0, help="Run the cleaners after this many runs in any case; 0 for never."
    ).tag(config=True)
    after_run = Enum(
        ("keep", "reset"),
        default_value="keep",
        help="""'reset' is for executors of foreign code: after every run, failed or not, its variables, displayed
        values, tracebacks and modules go.""",
    ).tag(config=True)
    warn_fraction = Float(
        _DEFAULTS.thresholds.warn_fraction, min=0.05, max=1.0, help="Warn when this part of the limit is in use."
    ).tag(config=True)
    clean_fraction = Float(
        _DEFAULTS.thresholds.clean_fraction,
        min=0.05,
        max=1.0,
        help="Under auto_clean='pressure', clean when this part of the limit is in use.",
    ).tag(config=True)
    limit_fraction = Float(
        _DEFAULTS.thresholds.limit_fraction,
        min=0.05,
        max=1.0,
        help="""A cell is stopped at this part of the limit, or a bit below a limit that kills (%memlimit says where);
        and a cell fits if its last peak stays below it, as memcell.fits() asks.""",
    ).tag(config=True)

    end_children = Bool(
        True,
        help="""When the kernel ends, end the processes that its cells started, children before parents: SIGTERM, then
        SIGKILL. Those that were detached on purpose stay (nohup, or a session of their own); %memprocs lists them.""",
    ).tag(config=True)
    blackbox = Bool(
        _DEFAULTS.blackbox,
        help="""If the kernel dies, leave a small file in your state folder that tells what it ran, with its source, and
        how its memory went; the next %load_ext memcell says so, and `memcell postmortem` shows it (Linux). An orderly
        end leaves nothing.""",
    ).tag(config=True)

    def __init__(self, *, session: Session, **traits: Any) -> None:
        self._session = session
        super().__init__(**traits, **session.chosen_settings)  # which go before what a configuration file says
        self.observe(self._remember, self.trait_names(config=True))
        self._session.configure(thresholds=self._thresholds(), **{n: getattr(self, n) for n in _SESSION_SETTINGS})

    def _thresholds(self) -> Thresholds:
        return Thresholds(
            auto_clean=cast(AutoClean, self.auto_clean),
            every=self.auto_clean_every,
            warn_fraction=self.warn_fraction,
            clean_fraction=self.clean_fraction,
            limit_fraction=self.limit_fraction,
        )

    def _remember(self, change: Any) -> None:
        self._session.chosen_settings[change["name"]] = change["new"]

    @validate("limit")
    def _readable_limit(self, proposal: Any) -> int | str:
        value = proposal["value"]
        if value in ("auto", "off"):
            return str(value)
        try:
            return parse_size(value)
        except InvalidSizeError as error:
            raise TraitError(f"Memcell.limit: {error}; or 'auto' or 'off'") from None

    @validate("sample_interval_s", "warn_fraction", "clean_fraction", "limit_fraction")
    def _finite(self, proposal: Any) -> float:
        if math.isnan(proposal["value"]):  # which passes every comparison with a minimum
            raise TraitError(f"Memcell.{proposal['trait'].name}: nan is not a number to measure with")
        return float(proposal["value"])

    @observe(*_SESSION_SETTINGS)
    def _hand_over(self, change: Any) -> None:
        self._session.configure(**{change["name"]: change["new"]})
        if change["name"] == "limit" and isinstance(change["new"], int):
            problem = self._session.limits.problem(change["new"])
            if problem is not None:  # %memlimit refuses it; a configuration file cannot know what will be in use
                logger.warning("memcell: Memcell.limit is set, and a cell that grows will be stopped: %s", problem)

    @observe("auto_clean", "auto_clean_every", "warn_fraction", "clean_fraction", "limit_fraction")
    def _hand_over_thresholds(self, _change: Any) -> None:
        self._session.configure(thresholds=self._thresholds())
