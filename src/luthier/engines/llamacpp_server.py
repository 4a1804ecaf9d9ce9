"""The engine process: llama.cpp's own HTTP server, in this process, on a free loopback port.

`python -m luthier.engines.llamacpp_server CONFIG.json`, started by `llamacpp_process`. It converts its adapters (and
its base, where all weights of that were tuned here), loads them at scale 0, writes one JSON line to stdout (its URL, or
why it cannot start) and then serves until stdin closes: the parent holds the other end, so that a parent killed by
SIGKILL takes its engines with it.
"""

import json
import os
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from luthier.core.errors import LuthierError


@dataclass(frozen=True, slots=True)
class Config:
    """What one engine process serves. `adapters` are PEFT folders; their places in the list are llama.cpp's ids."""

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
    config = Config(**json.loads(config_path.read_bytes()))
    # llama.cpp logs to stdout too: keep the parent's pipe for the one line, and send stdout to the log.
    answer = os.dup(1)
    os.dup2(2, 1)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        import xllamacpp

        from luthier.engines import export
    except ModuleNotFoundError as error:
        _say(
            answer, code="engine_missing", message=f"{error.name} is not installed. Run: pip install luthier[serve-cpu]"
        )
        return
    try:
        if not Path(config.base_gguf).exists():
            export.export_base(Path(config.base_folder))
        adapters = [
            export.export_adapter(Path(folder), Path(config.base_folder), config_path.parent / f"{place}.gguf")
            for place, folder in enumerate(config.adapters)
        ]
    except LuthierError as error:
        _say(answer, code=error.code, message=error.message)
        return
    server = xllamacpp.Server(_parameters(config, adapters))
    for adapter in adapters:
        adapter.unlink()  # llama.cpp has copied it
    # From here on llama.cpp's messages may quote requests (it logs the text around a JSON error): they go nowhere.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    _say(answer, url=server.listening_address)
    os.close(answer)
    threading.Event().wait()


def _parameters(config: Config, adapters: list[Path]) -> object:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = config.base_gguf
    parameters.model_alias = {config.alias}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [config.key]
    # "Without apply" at start does not keep an adapter off (docs/serving.md): scale 0 does.
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(str(path), 0.0) for path in adapters]
    # The RAM cache of prompts finds entries by tokens alone, whichever adapter computed them: it must be off.
    parameters.cache_ram_mib = 0
    parameters.cache_idle_slots = False
    parameters.n_ctx = config.context_tokens
    parameters.n_parallel = config.slots
    parameters.kv_unified = True
    parameters.cpuparams.n_threads = config.threads
    parameters.cpuparams_batch.n_threads = config.threads
    parameters.fit_params = False
    parameters.ui = False
    parameters.use_jinja = True
    # As in training: an assistant turn at the end is a turn like any other, and the answer comes as it was written.
    parameters.prefill_assistant = False
    parameters.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    return parameters


def _say(descriptor: int, **fields: str) -> None:
    os.write(descriptor, json.dumps(fields).encode() + b"\n")


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os._exit(0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
