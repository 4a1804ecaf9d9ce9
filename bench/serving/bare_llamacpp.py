"""llama.cpp's own server alone: `python -m bench.serving.bare_llamacpp GGUF SLOTS CONTEXT THREADS`.

The options are those of `luthier.engines.llamacpp.server`, except that prompts are read in llama.cpp's own long
batches. It writes its URL as a line and serves until stdin closes.
"""

import os
import sys

import xllamacpp

from luthier.engines import child_process

EXTRA_HTTP_THREADS = 8


def main(gguf: str, slots: int, context_tokens: int, threads: int) -> None:
    reply = child_process.reply_pipe()
    child_process.end_with_parent()
    parameters = xllamacpp.CommonParams()
    parameters.model.path = gguf
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.n_ctx = context_tokens
    parameters.n_parallel = slots
    parameters.kv_unified = True
    parameters.n_threads_http = slots + EXTRA_HTTP_THREADS
    parameters.cpuparams.n_threads = threads
    parameters.cpuparams_batch.n_threads = threads
    parameters.fit_params = False
    parameters.ui = False
    server = xllamacpp.Server(parameters)
    reply(url=server.listening_address)
    while os.read(0, 4096):
        pass


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:5]))
