"""vLLM: a server per base model, which loads adapters while it answers."""

import shlex
from pathlib import Path

from luthier.core.engine_ports import ServedModel
from luthier.core.states import EngineName
from luthier.engines.hot_loading import LOOK_S, HotLoadingEngine
from luthier.engines.rest_policy import NEVER, RestPolicy
from luthier.engines.vllm import vllm_process
from luthier.engines.vllm.vllm_process import Launch, VllmProcess

OPTIONS = (
    "--enable-lora --max-loras 8 --max-cpu-loras 64 --max-lora-rank 64 --max-logprobs 20 --generation-config vllm "
    "--enable-prompt-tokens-details --structured-outputs-config.backend guidance"
)
"""Before those of LUTHIER_VLLM_OPTIONS, which win: of two equal options vLLM takes the last."""


class VllmEngine(HotLoadingEngine[VllmProcess]):
    """Implements core.engine_ports.Engine. `program` is vLLM's command, in whatever environment it is installed."""

    name = EngineName.VLLM

    def __init__(
        self,
        folder: Path,
        *,
        program: str = "vllm",
        options: str = "",
        context_tokens: int = 16_384,
        slots: int = 8,
        start_timeout_s: float = 900.0,
        retire_grace_s: float = 10.0,
        retire_max_s: float = 600.0,
        rest: RestPolicy = NEVER,
    ) -> None:
        """`context_tokens` is the most of one prompt with its answer. Raises ValueError for options that end in the
        middle of a quotation.

        Starts the threads that watch processes, but no process.
        """
        length = ("--max-model-len", str(context_tokens))
        command = (program, *shlex.split(OPTIONS), *length, *shlex.split(options))
        self._launch = Launch(command, context_tokens, slots, start_timeout_s)
        super().__init__(folder, retire_grace_s, retire_max_s, LOOK_S, rest)

    def _launch_process(self, folder: Path, model: ServedModel) -> VllmProcess:
        return vllm_process.start(self._launch, folder, model)
