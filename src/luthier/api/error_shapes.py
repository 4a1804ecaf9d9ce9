"""How an error looks in each vendor's envelope: its code, its words, where it points."""

from typing import Any

from luthier.core import errors
from luthier.core.errors import LuthierError

Shape = dict[str, Any]

# Azure's own words for our codes: A1021 `ErrorCode`, and those that its gateway is known to send (contract section 15).
_AZURE_CODES = {
    "invalid_api_key": "401",
    "missing_api_key": "401",
    "deployment_not_found": "DeploymentNotFound",
    "invalid_training_file": "jsonlValidationFailed",
    "invalid_validation_file": "jsonlValidationFailed",
    "file_import_failed": "fileImportFailed",
    "missing_api_version": "MissingApiVersionParameter",
    "route_not_found": "404",
    "rate_limit_exceeded": "429",
}
_AZURE_KINDS: dict[type[LuthierError], str] = {
    errors.InvalidRequest: "invalidPayload",
    errors.Unsupported: "invalidPayload",
    errors.TooLarge: "invalidPayload",
    errors.HeadersTooLarge: "invalidPayload",
    errors.UnsupportedMediaType: "invalidPayload",
    errors.Unauthenticated: "unauthorized",
    errors.Forbidden: "forbidden",
    errors.NotFound: "notFound",
    errors.Conflict: "conflict",
    errors.RateLimited: "tooManyRequests",
    errors.QuotaExceeded: "quotaExceeded",
    errors.Unavailable: "serviceUnavailable",
    errors.UpstreamFailed: "internalFailure",
    errors.NoSpace: "serviceUnavailable",
}
_OPENAI_TYPES: dict[type[LuthierError], str] = {
    errors.RateLimited: "rate_limit_error",
    errors.QuotaExceeded: "insufficient_quota",
    errors.Unavailable: "server_error",
    errors.UpstreamFailed: "server_error",
    errors.NoSpace: "server_error",
}


def openai_error(error: LuthierError) -> Shape:
    """OpenAI's `{"error": {message, type, param, code}}`, all four always there."""
    kind = _OPENAI_TYPES.get(type(error), "invalid_request_error")
    return {"error": {"message": error.message, "type": kind, "param": error.param, "code": error.code}}


def azure_error(error: LuthierError) -> Shape:
    """A1021 `ErrorResponse`; `param` and our own word beside Azure's code for those who look."""
    code = _AZURE_CODES.get(error.code) or _AZURE_KINDS.get(type(error), "internalFailure")
    shape: Shape = {"code": code, "message": error.message, "innererror": {"code": error.code}}
    if error.param is not None:
        shape |= {"target": error.param, "param": error.param}
    if error.details:
        shape["details"] = [
            {"code": code, "message": detail.message, "innererror": {"code": detail.code}}
            | ({} if detail.param is None else {"target": detail.param})
            for detail in error.details
        ]
    return {"error": shape}


def azure_v1_error(error: LuthierError) -> Shape:
    """AV1 `AzureOpenAIErrorResponse`: Azure's codes in OpenAI's envelope (contract section 15)."""
    azure = azure_error(error)["error"]
    shape = {"message": error.message, "type": "error", "code": azure["code"], "inner_error": azure["innererror"]}
    return {"error": shape if error.param is None else shape | {"param": error.param}}
