"""The process of an embedding model: llama.cpp's own HTTP server, in this process, on a free loopback port.

`python -m luthier.engines.embeddings.embedding_server CONFIG.json`, started by `embedding_process`. It writes one JSON
line to stdout (its URL, or why it cannot start) and serves until stdin closes, as the engine for chats does.
"""

import json
import logging
import os
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.core.errors import LuthierError
from luthier.engines import child_process
from luthier.process import logs

NICENESS = 5
"""Answers of chats go first: vectors are made of whole corpora, for minutes."""
MIN_BATCH_TOKENS = 512
"""So many tokens of several texts are computed at once: measured, smaller batches are slower (docs/serving.md)."""
EXTRA_HTTP_THREADS = 8


@dataclass(frozen=True, slots=True)
class Config:
    """What one process serves, as its parent writes it into config.json.

    A text has up to `max_tokens`; `slots` texts are computed side by side.
    """

    folder: str
    gguf: str
    alias: str
    max_tokens: int
    slots: int
    threads: int
    key: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(config_path: Path) -> None:
    """Exports what is missing, starts the server, tells the parent its URL, and serves until the process ends.

    A package that is missing and errors of the export are told to the parent, and it returns.
    """
    config = Config(**json.loads(config_path.read_bytes()))
    reply = child_process.reply_pipe()  # llama.cpp logs to stdout too
    child_process.end_with_parent()
    os.nice(NICENESS)
    try:
        import xllamacpp

        from luthier.engines.gguf import embedding_export
    except ModuleNotFoundError as error:
        reply(code="engine_missing", message=f"{error.name} is not installed. Run: pip install luthier[serve-cpu]")
        return
    try:
        if not Path(config.gguf).exists():
            embedding_export.export_encoder(Path(config.folder))
    except LuthierError as error:
        reply(code=error.code, message=error.message)
        return
    server = xllamacpp.Server(_parameters(config))
    # From here on llama.cpp's messages may quote requests: they are discarded.
    discard = os.open(os.devnull, os.O_WRONLY)
    os.dup2(discard, 1)
    os.dup2(discard, 2)
    reply(url=server.listening_address)
    threading.Event().wait()


def _parameters(config: Config) -> object:
    """xllamacpp's parameters for the server of a configuration."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = config.gguf
    parameters.model_alias = {config.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [config.key]
    parameters.embedding = True
    parameters.n_parallel = config.slots
    parameters.kv_unified = False
    parameters.n_ctx = config.max_tokens * config.slots
    # An encoder sees a text at once: the longest must fit one batch.
    parameters.n_batch = parameters.n_ubatch = max(config.max_tokens, MIN_BATCH_TOKENS)
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.n_threads_http = config.slots + EXTRA_HTTP_THREADS
    parameters.cpuparams.n_threads = config.threads
    parameters.cpuparams_batch.n_threads = config.threads
    parameters.fit_params = False
    parameters.ui = False
    return parameters


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    main(Path(sys.argv[1]))
