"""Calls of MLflow's REST API, each within a bounded time, and its refusals as errors.

No message holds an address or an answer's text: what an error says is shown to a job's owner.
"""

import json
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

import httpx2

from luthier.core.errors import LuthierError, NotFound, Unauthenticated, Unavailable, UpstreamFailed
from luthier.core.training.tracking import MlflowTarget

PATH = "/api/2.0/mlflow/"
MAX_ANSWER_BYTES = 16 << 20
_LATER = frozenset({408, 409, 423, 425, 429})


class MlflowRest:
    """A client of one server. A call may take `timeout_s` from its first byte to its last."""

    def __init__(self, target: MlflowTarget, timeout_s: float) -> None:
        """Connects to nothing."""
        headers, auth = {}, None
        if target.user:
            auth = httpx2.BasicAuth(target.user, target.token)
        elif target.token:
            headers["authorization"] = f"Bearer {target.token}"
        self.uri = target.uri.rstrip("/")
        self._timeout_s = timeout_s
        self._client = httpx2.Client(headers=headers, auth=auth, timeout=timeout_s, trust_env=False)

    def get(self, operation: str, **params: str | int) -> dict[str, Any]:
        """The answer to a GET. Raises as `_call`."""
        return self._call("GET", operation, params=params)

    def post(self, operation: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a POST. Raises as `_call`."""
        content = json.dumps(body, allow_nan=False).encode()
        return self._call("POST", operation, content=content, headers={"content-type": "application/json"})

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def _call(self, method: str, operation: str, **request: Any) -> dict[str, Any]:
        """The answer as JSON. Raises Unavailable if the same call may succeed later, NotFound for what the server does
        not have, Unauthenticated for a refused token, and UpstreamFailed for other refusals.
        """
        deadline = time.monotonic() + self._timeout_s
        body = bytearray()
        try:
            with self._client.stream(method, f"{self.uri}{PATH}{operation}", **request) as reply:
                for chunk in reply.iter_bytes():
                    body += chunk
                    if time.monotonic() > deadline or len(body) > MAX_ANSWER_BYTES:
                        raise Unavailable("sink_timeout", f"MLflow's answer took more than {self._timeout_s:g} s.")
        except httpx2.TimeoutException as error:
            text = f"MLflow did not answer within {self._timeout_s:g} s."
            raise Unavailable("sink_timeout", text) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, RuntimeError) as error:  # RuntimeError: closed meanwhile
            text = f"MLflow cannot be reached ({type(error).__name__})."
            raise Unavailable("sink_unreachable", text) from error
        if reply.status_code != 200:
            raise _refusal(reply, bytes(body))
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unavailable("sink_answer", "MLflow's answer is no JSON object: another server may answer there.")
        return answer


def _refusal(reply: httpx2.Response, body: bytes) -> LuthierError:
    """The error of a status that is not 200."""
    status = reply.status_code
    try:
        code = str(json.loads(body).get("error_code"))
    except (ValueError, AttributeError):
        code = ""
    word = code if code.isascii() and code.replace("_", "").isalpha() and len(code) <= 64 else ""
    text = f"MLflow answered {status} {word}".rstrip() + "."
    if status >= 500 or (status in _LATER and word != "RESOURCE_ALREADY_EXISTS"):
        return Unavailable("sink_unavailable", text, retry_after_s=_retry_after_s(reply))
    if status in {401, 403}:
        return Unauthenticated("sink_unauthorized", f"{text} The operator's LUTHIER_MLFLOW_TOKEN is not accepted.")
    if status == 404 and word == "RESOURCE_DOES_NOT_EXIST":
        return NotFound("sink_not_found", text)
    return UpstreamFailed("sink_already_exists" if word == "RESOURCE_ALREADY_EXISTS" else "sink_refused", text)


def _retry_after_s(reply: httpx2.Response) -> float | None:
    """The seconds of a Retry-After header in either form; None without a readable one."""
    value = reply.headers.get("retry-after", "")
    if value.isdecimal() and len(value) < 9:
        return float(value)
    try:
        return max(parsedate_to_datetime(value).timestamp() - time.time(), 0.0)
    except ValueError:
        return None
