"""Wire shape of embeddings, the same in every dialect: vectors as lists of numbers, or base64 of float32."""

import array
import base64
import sys
from typing import Any

from luthier.service.inference.embeddings import Embeddings

Shape = dict[str, Any]


def shape(embeddings: Embeddings, model: str, as_base64: bool) -> Shape:
    """The answer's body. `model` is the name of the model that made the vectors, never an alias."""
    write = _base64 if as_base64 else _floats
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(embeddings.vectors)
    ]
    usage = {"prompt_tokens": embeddings.tokens, "total_tokens": embeddings.tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _base64(vector: bytes) -> str:
    """Little-endian float32 in base64, as OpenAI's SDKs ask for it."""
    return base64.b64encode(vector).decode()


def _floats(vector: bytes) -> list[float]:
    """The numbers; each is exactly the float32."""
    values = array.array("f", vector)
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
