"""llama-index-finetuning: OpenAIFinetuneEngine and AzureOpenAIFinetuneEngine, from the data to the deployed model.

The package imports every engine it has at once: what those for other services need is not in the environment, and
stands here as an empty module.
"""

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

from drive import ARM_PATH, KEY, MODEL, URL, Drive, report, rows, undeploy, until
from drive import wanted as want

os.environ |= {
    "OPENAI_API_KEY": KEY,
    "OPENAI_BASE_URL": f"{URL}/v1",
    "AZURE_OPENAI_API_KEY": KEY,
    "AZURE_OPENAI_ENDPOINT": URL,
    "OPENAI_API_VERSION": "2024-02-01",
}
UNUSED = ("embeddings.adapter", "embeddings.adapter.utils", "llms.mistralai", "postprocessor.cohere_rerank")
for unused in ("mistralai", "mistralai.models", *(f"llama_index.{name}" for name in UNUSED)):
    sys.modules[unused] = MagicMock()

import requests  # noqa: E402
from llama_index.finetuning import AzureOpenAIFinetuneEngine, OpenAIFinetuneEngine  # noqa: E402

_, _, SUBSCRIPTION, _, GROUP, _, _, _, ACCOUNT, _ = ARM_PATH.split("/")
_really_put = requests.put


def _put_here(url: str, **more: Any) -> Any:
    """The engine has the control plane's public address written into it; a user of Luthier points it here."""
    return _really_put(url.replace("https://management.azure.com", URL), **more)


def walk(drive: Drive, kind: Any) -> Any:
    # Its validate_json counts tokens with a vocabulary that it would download.
    engine = kind(MODEL, "rows.jsonl", validate_json=False)
    with drive.step("finetune"):
        engine.finetune()
    with drive.step("get_current_job"):
        job = until(engine.get_current_job, lambda found: found.status in ("succeeded", "failed"))
        want(job.status == "succeeded", job)
    with drive.step("start_job_id"):
        again = kind(MODEL, "rows.jsonl", start_job_id=job.id)
        want(again.get_current_job().fine_tuned_model == job.fine_tuned_model, "another model")
    return engine


def main() -> None:
    Path("rows.jsonl").write_bytes(rows())
    scopes = {"OpenAIFinetuneEngine": Drive(), "AzureOpenAIFinetuneEngine": Drive()}
    drive = scopes["OpenAIFinetuneEngine"]
    engine = walk(drive, OpenAIFinetuneEngine)
    with drive.step("get_finetuned_model"):
        llm = engine.get_finetuned_model(api_base=f"{URL}/v1", context_window=4096)
    with drive.step("chat"):
        want(llm.complete("hi").text, "no answer")
    drive = scopes["AzureOpenAIFinetuneEngine"]
    engine = walk(drive, AzureOpenAIFinetuneEngine)
    with drive.step("deploy_finetuned_model"):
        requests.put = _put_here
        made = engine.deploy_finetuned_model(KEY, SUBSCRIPTION, GROUP, ACCOUNT, "llama")
        want(made["name"] == "llama", made)
    with drive.step("get_finetuned_model"):
        llm = engine.get_finetuned_model("llama")
    with drive.step("chat"):
        from llama_index.core.llms import ChatMessage

        def answer() -> str:
            try:
                return str(llm.chat([ChatMessage(role="user", content="hi")]).message.content)
            except Exception as error:
                return "" if "404" in str(error) else repr(error)  # the deployment is still being made

        text = until(answer, bool)
        want("messages" in text, text)
    undeploy("llama")
    report(metadata.version("llama-index-finetuning"), scopes)


if __name__ == "__main__":
    main()
