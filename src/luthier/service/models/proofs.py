"""Proofs that served = trained: a loaded model's own probes, and those of others beside it.

Used by `serving`, which loads models and asks for their proof once.
"""

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from luthier.core.engine_ports import Address, Engine, ParityCheck, ParityReport, ServedModel

logger = logging.getLogger(__name__)

THREADS = 4
"""Models that are asked beside the one that is proven, at a time: engines compute such probes side by side."""


@dataclass(frozen=True, slots=True)
class Proof:
    """The report on a model, and those on others on the same base that were asked while it was loaded."""

    report: ParityReport
    beside: tuple[ParityReport, ...] = ()


class Proofs:
    """Which models agree with their trainer, as far as this process has asked. Safe to call from several threads."""

    def __init__(self, engine: Engine, check_parity: ParityCheck) -> None:
        """Nothing is proven yet."""
        self._engine = engine
        self._check_parity = check_parity
        self._proven: dict[str, ServedModel] = {}
        self._threads = ThreadPoolExecutor(THREADS, "isolation")

    def holds(self, name: str) -> bool:
        """Whether the model was proven, and not forgotten since."""
        return name in self._proven

    def forget(self, name: str) -> None:
        """The model must be proven anew; one that never was is no error."""
        self._proven.pop(name, None)

    def prove(self, served: ServedModel, address: Address, logged_id: str, beside_all: bool = False) -> Proof:
        """Asks the model its probes, and others on its base at the same time; remembers it if all agree.

        Of others one probe each is asked of the base and of the model that was proven last, which would show a weight
        that leaks; with `beside_all` all probes of all. Where one of them no longer agrees, the report says so and the
        model is released. Raises Unavailable if the engine does not answer.
        """
        others = self._beside(served, beside_all)
        checks = [self._threads.submit(self._check_other, other, beside_all) for other in others]
        report = self._check_parity(address, served.adapter_folder or served.base_folder)
        found = [check.result() for check in checks]
        logger.info(
            "parity model=%s agrees=%s max=%.5f mean=%.5f positions=%d tolerance=%g beside=%d",
            logged_id,
            report.agrees,
            report.max_difference,
            report.mean_difference,
            report.positions,
            report.tolerance,
            len(others),
        )
        beside = tuple(each for each in found if each is not None)
        if report.agrees and (changed := next((each for each in beside if not each.agrees), None)) is not None:
            self._engine.release(served.id)
            logger.error("isolation failed beside=%s", logged_id)
            reason = f"Another model on the same base no longer answers as trained beside it. {changed.reason}"
            report = replace(report, agrees=False, reason=reason)
        if report.agrees:
            self._proven[served.id] = served
        return Proof(report, beside)

    def _beside(self, served: ServedModel, all_of_them: bool) -> Sequence[ServedModel]:
        """Proven models on the same base, the latest last: all, or the base itself and the last."""
        others = [other for other in list(self._proven.values()) if other.base_folder == served.base_folder]
        others = [other for other in others if other.id != served.id]
        if all_of_them:
            return others
        return [other for place, other in enumerate(others, 1) if other.adapter_folder is None or place == len(others)]

    def _check_other(self, other: ServedModel, all_probes: bool) -> ParityReport | None:
        """The report on a model beside, by one probe or all; None if it is not loaded now."""
        address = self._engine.loaded(other)
        if address is None:
            return None
        return self._check_parity(address, other.adapter_folder or other.base_folder, None if all_probes else 1)
