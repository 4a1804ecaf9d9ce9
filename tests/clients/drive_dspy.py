"""dspy: its OpenAI fine-tuning provider, which needs OpenAI's words for a job's status."""

import json
import os
import time
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

from drive import HELD_EPOCHS, KEY, MODEL, URL, Drive, report, rows, until
from drive import wanted as want

os.environ |= {
    "OPENAI_API_KEY": KEY,
    "OPENAI_BASE_URL": f"{URL}/v1",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DSPY_FINETUNEDIR": str(Path.cwd() / "finetune"),
    "DSPY_CACHEDIR": str(Path.cwd() / "cache"),
}

import dspy
from dspy.clients import openai as provider
from dspy.clients.utils_finetune import TrainDataFormat, TrainingStatus

# It looks every 20 seconds, whatever one asks for.
provider.time = SimpleNamespace(sleep=lambda seconds: time.sleep(0.1))


def main() -> None:
    drive = Drive()
    data = [json.loads(line) for line in rows().splitlines()]
    lm = dspy.LM(f"openai/{MODEL}", api_key=KEY, api_base=f"{URL}/v1", max_tokens=5, cache=False)
    with drive.step("finetune"):
        done = lm.finetune(data, TrainDataFormat.CHAT, {"n_epochs": 2})
        tuned = done.result(timeout=60)
        want(not isinstance(tuned, Exception), tuned)
        want(".ft-" in tuned.model, tuned.model)
    with drive.step("chat"):
        # It looks the prefix up in its list of providers, as it does for OpenAI's own ft: names.
        served = dspy.LM(f"openai/{tuned.model}", api_key=KEY, api_base=f"{URL}/v1", max_tokens=5, cache=False)
        want(served("hi")[0], "no answer")
    with drive.step("status and cancel"):
        job = provider.TrainingJobOpenAI()
        path = provider.save_data(data)
        job.provider_file_id = provider.OpenAIProvider.upload_data(path)
        job.provider_job_id = provider.OpenAIProvider._start_remote_training(
            job.provider_file_id, MODEL, {"n_epochs": HELD_EPOCHS}
        )
        until(job.status, lambda status: status == TrainingStatus.running)
        made = job.provider_job_id
        job.cancel()
        want(provider.OpenAIProvider.get_training_status(made) == TrainingStatus.cancelled, "not cancelled")
    with drive.step("does_job_exist, does_file_exist"):
        want(provider.OpenAIProvider.does_job_exist(made), "no job")
        want(not provider.OpenAIProvider.does_job_exist("ftjob-none"), "a job")
        want(not provider.OpenAIProvider.does_file_exist("file-none"), "a file")
    report(metadata.version("dspy"), {"OpenAIProvider": drive})


if __name__ == "__main__":
    main()
