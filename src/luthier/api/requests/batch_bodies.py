"""Bodies of requests on batches; an unknown field is an error."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from luthier.api.requests.file_and_job_bodies import ExpiryBody
from luthier.api.requests.job_fields import Metadata


class BatchBody(BaseModel):
    """POST /batches: the file of requests, and the endpoint that all of them are for."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: str = Field(min_length=1)
    endpoint: str = Field(min_length=1)
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiryBody | None = None

    def expires_after_s(self, min_s: int) -> int | None:
        """Seconds after which the output files expire; None: never. Raises InvalidRequest outside of the range."""
        expiry = self.output_expires_after
        return None if expiry is None else expiry.within(min_s, "output_expires_after")
