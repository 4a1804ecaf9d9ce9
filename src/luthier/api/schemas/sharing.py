"""What the wire says of a checkpoint that other resources may use (OpenAI), or have (Azure)."""

from luthier.api.dialects import Dialect
from luthier.api.schemas import json_schema as js


def permission(_: Dialect) -> js.Schema:
    return js.thing(
        {
            "id": js.TEXT,
            "object": js.const("checkpoint.permission"),
            "created_at": js.UNIX,
            "project_id": js.TEXT | {"description": "The name of the resource that may use the checkpoint."},
        },
        says="Another resource's leave to deploy and call a checkpoint.",
    )


def copies(_: Dialect) -> js.Schema:
    details = js.thing({"destinationResourceId": js.TEXT, "region": js.TEXT, "status": js.const("Completed")})
    return js.thing(
        {
            "checkpointedModelName": js.TEXT,
            "fineTuningJobId": js.TEXT,
            "copiedAccountDetails": js.listed(details),
        },
        says="A checkpoint, and the resources that have been given a copy of it.",
    )


PREVIEW: js.Schema = {
    "name": "aoai-copy-ft-checkpoints",
    "in": "header",
    "required": True,
    "schema": {"const": "preview"},
    "description": "Copying checkpoints is in preview.",
}
