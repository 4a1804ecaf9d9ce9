"""The names that a chat may call, and the system messages that tuned ones were trained with."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial

from luthier.core.models import Checkpoint, Deployment, File
from luthier.core.states import FileStatus
from luthier.data.jsonl import line_reader
from luthier.service.context import Context
from luthier.service.files import files as file_service
from luthier.store.queries import checkpoints, deployments, files, jobs

MAX_ROW_BYTES = 256 * 1024
"""A first row longer than this is not read."""
_SYSTEM_ROLES = ("system", "developer")


@dataclass(frozen=True, slots=True)
class ChatModels:
    """What answers chats: `deployments` by name, `tuned` newest first, and ready base models in the catalog's order.

    `checkpoints` are those of the deployments whose model is a tuned one, by the deployment's name.
    """

    deployments: list[Deployment]
    tuned: list[Checkpoint]
    bases: list[str]
    checkpoints: Mapping[str, Checkpoint]

    def checkpoint(self, name: str) -> Checkpoint | None:
        """The tuned model that a name leads to; None for a base model, and for a name that is not among these."""
        if name in self.checkpoints:
            return self.checkpoints[name]
        if any(deployment.name == name for deployment in self.deployments):
            return None
        return next((checkpoint for checkpoint in self.tuned if checkpoint.model == name), None)


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """The system message in the first row of a training file, with the model and the job that learned it."""

    text: str
    model: str
    job_id: str
    filename: str


def list_all(context: Context, resource_id: str) -> ChatModels:
    """Every name that POST /v1/chat/completions takes from the resource and whose weights are here, aliases left out.

    Embedding models are none of them, nor are deployments that do not answer yet.
    """
    answers = cache(partial(_answers, context))  # a look at the disk for each base model, not for each checkpoint
    with context.database.reading() as tx:
        deployed = [one for one in deployments.list_all(tx, resource_id) if one.served_model is not None]
        held = checkpoints.list_of_resource(tx, resource_id)
    tuned = [checkpoint for checkpoint in held if answers(checkpoint.base_model)]
    by_name = {checkpoint.model: checkpoint for checkpoint in tuned}
    return ChatModels(
        deployments=[one for one in deployed if one.served_model in by_name or answers(str(one.served_model))],
        tuned=sorted(tuned, key=lambda checkpoint: checkpoint.created_at, reverse=True),
        bases=[entry.name for entry in context.catalog.everything() if answers(entry.name)],
        checkpoints={one.name: by_name[str(one.served_model)] for one in deployed if one.served_model in by_name},
    )


def system_messages(context: Context, resource_id: str, named: Sequence[Checkpoint]) -> list[SystemMessage]:
    """The system messages of the first rows that these models were trained on, each text once, in their order.

    Nothing for a model of another resource's job, for a deleted file, and for a first row without such a message.
    """
    sources: list[tuple[Checkpoint, File]] = []
    with context.database.reading() as tx:
        for checkpoint in named:
            job = jobs.get(tx, resource_id, checkpoint.job_id)
            file = None if job is None else files.get(tx, resource_id, job.training_file, context.now())
            if file is not None and file.status is FileStatus.PROCESSED:
                sources.append((checkpoint, file))
    found: dict[str, SystemMessage] = {}
    for checkpoint, file in sources:
        text = _first_system_message(context, file)
        if text:
            found.setdefault(text, SystemMessage(text, checkpoint.model, checkpoint.job_id, file.filename))
    return list(found.values())


def _answers(context: Context, base_model: str) -> bool:
    """Whether a base model of that name generates text and is on this machine."""
    entry = context.catalog.find(base_model)
    return entry is not None and not entry.embeds and context.is_ready(entry.name)


def _first_system_message(context: Context, file: File) -> str | None:
    """The system message of a file's first row; None without one, and for a row that cannot be read."""
    length = min(file.bytes, MAX_ROW_BYTES)
    try:
        return _system_message(context.blobs.open(file_service.blob_key(file.id), 0, length))
    except FileNotFoundError:
        return None


def _system_message(chunks: Iterable[bytes]) -> str | None:
    """The content of the first message of the first row, if it is a text and the system's."""
    line = next(line_reader.read_lines(chunks), None)
    try:
        row = json.loads(line.content) if line is not None else None
    except ValueError:  # cut, or another form: the report on the file tells of it
        return None
    holder = row.get("input", row) if isinstance(row, dict) else None
    messages = holder.get("messages") if isinstance(holder, dict) else None
    first = messages[0] if isinstance(messages, list) and messages else None
    if not isinstance(first, dict) or first.get("role") not in _SYSTEM_ROLES:
        return None
    content = first.get("content")
    return content if isinstance(content, str) else None
