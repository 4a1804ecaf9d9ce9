"""The engine process: llama.cpp's own HTTP server, in this process, on a free loopback port.

`python -m luthier.engines.llamacpp.server CONFIG.json`, started by `engine_process`. It converts its adapters (and
its base, for a full fine-tuning), loads them at scale 0, writes one JSON line to stdout (its URL, or
why it cannot start) and then serves until stdin closes: the parent holds the other end, so that a parent killed by
SIGKILL takes its engines with it.
"""

import json
import logging
import os
import sys
import threading
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from luthier.core.errors import LuthierError
from luthier.engines import child_process
from luthier.process import logs

BATCH_TOKENS = 128
EXTRA_HTTP_THREADS = 8
SSE_PING_S = 1


@dataclass(frozen=True, slots=True)
class Config:
    """What one engine process serves, as its parent writes it into config.json.

    `adapters` are PEFT folders; their indices in the list are llama.cpp's ids. `context_tokens` is what `slots` share.
    """

    base_folder: str
    base_gguf: str
    alias: str
    adapters: tuple[str, ...]
    context_tokens: int
    slots: int
    threads: int
    key: str

    def to_json(self) -> str:
        return json.dumps(asdict(self))


def main(config_path: Path) -> None:
    """Exports what is missing, starts both servers, tells the parent their URLs, and serves until the process ends.

    A package that is missing and errors of the export are told to the parent, and it returns.
    """
    config = Config(**json.loads(config_path.read_bytes()))
    reply = child_process.reply_pipe()  # llama.cpp logs to stdout too
    child_process.end_with_parent()
    try:
        import xllamacpp

        from luthier.engines.gguf import export
        from luthier.engines.llamacpp.prompt_scores import PromptScores
        from luthier.engines.llamacpp.scores_server import ScoresServer
    except ModuleNotFoundError as error:
        reply(code="engine_missing", message=f"{error.name} is not installed. Run: pip install luthier[serve-cpu]")
        return
    try:
        if not Path(config.base_gguf).exists():
            export.export_base(Path(config.base_folder))
        exporters = [
            partial(export.export_adapter, Path(folder), Path(config.base_folder), config_path.parent / f"{index}.gguf")
            for index, folder in enumerate(config.adapters)
        ]
        adapters = [export_one() for export_one in exporters]
    except LuthierError as error:
        reply(code=error.code, message=error.message)
        return
    server = xllamacpp.Server(parameters_of(config, adapters))
    for adapter in adapters:
        adapter.unlink()  # llama.cpp has copied it
    # From here on llama.cpp's messages may quote requests (it logs the text around a JSON error): they are discarded.
    discard = os.open(os.devnull, os.O_WRONLY)
    os.dup2(discard, 1)
    os.dup2(discard, 2)
    scores = ScoresServer(
        PromptScores(Path(xllamacpp.xllamacpp.__file__), Path(config.base_gguf), exporters, config.threads), config.key
    )
    scores.start()
    reply(url=server.listening_address, scores_url=scores.url)
    threading.Event().wait()


def parameters_of(config: Config, adapters: list[Path]) -> object:
    """xllamacpp's parameters for the server of a configuration, with the exported adapters at scale 0."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = config.base_gguf
    parameters.model_alias = {config.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [config.key]
    # "Without apply" at start does not keep an adapter off (docs/serving.md): scale 0 does.
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapters]
    # The RAM prompt cache looks entries up by tokens only, whichever adapter computed them: it must be off.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.n_ctx = config.context_tokens
    parameters.n_parallel = config.slots
    parameters.kv_unified = True
    # An abandoned answer is ended between two batches: long batches would delay that, and all other answers.
    parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
    # Each answer occupies one of the server's threads to its end; the others tokenize and answer health checks.
    parameters.n_threads_http = config.slots + EXTRA_HTTP_THREADS
    parameters.sse_ping_interval = SSE_PING_S
    parameters.cpuparams.n_threads = config.threads
    parameters.cpuparams_batch.n_threads = config.threads
    parameters.fit_params = False
    parameters.ui = False
    parameters.use_jinja = True
    # As in training: an assistant turn at the end is a turn like any other, and the answer's text is not parsed.
    parameters.prefill_assistant = False
    parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    return parameters


if __name__ == "__main__":
    logs.configure(logging.WARNING)
    main(Path(sys.argv[1]))
