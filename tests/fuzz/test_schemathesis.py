"""Schemathesis reads our own description and tries to prove it wrong: every operation, every check it has."""

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.openapi.loaders import from_asgi
from schemathesis.schemas import BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Receive, Scope, Send

from fakes import BASE, KEY, engine_calls
from luthier import app
from luthier.api import server
from luthier.api.services import Services
from luthier.service.context import Context
from luthier.service.models.serving import Serving
from luthier.service.tenants.keys import DEFAULT_RESOURCE
from luthier.settings import Settings

pytestmark = pytest.mark.fuzz

EXAMPLES = 50
WELL_SHAPED = {
    "account_not_changeable",
    "base_model_not_deletable",
    "bytes_mismatch",
    "deployment_model_not_found",
    "deployment_model_not_supported",
    "destination_not_found",
    "early_stopping_needs_validation",
    "file_not_found",
    "file_not_supported",
    "file_too_large",
    "image_not_supported",
    "input_audio_not_supported",
    "integrations_not_supported",
    "invalid_bytes",
    "invalid_cursor",
    "invalid_deployment_name",
    "invalid_expires_after",
    "invalid_filename",
    "invalid_hyperparameter",
    "invalid_metadata_filter",
    "invalid_purpose",
    "invalid_seed",
    "invalid_sku",
    "invalid_suffix",
    "invalid_training_type",
    "invalid_url",
    "keys_not_readable",
    "method_mismatch",
    "method_not_supported",
    "missing_content",
    "missing_model",
    "model_not_found",
    "model_not_ready",
    "part_named_twice",
    "part_not_found",
    "invalid_project",
    "prompt_loss_weight_not_supported",
    "property_not_supported",
    "range_not_satisfiable",
    "suffix_too_long",
    "two_values",
    "url_not_allowed",
}
"""Why a request of the right shape is refused all the same, in words that a schema has none for."""

GO_TOGETHER = {
    "best_of",
    "function_call",
    "function_call.name",
    "functions",
    "logprobs",
    "max_tokens",
    "messages[0].function_call.arguments",
    "messages[0].name",
    "messages[0].role",
    "messages[0].tool_call_id",
    "messages[0].tool_calls[0].function.arguments",
    "prompt",
    "response_format.json_schema",
    "scale_settings.capacity",
    "stream_options",
    "tool_choice",
    "tool_choice.function.name",
    "top_logprobs",
}
"""Fields of the right shape each that are refused beside the others of the request."""


class Standing:
    """An application that is a fresh one in each test: the operations are known before any test is begun."""

    now: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.now(scope, receive, send)
            return
        # No service runs behind the description: its threads would go on while other tests are collected.
        for moment in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{moment}.complete"})


standing = Standing()


def read_description() -> BaseSchema:
    with tempfile.TemporaryDirectory() as folder:
        built = app.build(Settings(data_dir=Path(folder)))
        standing.now = built.api
        return from_asgi("/openapi.json", standing)


wire = read_description()


HEADERS = {"api-key": KEY}
KNOWN = {
    "subscription": DEFAULT_RESOURCE.subscription,
    "group": DEFAULT_RESOURCE.resource_group,
    "account": DEFAULT_RESOURCE.account,
    "model_name": BASE,
    "job_id": "ftjob-",
    "ended_job_id": "ftjob-",
}
"""What is there, by the names of the paths' parameters."""


@pytest.fixture(autouse=True)
def fresh(context: Context, serving: Serving) -> None:
    """A service with a file, a job, and one that has ended: the stream of its events ends too."""
    standing.now = server.build(Services(context, serving, lambda: None, calls=engine_calls()), None)
    with TestClient(standing, headers=HEADERS) as client:
        form = {"data": {"purpose": "fine-tune"}, "files": {"file": ("rows.jsonl", b"{}")}}
        KNOWN["file_id"] = client.post("/v1/files", **form).json()["id"]
        asked = {"model": BASE, "training_file": KNOWN["file_id"]}
        KNOWN["job_id"] = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
        KNOWN["ended_job_id"] = client.post("/v1/fine_tuning/jobs", json=asked).json()["id"]
        assert client.post(f"/v1/fine_tuning/jobs/{KNOWN['ended_job_id']}/cancel").status_code == 200
        whole = {"bytes": 2, "filename": "rows.jsonl", "mime_type": "application/jsonl", "purpose": "fine-tune"}
        KNOWN["upload_id"] = client.post("/v1/uploads", json=whole).json()["id"]


@wire.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any]) -> dict[str, Any]:
    """Every second path, by the length of its words, names what is there: else all would end at the first 404."""
    if path_parameters and sum(len(str(value)) for value in path_parameters.values()) % 2:
        streams = context.operation.path.endswith("/events")
        known = KNOWN | {"job_id": KNOWN["ended_job_id" if streams else "job_id"]}
        return {name: known.get(name, value) for name, value in path_parameters.items()}
    return path_parameters


@pytest.mark.timeout(2400)
@wire.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_operation_answers_otherwise_than_described(case: schemathesis.Case[Any]) -> None:
    response = case.call(headers=HEADERS)
    refused = response.status_code in (400, 413, 416) and response.content
    no_such_range = case.method == "HEAD" and response.status_code == 416  # without a body that says so
    well_shaped = no_such_range or (refused and _is_well_shaped(response.json()["error"]))
    excluded = [positive_data_acceptance] if well_shaped else []
    case.validate_response(response, headers=HEADERS, excluded_checks=excluded)


def _is_well_shaped(error: dict[str, Any]) -> bool:
    inner: dict[str, Any] = error.get("innererror") or error.get("inner_error") or error
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(inner["code"])).lower()  # the control plane's are CamelCase
    param = re.sub(r"\d+", "0", str(error.get("param")))
    return code in WELL_SHAPED or (code in ("invalid_value", "missing_field") and param in GO_TOGETHER)
