"""Whether verdicts and culprits are right, in real kernels, on cells whose behaviour is known.

``python -m benchmarks.proof PATH… [--only NAME…] [--results FILE] [--write]``. Each file is Python and has a list
``CASES`` in the form that ``benchmarks.proof_cells`` shows (that of ``benchmarks.cases``, with ``label``, ``mb`` and
``trap``). Each case runs twelve times in two fresh kernels with memcell loaded: in one ``memcell.leaks()`` is asked
after every run, with a pause between runs as people make it; in the other once, after twelve runs without a pause.
"""

from __future__ import annotations

import argparse
import json
import runpy
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.fresh import FreshCallError, call
from benchmarks.kernels import measured_kernel
from benchmarks.report import is_installed, put_between, table
from benchmarks.scoring import Score, of_no_leak, score
from memcell.runs import hash_source

_PAGE = Path(__file__).parents[1] / "docs" / "proof.md"
_RUNS = 12
#: The pause of somebody who looks at the result before running the cell again.
_PAUSE_S = 1.0
_TIMEOUT_S = 900.0
#: Kernels at once: more would wait for one another, and noise of a busy machine is what the detector has to stand.
_AT_ONCE = 2
_WAYS = ("each", "once")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.proof", description=__doc__)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="Python files with CASES")
    parser.add_argument("--only", nargs="*", metavar="NAME", help="run only these cases")
    parser.add_argument("--results", metavar="FILE", help="keep answers in this file, and take from it what is not run")
    parser.add_argument("--write", action="store_true", help=f"put the tables into docs/{_PAGE.name}")
    options = parser.parse_args()
    paths = [Path(path).resolve() for path in options.paths]
    cases = [(path, case) for path in paths for case in runpy.run_path(str(path))["CASES"]]
    if unknown := set(options.only or ()) - {case["name"] for _, case in cases}:
        parser.error(f"no case {sorted(unknown)[0]!r}; there are: {', '.join(case['name'] for _, case in cases)}")
    kept = Path(options.results) if options.results else None
    answers: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept and kept.exists() else {}
    wanted = [(path, case) for path, case in cases if options.only is None or case["name"] in options.only]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        for name, answer in pool.map(_answered, wanted):
            answers[name] = answer
            print(_line(name, answer), file=sys.stderr, flush=True)
            if kept:
                kept.write_text(json.dumps(answers, indent=1), encoding="utf-8")
    for path in paths:
        text = _section([case for of, case in cases if of == path], answers)
        print(text)
        if options.write:
            put_between(_PAGE, f"<!-- {path.name}:begin -->", f"<!-- {path.name}:end -->", f"\n{text}\n")


def _answered(wanted: tuple[Path, Mapping[str, Any]]) -> tuple[str, dict[str, Any]]:
    """What memcell said of a case in each way, or why it could not run."""
    path, case = wanted
    if missing := [need for need in case["requires"] if not is_installed(need)]:
        return case["name"], {"error": f"{', '.join(missing)} is not installed"}
    answer: dict[str, Any] = {}
    for way in _WAYS:
        try:
            answer[way] = call(ask, str(path), case["name"], way, timeout_s=_TIMEOUT_S)
        except FreshCallError as error:
            return case["name"], {"error": str(error)}
    return case["name"], answer


# In a process of its own


def ask(path: str, name: str, way: str) -> list[dict[str, Any] | None]:
    """The verdicts on a case's cell in a fresh kernel: after each run, or the last one only."""
    case = next(case for case in runpy.run_path(path)["CASES"] if case["name"] == name)
    verdicts: list[dict[str, Any] | None] = []
    with measured_kernel() as kernel:
        kernel.must("%load_ext memcell")
        kernel.must("import memcell")
        kernel.must(case["setup"])
        for number in range(1, _RUNS + 1):
            kernel.must(case["cell"])
            if way == "each":
                time.sleep(_PAUSE_S)
            if way == "each" or number == _RUNS:
                kernel.must("verdicts = memcell.leaks()")
                told = json.loads(kernel.value("__import__('json').dumps([one.to_dict() for one in verdicts])"))
                verdicts.append(next((one for one in told if one["cell"] == hash_source(case["cell"])), None))
    return verdicts


# The page


