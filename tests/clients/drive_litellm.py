"""litellm: its files and fine-tuning calls for `openai` and `azure`, sync and async, and a completion."""

import asyncio
import io
import os
from importlib import metadata
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # it would be fetched from the network

import litellm
from drive import (
    API_VERSION,
    HELD_EPOCHS,
    KEY,
    MODEL,
    URL,
    Drive,
    deploy,
    repeats,
    report,
    rows,
    undeploy,
    until,
)
from drive import wanted as want


def named_rows() -> Any:
    file = io.BytesIO(rows())
    file.name = "rows.jsonl"
    return file


def walk(drive: Drive, way: dict[str, Any], provider: str) -> None:
    with drive.step("create_file"):
        file = litellm.create_file(file=named_rows(), purpose="fine-tune", **way)
        want(file.bytes == len(rows()), file)
    with drive.step("acreate_file"):
        want(asyncio.run(litellm.acreate_file(file=named_rows(), purpose="fine-tune", **way)).id, "no file")
    with drive.step("file_retrieve"):
        want(litellm.file_retrieve(file.id, **way).id == file.id, "another file")
    with drive.step("file_list"):
        want(file.id in [one.id for one in litellm.file_list(**way)], "not in the list")
    with drive.step("file_content"):
        want(litellm.file_content(file.id, **way).content == rows(), "other bytes")
    more = {"trainingType": "1"} if provider == "azure" else {}
    with drive.step("create_fine_tuning_job"):
        made = litellm.create_fine_tuning_job(
            model=MODEL, training_file=file.id, hyperparameters={"n_epochs": 2}, suffix="lite", **more, **way
        )
    with drive.step("retrieve_fine_tuning_job until succeeded"):
        job = until(
            lambda: litellm.retrieve_fine_tuning_job(made.id, **way),
            lambda found: found.status in ("succeeded", "failed"),
        )
        want(job.status == "succeeded" and job.fine_tuned_model, job)
    with drive.step("acreate_fine_tuning_job"):
        want(asyncio.run(litellm.acreate_fine_tuning_job(model=MODEL, training_file=file.id, **way)).id, "no job")
    with drive.step("list_fine_tuning_jobs"):
        want(made.id in [one.id for one in litellm.list_fine_tuning_jobs(limit=10, **way)], "not in the list")
    with drive.step("cancel_fine_tuning_job"):
        held = litellm.create_fine_tuning_job(
            model=MODEL, training_file=file.id, hyperparameters={"n_epochs": HELD_EPOCHS}, **way
        )
        want(litellm.cancel_fine_tuning_job(held.id, **way).status == "cancelled", "not cancelled")
    with drive.step("error 404"):
        try:
            litellm.retrieve_fine_tuning_job("ftjob-none", **way)
        except Exception as error:
            want(getattr(error, "status_code", None) == 404, repr(error))
        else:
            raise AssertionError("not refused")
    chat(drive, way, provider, job.fine_tuned_model)
    with drive.step("file_delete"):
        want(litellm.file_delete(file.id, **way).deleted, "not deleted")


def chat(drive: Drive, way: dict[str, Any], provider: str, model: str) -> None:
    name = f"openai/{model}"
    if provider == "azure":
        deploy("lite", model)
        name = "azure/lite"
    asked = {key: value for key, value in way.items() if key != "custom_llm_provider"}
    asked |= {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    with drive.step("chat"):
        want(litellm.completion(**asked).choices[0].message.content, "no answer")
    with drive.step("chat, streamed"):
        pieces = list(litellm.completion(**asked, stream=True))
        want(repeats("".join(piece.choices[0].delta.content or "" for piece in pieces), "hi"), pieces)
    if provider == "azure":
        undeploy("lite")


def main() -> None:
    ways: dict[str, dict[str, Any]] = {
        "openai": {"custom_llm_provider": "openai", "api_base": f"{URL}/v1", "api_key": KEY},
        "azure": {"custom_llm_provider": "azure", "api_base": URL, "api_key": KEY, "api_version": API_VERSION},
    }
    scopes = {}
    for provider, way in ways.items():
        drive = scopes[provider] = Drive()
        with drive.step("(all)"):
            walk(drive, way, provider)
        if drive.outcomes["(all)"] == "ok":
            del drive.outcomes["(all)"]
    report(metadata.version("litellm"), scopes)


if __name__ == "__main__":
    main()
