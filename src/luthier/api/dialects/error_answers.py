"""Error envelopes of each vendor: code, message, and the field that the error is about.

`server.answer` makes them of every LuthierError; an event stream's last line is one too.
"""

from typing import Annotated, Protocol, Self

from msgspec import UNSET, Meta, Struct, UnsetType

from luthier.api.dialects.answer import unset_if_none
from luthier.core import errors
from luthier.core.errors import LuthierError

STATUS: dict[type[LuthierError], int] = {
    errors.InvalidRequest: 400,
    errors.Unsupported: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.TooSlow: 408,
    errors.Conflict: 409,
    errors.TooLarge: 413,
    errors.UnsupportedMediaType: 415,
    errors.QuotaExceeded: 429,
    errors.RateLimited: 429,
    errors.HeadersTooLarge: 431,
    errors.UpstreamFailed: 500,
    errors.Unavailable: 503,
    errors.LeaseLost: 503,
    errors.NoSpace: 507,
}
"""HTTP status by class of error."""


def status_of(error: LuthierError) -> int:
    """The HTTP status of an error: that of its class, or of the nearest class above it that has one."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


# Azure's own words for our codes: A1021 `ErrorCode`, and those that its gateway sends (wire-contract.md section 15).
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
_AZURE_CODES_BY_TYPE: dict[type[LuthierError], str] = {
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
    errors.LeaseLost: "serviceUnavailable",
    errors.UpstreamFailed: "internalFailure",
    errors.NoSpace: "serviceUnavailable",
}
_OPENAI_TYPES: dict[type[LuthierError], str] = {
    errors.RateLimited: "rate_limit_error",
    errors.QuotaExceeded: "insufficient_quota",
    errors.Unavailable: "server_error",
    errors.LeaseLost: "server_error",
    errors.UpstreamFailed: "server_error",
    errors.NoSpace: "server_error",
}
Message = Annotated[str, Meta(description="What is wrong, where, and what to do.")]


class ErrorAnswer(Protocol):
    """A Struct that holds an error in one vendor's envelope."""

    @classmethod
    def from_error(cls, error: LuthierError) -> Self:
        """The envelope of this error; the HTTP status is not part of it."""
        ...


class OpenAIErrorBody(Struct, kw_only=True):
    """An error: what went wrong, OpenAI's class of it, the path of the field (null: none), and the code."""

    message: Message
    type: str
    param: str | None
    code: str


class OpenAIError(Struct, kw_only=True):
    """OpenAI's envelope; all four fields are always sent."""

    error: OpenAIErrorBody

    @classmethod
    def from_error(cls, error: LuthierError) -> Self:
        """The error with our own code; its type tells limits and faults of the server from faults of the request."""
        kind = next(
            (_OPENAI_TYPES[one] for one in type(error).__mro__ if one in _OPENAI_TYPES), "invalid_request_error"
        )
        return cls(error=OpenAIErrorBody(message=error.message, type=kind, param=error.param, code=error.code))


class InnerError(Struct, kw_only=True):
    """Luthier's code of an error, the same in every vendor's API, beside Azure's coarser one."""

    code: Annotated[str, Meta(description="The code that programs may test.")]


class AzureErrorDetail(Struct, kw_only=True):
    """One further finding under an error; `target` is the path of the field, left out if it is about none."""

    code: str
    message: str
    innererror: InnerError
    target: str | UnsetType = UNSET


class AzureErrorBody(Struct, kw_only=True):
    """An error: Azure's code and Luthier's, the message, the field's path under two names, and further findings."""

    code: str
    message: Message
    innererror: InnerError
    target: str | UnsetType = UNSET
    param: str | UnsetType = UNSET
    details: list[AzureErrorDetail] | UnsetType = UNSET


# A1021 `ErrorResponse`.
class AzureError(Struct, kw_only=True):
    """Azure's envelope; `param` and the code of OpenAI's envelope are sent too."""

    error: AzureErrorBody

    @classmethod
    def from_error(cls, error: LuthierError) -> Self:
        """The error with Azure's code, on its details too; their own codes are in `innererror`."""
        code, param = _azure_code(error), unset_if_none(error.param)
        details = [
            AzureErrorDetail(
                code=code,
                message=detail.message,
                innererror=InnerError(code=detail.code),
                target=unset_if_none(detail.param),
            )
            for detail in error.details
        ]
        return cls(
            error=AzureErrorBody(
                code=code,
                message=error.message,
                innererror=InnerError(code=error.code),
                target=param,
                param=param,
                details=details or UNSET,
            )
        )


class AzureV1ErrorBody(Struct, kw_only=True):
    """An error in OpenAI's fields; `type` is always `error`, `param` is left out if it is about no field."""

    message: Message
    type: str
    code: str
    inner_error: InnerError
    param: str | UnsetType = UNSET


# AV1 `AzureOpenAIErrorResponse` (wire-contract.md section 15).
class AzureV1Error(Struct, kw_only=True):
    """Azure's codes in OpenAI's envelope."""

    error: AzureV1ErrorBody

    @classmethod
    def from_error(cls, error: LuthierError) -> Self:
        """The error with Azure's code, ours in `inner_error`; details are only in the message."""
        return cls(
            error=AzureV1ErrorBody(
                message=error.message,
                type="error",
                code=_azure_code(error),
                inner_error=InnerError(code=error.code),
                param=unset_if_none(error.param),
            )
        )


def _azure_code(error: LuthierError) -> str:
    """Azure's word for an error: by its code, else by its class, else internalFailure."""
    return _AZURE_CODES.get(error.code) or _AZURE_CODES_BY_TYPE.get(type(error), "internalFailure")