def _section(cases: Sequence[Mapping[str, Any]], answers: Mapping[str, Any]) -> str:
    rows, scores = [], {way: [] for way in _WAYS}
    for case in cases:
        answer = answers.get(case["name"], {"error": "not run"})
        if "error" in answer:
            rows.append([f"`{case['name']}`", case["label"], *[""] * 6, f"not run: {answer['error'][:80]}"])
            continue
        for way in _WAYS:
            scores[way].append(score(case, answer[way]))
        rows.append(_row(case, answer, scores["each"][-1], scores["once"][-1]))
    columns = ["case", "label", "verdict", "asked once", "MiB a run", "first right", "culprit", "asked once", ""]
    return "\n\n".join([_summary(scores), table(columns, rows)])


def _summary(scores: Mapping[str, Sequence[Score]]) -> str:
    rows = []
    for way, heading in (("each", "asked after each run"), ("once", "asked once after twelve")):
        of = scores[way]
        leaks = [one for one in of if one.is_leak]
        said = [one for one in of if one.says_leak]
        culprits = [one for one in leaks if one.culprit is not None]
        firsts = [one.first_right for one in leaks if one.first_right]
        rows.append(
            [
                heading,
                f"{sum(one.is_right for one in of)} of {len(of)}",
                _ratio(sum(one.is_leak for one in said), len(said)),
                _ratio(sum(one.says_leak for one in leaks), len(leaks)),
                f"{sum(one.is_exact for one in of)} of {len(of)}",
                f"{sum(one.metric_right for one in leaks)} of {len(leaks)}",
                f"{sum(one.rate_right is True for one in leaks)} of {sum(one.rate_right is not None for one in leaks)}",
                f"{sum(one.culprit == 'exact' for one in culprits)} of {len(culprits)}",
                f"{sum(one.culprit in ('exact', 'last part') for one in culprits)} of {len(culprits)}",
                f"{statistics.median(firsts):.0f} (at most {max(firsts)})" if way == "each" and firsts else "",
                str(sum(one.alarms > 0 for one in of_no_leak(of))) if way == "each" else "",
            ]
        )
    columns = ["", "labels right", "precision", "recall", "kind right", "metric right", "rate within 25 %"]
    columns += ["culprit by its exact name", "or its last part", "first right verdict, median run", "ever alarmed"]
    turned = list(zip(columns, *rows, strict=True))
    return table(turned[0], turned[1:])


def _row(case: Mapping[str, Any], answer: Mapping[str, Any], each: Score, once: Score) -> list[str]:
    last, asked_once = answer["each"][-1] or {}, answer["once"][-1] or {}
    rate = f"{last.get('bytes_per_run', 0) / 2**20:.2f}" if each.says_leak else ""
    known = f" ({case['mb']:g})" if case["mb"] and each.is_leak else ""
    return [
        f"`{case['name']}`",
        case["label"],
        _marked(last.get("kind", "none"), each.is_right),
        _marked(asked_once.get("kind", "none"), once.is_right),
        rate + known,
        f"run {each.first_right}" if each.first_right else "",
        _culprit(last, each),
        _culprit(asked_once, once),
        "" if each.metric_right and once.metric_right else f"metric: {last.get('metric')}",
    ]


def _culprit(verdict: Mapping[str, Any], scored: Score) -> str:
    if not scored.is_leak or not scored.says_leak:
        return ""
    names = [one["name"] for one in verdict["culprits"]]
    return _marked(f"`{names[0]}`" if names else "none", scored.culprit != "wrong")


def _marked(text: str, is_right: bool) -> str:
    return text if is_right else f"**{text}**"


def _ratio(part: int, whole: int) -> str:
    return f"{part / whole:.2f} ({part} of {whole})" if whole else "none"


def _line(name: str, answer: Mapping[str, Any]) -> str:
    if "error" in answer:
        return f"{name}: {answer['error']}"
    told = []
    for way in _WAYS:
        last = answer[way][-1] or {}
        first = [one["name"] for one in last.get("culprits", ())][:2]
        told.append(f"{last.get('kind')} {last.get('metric')} {last.get('bytes_per_run', 0) / 2**20:.2f} {first}")
    kinds = "".join((one or {"kind": "-"})["kind"][0] for one in answer["each"])
    return f"{name}: {kinds} | {' | '.join(told)}"


if __name__ == "__main__":
    # Under its own name, by which the fresh processes find its function.
    from benchmarks import proof

    proof.main()
