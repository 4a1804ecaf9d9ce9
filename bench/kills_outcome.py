"""What a job ended in: the bytes of its checkpoints and results, and what its events told."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from bench.kills_target import Target
from luthier.core.states import JobStatus


@dataclass(frozen=True, slots=True)
class Outcome:
    """`files` are the sha256 of every file of every checkpoint kept, and of results.csv, by step and name.

    The job's id is left out of what is hashed: it alone may differ.
    """

    status: str
    files: Mapping[str, str]
    steps_in_results: tuple[int, ...]
    messages: Counter[str]

    @property
    def step_messages(self) -> list[str]:
        return sorted(message for message in self.messages if message.startswith(("Step ", "Checkpoint ")))


def outcome_of(target: Target, job_id: str) -> Outcome:
    jobs = target.client.fine_tuning.jobs
    job = jobs.retrieve(job_id)
    messages = Counter(event.message for event in jobs.list_events(job_id, limit=100))
    files = {}
    for checkpoint in jobs.checkpoints.list(job_id):
        for path in sorted((target.data / "blobs" / "checkpoints" / checkpoint.id).iterdir()):
            if "#" in path.name:
                continue  # half a put, cut short by a kill: cleared at the service's next start, and never served
            content = path.read_bytes().replace(job_id.encode(), b"JOB")  # manifest and card name their job
            files[f"step {checkpoint.step_number} {path.name}"] = hashlib.sha256(content).hexdigest()
    steps: tuple[int, ...] = ()
    for file_id in job.result_files:
        content = target.client.files.content(file_id).read()
        files["results.csv"] = hashlib.sha256(content).hexdigest()
        steps = tuple(int(line.split(b",")[0]) for line in content.splitlines()[1:])
    status = str(job.status) if job.error is None or not job.error.code else f"{job.status}: {job.error.message}"
    return Outcome(status, files, steps, messages)


def same(found: Outcome, calm: Outcome) -> list[str]:
    """Where a job differs from the undisturbed one, in words; none is the aim."""
    problems = []
    if found.status != JobStatus.SUCCEEDED:
        problems.append(f"ended as {found.status}")
    if found.files != calm.files:
        differing = sorted(dict(found.files.items() ^ calm.files.items()))
        problems.append(f"{len(differing)} files differ: {', '.join(differing[:5])}")
    if found.steps_in_results != tuple(range(1, len(calm.steps_in_results) + 1)):
        problems.append("results.csv does not hold every step once")
    if found.step_messages != calm.step_messages:
        problems.append("its events tell other steps or figures")
    problems += [f"event told {count} times: {text}" for text, count in found.messages.items() if count > 1]
    return problems
