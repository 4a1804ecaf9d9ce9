"""What is known not to hold, by name: routes that Luthier has not, and faults of clients that no server can mend.

Each entry is held both ways: an operation that fails without standing here is a surprise, and so is one that stands
here and works. To lift a mark, take its entry out.
"""

from dataclasses import dataclass
from fnmatch import fnmatch

OK = "ok"
ABSENT = "not in this client"


@dataclass(frozen=True, slots=True)
class Known:
    """Patterns of client, scope and operation; a piece of the outcome that is expected; why it is so."""

    client: str
    scope: str
    operation: str
    outcome: str
    why: str


MISSING: list[Known] = []
"""Routes that are still to come: none."""

NOT_SERVED = [
    Known(
        "*",
        "*",
        "conversations",
        "Conversations are not kept as objects here",
        "conversations as objects (`/conversations`): continue a response by its previous_response_id",
    ),
]
"""Routes that Luthier has not, and says so."""

QUIRKS = [
    Known(
        "openai-1.109.1 command line",
        "*",
        "files.retrieve",
        "CLIFileCreateArgs",
        "`openai api files.retrieve` asks for the arguments of files.create and sends nothing",
    ),
    Known(
        "openai-1.109.1 command line",
        "*",
        "files.delete",
        "CLIFileCreateArgs",
        "`openai api files.delete` asks for the arguments of files.create and sends nothing",
    ),
    Known(
        "llama-index",
        "OpenAIFinetuneEngine",
        "chat",
        "Unknown model",
        "llama-index's OpenAI class knows the context length of OpenAI's own model names alone and sends nothing for "
        "any other; use its OpenAILike with the tuned model's name",
    ),
    Known(
        "instructor",
        "command line",
        "files download",
        "download",
        "`instructor files download` calls a method that the SDK lost in 1.0, and sends nothing",
    ),
    Known(
        "wandb",
        "*",
        "sync",
        "Cannot use artifact when in offline mode",
        "WandbLogger.sync links data sets to its run, which wandb cannot offline; pass `log_datasets=False` there",
    ),
    Known(
        "semantic-kernel",
        "*ResponsesAgent*",
        "responses turns",
        "{'role': 'user', 'content': 'Which word was it?'}, {'role': 'user', 'content': 'Which word was it?'}",
        "with `store_enabled=False` its agents for Responses send each new turn twice; leave it on",
    ),
]
"""Faults of the clients themselves: what they send, or that they send nothing."""


def known(client: str, scope: str, operation: str) -> Known | None:
    for entry in [*MISSING, *NOT_SERVED, *QUIRKS]:
        if fnmatch(client, entry.client) and fnmatch(scope, entry.scope) and fnmatch(operation, entry.operation):
            return entry
    return None


def surprises(client: str, outcomes: dict[str, dict[str, str]]) -> list[str]:
    """Every operation whose outcome is not the expected one."""
    found = []
    for scope, operations in outcomes.items():
        for operation, outcome in operations.items():
            entry = known(client, scope, operation)
            match (outcome, entry):
                case ("not in this client", _) | ("ok", None):
                    pass
                case ("ok", Known(why=why)):
                    found.append(f"{scope}: {operation}: works now; take it out of expected.py ({why})")
                case (_, None):
                    found.append(f"{scope}: {operation}: {outcome}")
                case (_, Known(outcome=piece)) if piece not in outcome:
                    found.append(f"{scope}: {operation}: not as expected.py says: {outcome}")
    return found


PROGRAMS = {
    "openai-0.28.1": "drive_legacy.py",
    "openai-1.3.9": "drive_openai.py",
    "openai-1.40.0": "drive_openai.py",
    "openai-1.109.1": "drive_openai.py",
    "openai-1.109.1 command line": "drive_command_line.py",
    "openai-2.54.0": "drive_openai.py",
    "openai-3.57.0": "drive_openai.py",
    "openai-3.57.0 answers": "drive_openai_answers.py",
    "openai-node": "drive_openai.mjs",
    "openai-node answers": "drive_openai_answers.mjs",
    "openai-agents": "drive_openai_agents.py",
    "openai-agents-js": "drive_openai_agents.mjs",
    "vercel-ai": "drive_vercel_ai.mjs",
    "agent-framework": "drive_agent_framework.py",
    "semantic-kernel": "drive_semantic_kernel.py",
    "smolagents": "drive_smolagents.py",
    "lm-eval": "drive_lm_eval.py",
    "inspect-ai": "drive_inspect_ai.py",
    "pydantic-ai": "drive_pydantic_ai.py",
    "azure-mgmt": "drive_azure_mgmt.py",
    "langchain": "drive_langchain.py",
    "llama-index": "drive_llama_index.py",
    "litellm": "drive_litellm.py",
    "dspy": "drive_dspy.py",
    "instructor": "drive_instructor.py",
    "instructor answers": "drive_instructor_answers.py",
    "wandb": "drive_wandb.py",
}
"""The program that drives each client."""
