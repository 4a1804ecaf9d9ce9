"""What the control plane is measured against: routes that return bytes from memory, and one that discards a body.

`python -m bench.wire_bare PORT FOLDER`: a FastAPI route answers with a file of FOLDER, by its name.
"""

import logging
import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route


async def discard(request: Request) -> JSONResponse:
    """Reads the body and keeps none of it."""
    length = 0
    async for chunk in request.stream():
        length += len(chunk)
    return JSONResponse({"bytes": length})


def build(folder: Path) -> Starlette:
    answers = {file.name: file.read_bytes() for file in folder.iterdir()}
    from_memory = FastAPI()

    @from_memory.get("/{name}")
    def answer(name: str) -> Response:
        return Response(answers[name], media_type="application/json")

    return Starlette(routes=[Route("/discard", discard, methods=["POST"]), Mount("/", from_memory)])


if __name__ == "__main__":
    logging.disable()
    uvicorn.run(build(Path(sys.argv[2])), port=int(sys.argv[1]), log_config=None, access_log=False)
