"""MLflow: a run for each job on a tracking server, by seven calls of its REST API.

MLflow appends metrics and knows no idempotent call, so whatever may have been sent before is looked up first.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from luthier.core.errors import NotFound, UpstreamFailed
from luthier.core.states import SinkName, TrackedStatus
from luthier.core.training.tracking import Delivery, MlflowTarget, TrackedEnd, TrackedPoint, TrackedRun
from luthier.trackers.mlflow_rest import MlflowRest

JOB_TAG = "luthier.job_id"
METRICS_AT_ONCE = 1000
"""MLflow's limit for one log-batch; that of params is 100."""
HISTORY_PAGE = 1000
_Metric = dict[str, Any]


class MlflowSink:
    """Runs of jobs in one experiment, which is created at the first. A run is found again by a tag with its job's id.

    `_sure` are the jobs whose last delivery was answered: of others it is looked up what the server has.
    """

    def __init__(self, target: MlflowTarget, project: str, timeout_s: float) -> None:
        """Connects to nothing. `project` is the experiment's name."""
        self._rest = MlflowRest(target, timeout_s)
        self._project = project
        self._experiment: str | None = None
        self._sure: set[str] = set()
        self._lock = threading.Lock()

    @property
    def name(self) -> SinkName:
        """MLflow."""
        return SinkName.MLFLOW

    def deliver(self, run: TrackedRun, points: Sequence[TrackedPoint], end: TrackedEnd | None) -> Delivery:
        """Sends what the run on the server lacks. Raises as `MlflowRest`."""
        with self._lock:
            is_sure = run.job_id in self._sure
            self._sure.discard(run.job_id)
        experiment = self._experiment_id()
        run_id = run.run_id or self._run_id(experiment, run)
        metrics = [_metric(point, name, value) for point in points for name, value in point.figures.items()]
        params = {} if is_sure else dict(run.params)
        if not is_sure:
            metrics = self._missing(run_id, metrics)
        params |= end.params if end is not None else {}
        self._log(run_id, (), params)
        for start in range(0, len(metrics), METRICS_AT_ONCE):
            self._log(run_id, metrics[start : start + METRICS_AT_ONCE], {})
        if end is not None:
            self._end(run_id, end.status, end.at)
        with self._lock:
            self._sure.add(run.job_id)
        place = f"{self._rest.uri}/#/experiments/{experiment}/runs/{run_id}"
        return Delivery(run_id, place, points[-1].seq if points else 0)

    def forget(self, job_id: str) -> None:
        """Drops what is known of the job's run; the run stays."""
        with self._lock:
            self._sure.discard(job_id)

    def close(self) -> None:
        """Closes the connections."""
        self._rest.close()

    def _experiment_id(self) -> str:
        """The experiment of the project's name, created if there is none."""
        if self._experiment is None:
            try:
                answer = self._rest.get("experiments/get-by-name", experiment_name=self._project)
                self._experiment = _text(answer.get("experiment"), "experiment_id")
            except NotFound:
                answer = self._rest.post("experiments/create", {"name": self._project})
                self._experiment = _text(answer, "experiment_id")
        return self._experiment

    def _run_id(self, experiment: str, run: TrackedRun) -> str:
        """The run with the job's tag, created if there is none: a crash may have come between its creation and the
        answer.
        """
        query = {"experiment_ids": [experiment], "filter": f"tags.`{JOB_TAG}` = '{run.job_id}'", "max_results": 1}
        for known in self._rest.post("runs/search", query).get("runs") or ():
            return _text(known.get("info"), "run_id")
        tags = {JOB_TAG: run.job_id, "mlflow.runName": run.job_id, "mlflow.source.name": "luthier"}
        body = {
            "experiment_id": experiment,
            "run_name": run.job_id,
            "start_time": _milliseconds(run.started_at),
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        created = self._rest.post("runs/create", body).get("run")
        return _text(created.get("info") if isinstance(created, dict) else None, "run_id")

    def _missing(self, run_id: str, metrics: Sequence[_Metric]) -> list[_Metric]:
        """The metrics that the run does not have. Of a metric whose latest step is before these nothing can be there,
        since all are sent in the order of steps.
        """
        run = self._rest.get("runs/get", run_id=run_id).get("run")
        data = run.get("data", {}) if isinstance(run, dict) else {}
        latest = {metric["key"]: int(metric.get("step", 0)) for metric in data.get("metrics", ())}
        first: dict[str, int] = {}
        for metric in metrics:
            first.setdefault(metric["key"], metric["step"])
        stored = {key: self._steps(run_id, key) for key, step in first.items() if latest.get(key, -1) >= step}
        return [metric for metric in metrics if metric["step"] not in stored.get(metric["key"], ())]

    def _steps(self, run_id: str, key: str) -> set[int]:
        """The steps at which the run has a value of the metric."""
        steps, token = set[int](), ""
        while True:
            more = {"page_token": token} if token else {}
            page = self._rest.get(
                "metrics/get-history", run_id=run_id, metric_key=key, max_results=HISTORY_PAGE, **more
            )
            steps |= {int(metric.get("step", 0)) for metric in page.get("metrics") or ()}
            if not page.get("metrics") or page.get("next_page_token", "") in ("", token):
                return steps
            token = page["next_page_token"]

    def _log(self, run_id: str, metrics: Sequence[_Metric], params: Mapping[str, str]) -> None:
        """One batch; none if it would be empty."""
        named = [{"key": key, "value": value[:6000]} for key, value in params.items()]
        if metrics or named:
            self._rest.post("runs/log-batch", {"run_id": run_id, "metrics": list(metrics), "params": named})

    def _end(self, run_id: str, status: TrackedStatus, at: datetime) -> None:
        """Writes how the run ended; the same again changes nothing."""
        self._rest.post("runs/update", {"run_id": run_id, "status": str(status), "end_time": _milliseconds(at)})


def _metric(point: TrackedPoint, name: str, value: float) -> _Metric:
    """A metric of log-batch. Its time is that of the event, at every try, and a store with SQL keeps one of two equal
    rows. Protobuf's JSON has words for what is not finite.
    """
    number: float | str = value
    if not math.isfinite(value):
        number = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return {"key": name, "value": number, "timestamp": _milliseconds(point.at), "step": point.step}


def _milliseconds(at: datetime) -> int:
    return int(at.timestamp() * 1000)


def _text(value: object, field: str) -> str:
    """A text field of an answer's object. Raises UpstreamFailed where it is missing: that is not MLflow."""
    found = value.get(field) if isinstance(value, dict) else None
    if not isinstance(found, str):
        raise UpstreamFailed("sink_answer", f"MLflow's answer lacks {field}.")
    return found
