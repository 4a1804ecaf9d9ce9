"""The engines that the settings choose, and the calls to them: of `app.py`'s knowledge of implementations this part."""

from luthier.core.engine_ports import Engine
from luthier.core.states import EngineName
from luthier.engines.choice import ChosenEngine, ChosenEngineClient
from luthier.engines.embeddings.embedding_client import HttpEmbeddingClient
from luthier.engines.embeddings.embedding_engine import EmbeddingEngine
from luthier.engines.engine_client import HttpEngineClient
from luthier.engines.llamacpp.engine import LlamaCppEngine
from luthier.engines.native.client import NativeClient
from luthier.engines.native.native_engine import NativeEngine
from luthier.engines.remote import completions
from luthier.engines.remote.remote_client import RemoteClient
from luthier.engines.remote.remote_engine import RemoteEngine
from luthier.engines.rest_policy import RestPolicy
from luthier.engines.vllm.vllm_engine import VllmEngine
from luthier.service.scheduling.admission import QueueLimits
from luthier.service.scheduling.engine_calls import EngineCalls
from luthier.settings import Settings


def build_engine(settings: Settings) -> ChosenEngine:
    """The engines that the setting may choose, behind the rule; no process starts. An idle limit of 0 s is none.

    Raises ValueError for vLLM options that cannot be split into words.
    """
    folder = settings.data_dir.absolute() / "engines"
    tokens, slots, threads = settings.serve_context_tokens, settings.serve_slots, settings.serve_threads
    memory = settings.serve_memory_mib
    rest = RestPolicy(settings.serve_idle_s or None, None if memory is None else memory << 20)
    engines: dict[EngineName, Engine] = {
        EngineName.NATIVE: NativeEngine(
            folder / "native", context_tokens=tokens, sequences=slots, threads=threads, rest=rest
        ),
        EngineName.LLAMACPP: LlamaCppEngine(
            folder / "llamacpp", context_tokens=tokens, slots=slots, threads=threads, rest=rest
        ),
    }
    match settings.serve_engine:
        case EngineName.VLLM:
            program, options = settings.vllm, settings.vllm_options
            engines[EngineName.VLLM] = VllmEngine(
                folder / "vllm", program=program, options=options, context_tokens=tokens, slots=slots, rest=rest
            )
        case EngineName.REMOTE:
            key = settings.engine_key.get_secret_value() if settings.engine_key else ""
            engines[EngineName.REMOTE] = RemoteEngine(str(settings.engine_url), key, tokens, slots)
    return ChosenEngine(
        engines, settings.serve_engine, EmbeddingEngine(folder / "embeddings", threads=threads, rest=rest)
    )


def engine_calls(settings: Settings) -> EngineCalls:
    """The calls to engines of every kind, with the queue that the settings say; connects to nothing."""
    client = ChosenEngineClient(
        {"native": NativeClient(), "http": HttpEngineClient(), completions.SCHEME: RemoteClient()}
    )
    limits = QueueLimits(settings.serve_queue, settings.serve_queue_wait_s)
    return EngineCalls(client, limits, embedder=HttpEmbeddingClient())
