"""Jobs, events, checkpoints and attempts as the wire shows them."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js
from luthier.core.states import AttemptEnd, EventType, Method

_METRICS = js.mapped(js.NUMBER) | {"description": "Figures by name: train_loss, full_valid_loss and the like."}


def job(dialect: Dialect) -> js.Schema:
    hyperparameters = _hyperparameters(dialect)
    supervised = js.thing({"hyperparameters": hyperparameters})
    dpo = js.thing({"hyperparameters": _hyperparameters(dialect, Method.DPO)})
    methods = (
        js.thing({"type": js.const("supervised"), "supervised": supervised}),
        js.thing({"type": js.const("dpo"), "dpo": dpo}),
    )
    fields: dict[str, js.Schema | js.Maybe | js.Optional] = {
        "id": js.TEXT,
        "object": js.const("fine_tuning.job"),
        "created_at": js.UNIX,
        "finished_at": js.Maybe(js.UNIX),
        "status": js.words(dialect.statuses.values()),
        "model": js.TEXT,
        "fine_tuned_model": js.Maybe(js.TEXT | {"description": "The model's name, once the job has succeeded."}),
        "training_file": js.TEXT,
        "validation_file": js.Maybe(js.TEXT),
        "result_files": js.listed(js.TEXT) if dialect.keeps_null else js.Maybe(js.listed(js.TEXT)),
        "trained_tokens": js.Maybe(js.WHOLE),
        "error": js.Maybe(js.thing({"code": js.TEXT, "message": js.TEXT, "param": js.or_null(js.TEXT)})),
        "estimated_finish": js.Maybe(js.UNIX),
        "hyperparameters": hyperparameters,
        "method": js.Maybe(js.either(*methods)),
        "seed": js.WHOLE,
        "suffix": js.Maybe(js.TEXT),
        "trainingType": js.Optional(js.TEXT),
        "integrations": js.Optional(js.listed(js.mapped(js.ANY))),
        "metadata": js.Optional(js.mapped(js.TEXT)),
        "early_stopping": js.Optional(js.thing({"patience": js.WHOLE})),
    }
    if dialect.keeps_null:
        fields |= {
            "organization_id": js.TEXT,
            "user_provided_suffix": js.Maybe(js.TEXT),
            "integrations": js.listed(js.mapped(js.ANY)),
            "metadata": js.Maybe(js.mapped(js.TEXT)),
        }
    return js.thing(fields, dialect.keeps_null, "A request for a fine-tuned model, and what became of it.")


def _hyperparameters(dialect: Dialect, method: Method = Method.SUPERVISED) -> js.Schema:
    """A number, or the dialect's word for what the service is still to choose (-1 is a number already)."""
    auto = [] if isinstance(dialect.auto, int) else [js.const(dialect.auto)]
    return js.thing(
        {
            "n_epochs": js.either(js.WHOLE, *auto),
            "batch_size": js.either(js.WHOLE, *auto),
            "learning_rate_multiplier": js.either(js.NUMBER, *auto),
        }
        | ({"beta": js.either(js.NUMBER, *auto)} if method is Method.DPO else {})
    )


def event(dialect: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("fine_tuning.job.event"),
            "created_at": js.UNIX,
            "level": js.words(dialect.levels.values()),
            "message": js.TEXT,
            "type": js.words(EventType),
            "data": js.Optional(_METRICS),
        },
        dialect.keeps_null,
    )


def checkpoint(_: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("fine_tuning.job.checkpoint"),
            "created_at": js.UNIX,
            "fine_tuned_model_checkpoint": js.TEXT | {"description": "The name by which it is deployed."},
            "step_number": js.WHOLE,
            "metrics": _METRICS,
            "fine_tuning_job_id": js.TEXT,
        },
        says="A deployable model after an epoch, or where the job was paused.",
    )


def attempt(dialect: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("fine_tuning.job.attempt"),
            "fine_tuning_job_id": js.TEXT,
            "number": js.WHOLE,
            "started_at": js.UNIX,
            "ended_at": js.Maybe(js.UNIX),
            "end": js.Maybe(js.words(AttemptEnd)),
            "message": js.Maybe(js.TEXT),
            "last_step": js.WHOLE,
        },
        dialect.keeps_null,
        "One start of a trainer at the job's run, and how it ended.",
    )
