"""What a job's run needs of a node: by the catalog's recipe for its base model, and the estimate of its memory."""

from luthier.catalog import Catalog
from luthier.core.models import Job
from luthier.core.training.executor_port import ONE_CPU, RunNeeds


class NeedsOfJobs:
    """The needs by base model, looked up in the catalog once for all jobs of a tick.

    The recipe is for one of the `ranks` of a run: a run of several needs as many times all of it, on one node.
    """

    def __init__(self, catalog: Catalog, ranks: int = 1) -> None:
        self._catalog = catalog
        self._ranks = ranks
        self._by_model: dict[str, tuple[RunNeeds, bool]] = {}

    def of(self, job: Job) -> RunNeeds:
        """The needs of a job's run."""
        return self.by_estimate(job.base_model, job.peak_memory_bytes)

    def by_estimate(self, base_model: str, peak_memory_bytes: int | None) -> RunNeeds:
        """The needs: the recipe's memory if it names one, else the estimate, 0 without one."""
        needs = self._recipe(base_model)[0]
        memory_bytes = needs.memory_bytes or peak_memory_bytes or 0
        if self._ranks == 1 and memory_bytes == needs.memory_bytes:
            return needs
        ranks = self._ranks
        return RunNeeds(needs.cpus * ranks, needs.gpus * ranks, memory_bytes * ranks, needs.labels)

    def threads(self, base_model: str) -> int | None:
        """A trainer's threads where the operator has set none: as many as the recipe has CPUs; None without a recipe's
        number: one per core.
        """
        needs, has_cpus = self._recipe(base_model)
        return max(1, int(needs.cpus)) if has_cpus else None

    def _recipe(self, base_model: str) -> tuple[RunNeeds, bool]:
        """The recipe's needs, and whether it names a number of CPUs."""
        if base_model not in self._by_model:
            entry = self._catalog.find(base_model)
            if entry is None or entry.needs is None:
                self._by_model[base_model] = ONE_CPU, False
            else:
                self._by_model[base_model] = entry.needs.of_run, entry.needs.cpus is not None
        return self._by_model[base_model]
