"""The table: medians over the rounds with their least and greatest, ratios within each round."""

import os
from collections import defaultdict
from pathlib import Path
from statistics import median

from bench.serving.lines import LINES, Figure, Found
from bench.serving.opened import BARE_LLAMACPP, BARE_NATIVE, LLAMACPP, NAMES, NATIVE

HEAD = (
    "Medians of the rounds with [min, max]. Ratio: native to llama.cpp; native to bare llama.cpp. Rates and ratios "
    "are of the same round."
)
_FLAGS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
_NO_FIGURE = "-"


class Results:
    """Figures by target and round; a target without figures of a line has its reason."""

    def __init__(self) -> None:
        self._found: dict[str, dict[int, Found]] = defaultdict(lambda: defaultdict(dict))
        self._failures: dict[tuple[str, int], str] = {}
        self._closed: dict[str, str] = {}

    def add(self, name: str, number: int, found: Found) -> None:
        self._found[name][number].update(found)

    def fail(self, name: str, line: int, reason: str) -> None:
        self._failures[name, line] = reason

    def close(self, name: str, reason: str) -> None:
        """The target could not be started."""
        self._closed[name] = reason

    def rows(self, line: int, figure: Figure) -> list[str]:
        """The figure's own row and those that compare with the bare engines."""
        values = {name: self._of(name, figure.key) for name in NAMES}
        cells = [self._cell(name, line, values[name], figure.digits) for name in NAMES]
        rows = [row(f"{line}. {figure.title}", *cells, self._ratios(values))]
        pairs = ((NATIVE, BARE_NATIVE), (LLAMACPP, BARE_LLAMACPP))
        if figure.share_of_bare:
            shares = [_written(_each(values[own], values[bare], False), 2) for own, bare in pairs]
            rows.append(row("   the service's share of its bare engine", *shares, "", "", ""))
        if figure.above_bare:
            more = [_written(_each(values[own], values[bare], True), figure.digits) for own, bare in pairs]
            rows.append(row("   the service's more than its bare engine", *more, "", "", ""))
        return rows

    def _of(self, name: str, key: str) -> dict[int, float]:
        return {number: found[key] for number, found in self._found[name].items() if key in found}

    def _cell(self, name: str, line: int, values: dict[int, float], digits: int) -> str:
        if name in (BARE_LLAMACPP, BARE_NATIVE) and LINES[line].of_services:
            return _NO_FIGURE
        if name in self._closed:
            return f"failed: {self._closed[name]}"
        reason = self._failures.get((name, line))
        if reason is None:
            return _written(list(values.values()), digits)
        return f"{_written(list(values.values()), digits)}, failed: {reason}" if values else f"failed: {reason}"

    @staticmethod
    def _ratios(values: dict[str, dict[int, float]]) -> str:
        others = [_each(values[NATIVE], values[other], False) for other in (LLAMACPP, BARE_LLAMACPP)]
        return "; ".join(_ratio(median(each)) if each else _NO_FIGURE for each in others)


def row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def head(divide: int) -> list[str]:
    """What stands above the rows."""
    less = f" Every number of tokens and adapters was divided by {divide}." if divide > 1 else ""
    return [machine(), "", HEAD + less, "", row("figure", *NAMES, "ratio"), "|---" * (len(NAMES) + 2) + "|"]


def machine() -> str:
    """The processor's name, its cores, and which of the instructions it has that matter here."""
    facts: dict[str, str] = {}
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        facts.setdefault(name.strip(), value.strip())
    flags = facts.get("flags", "").split()
    has = ", ".join(flag for flag in _FLAGS if flag in flags) or "none of " + ", ".join(_FLAGS)
    load = os.getloadavg()[0]
    return f"{facts.get('model name', 'unknown')}, {os.cpu_count()} cores, {has}; load at the start {load:.1f}"


def _ratio(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _each(ours: dict[int, float], theirs: dict[int, float], differs: bool) -> list[float]:
    rounds = [number for number in ours if number in theirs]
    if differs:
        return [ours[number] - theirs[number] for number in rounds]
    return [ours[number] / theirs[number] for number in rounds if theirs[number]]


def _written(values: list[float], digits: int) -> str:
    if not values:
        return _NO_FIGURE
    middle, least, most = (f"{value:,.{digits}f}" for value in (median(values), min(values), max(values)))
    return middle if len(values) == 1 else f"{middle} [{least}, {most}]"
