"""A body for embeddings, in each of the four shapes of its input; what cannot be honoured is refused by name.

`EmbeddingBody.embedding_request` makes the service's value of it.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator

from luthier.api.requests.chat_bodies import MAX_ID_CHARACTERS
from luthier.api.requests.field_types import Whole, whole
from luthier.service.inference.embeddings import EmbeddingRequest

MAX_INPUTS = 2048
"""OpenAI's and Azure's."""
MAX_TOKEN_ID = 2**31 - 1
_Token = Annotated[int, Field(ge=0, le=MAX_TOKEN_ID)]
_Tokens = Annotated[list[_Token], Field(min_length=1)]
_Text = Annotated[str, Field(min_length=1)]
_Texts = Annotated[list[_Text], Field(min_length=1, max_length=MAX_INPUTS)]
_TokensEach = Annotated[list[_Tokens], Field(min_length=1, max_length=MAX_INPUTS)]
_Input = _Text | _Texts | _Tokens | _TokensEach


def _shaped(value: object) -> object:
    """An input in one of its four shapes, checked. Raises ValueError, which pydantic reports at the field.

    One look at each value: a union of types would try four times, and list every fault.
    """
    if isinstance(value, str):
        return _text(value)
    if not isinstance(value, list) or not value:
        raise ValueError("is a text, a list of texts, a list of token ids, or a list of such lists, and not empty")
    if not isinstance(value[0], str | list):
        return _token_ids(value)
    if len(value) > MAX_INPUTS:
        raise ValueError(f"has {MAX_INPUTS:,} entries at most, not {len(value):,}")
    if isinstance(value[0], str):
        return [_text(item, f"[{index}]") for index, item in enumerate(value)]
    return [_token_ids(item, f"[{index}]") for index, item in enumerate(value)]


def _text(value: object, place: str = "") -> str:
    """The value as a text. Raises ValueError for another type, an empty text, and half a surrogate pair."""
    if not isinstance(value, str):
        raise ValueError(_at(place, "must be text, as the first one is"))
    if not value:
        raise ValueError(_at(place, "cannot be an empty string"))
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(_at(place, "must be valid Unicode text")) from None
    return value


def _token_ids(value: object, place: str = "") -> list[int]:
    """The value as token ids, whole floats as integers. Raises ValueError."""
    if not isinstance(value, list) or not value:
        raise ValueError(_at(place, "must be a list of token ids, and not an empty one"))
    for index, item in enumerate(value):
        if isinstance(item, bool) or not isinstance(whole(item), int):
            raise ValueError(_at(f"{place}[{index}]", "must be a whole number, the id of a token"))
        if not 0 <= item <= MAX_TOKEN_ID:
            raise ValueError(_at(f"{place}[{index}]", f"must be from 0 to {MAX_TOKEN_ID}"))
    return [int(item) for item in value]


def _at(place: str, message: str) -> str:
    """The message, preceded by the path of the input that it is about, if that is one of several."""
    return f"input{place}: {message}" if place else message


class EmbeddingBody(BaseModel):
    """POST /embeddings: one input or several.

    `model` names a deployment or a model; paths of deployments need none.
    """

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    input: Annotated[Any, PlainValidator(_shaped, json_schema_input_type=_Input)]
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[Whole, Field(ge=1, le=2**31 - 1)] | None = None
    # Taken and kept to themselves: they say who asks, or in older versions of Azure's API what for.
    user: str | None = Field(default=None, max_length=MAX_ID_CHARACTERS)
    input_type: str | None = Field(default=None, max_length=MAX_ID_CHARACTERS)

    def embedding_request(self) -> EmbeddingRequest:
        """The request as the service takes it."""
        if isinstance(self.input, str):
            return EmbeddingRequest((self.input,), self.dimensions, is_list=False)
        if isinstance(self.input[0], int):
            return EmbeddingRequest((tuple(self.input),), self.dimensions, is_list=False)
        inputs = (each if isinstance(each, str) else tuple(each) for each in self.input)
        return EmbeddingRequest(tuple(inputs), self.dimensions)
