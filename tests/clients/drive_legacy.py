"""openai 0.28.1, the module-level client: as the guide's last block uses it, for Azure, Entra tokens and OpenAI."""

import asyncio
import io
from collections.abc import Callable
from typing import Any

import openai
from drive import API_VERSION, HELD_EPOCHS, KEY, MODEL, URL, Drive, deploy, part, repeats, report, rows, undeploy, until
from drive import wanted as want


def point(api_type: str, key: str = KEY) -> None:
    openai.api_type = api_type
    openai.api_key = key
    openai.api_base = URL if api_type != "open_ai" else f"{URL}/v1"
    openai.api_version = API_VERSION if api_type != "open_ai" else None


def files(drive: Drive) -> Any:
    with drive.step("files.create"):
        made = openai.File.create(file=io.BytesIO(rows()), purpose="fine-tune", user_provided_filename="rows.jsonl")
        want(made.bytes == len(rows()), made)
    with drive.step("files.create, async"):
        other = asyncio.run(openai.File.acreate(file=io.BytesIO(rows(11)), purpose="fine-tune"))
        want(other.bytes == len(rows(11)), other)
    with drive.step("files.retrieve"):
        want(openai.File.retrieve(made.id).status == "processed", "not processed")
    with drive.step("files.list"):
        want(made.id in [file.id for file in openai.File.list().data], "not in the list")
    with drive.step("files.find_matching_files"):
        found = openai.File.find_matching_files(name=made.filename, bytes=len(rows()), purpose="fine-tune")
        want(made.id in [file["id"] for file in found], found)
    with drive.step("files.content"):
        want(openai.File.download(made.id) == rows(), "other bytes")
    return made


def jobs(drive: Drive, file: Any) -> Any:
    calls = openai.FineTuningJob

    def reach(job_id: str, *words: str) -> Any:
        return until(lambda: calls.retrieve(job_id), lambda job: job.status in words)

    with drive.step("jobs.create"):
        made = calls.create(training_file=file.id, model=MODEL, hyperparameters={"n_epochs": 2})
        calls.create(training_file=file.id, model=MODEL)
    with drive.step("jobs.retrieve until succeeded"):
        job = reach(made.id, "succeeded", "failed")
        want(job.status == "succeeded" and job.fine_tuned_model, job)
    with drive.step("jobs.list, pages of 1"):
        first = calls.list(limit=1)
        second = calls.list(limit=1, after=first.data[-1].id)
        want(first.has_more and second.data[0].id == made.id, second)
    with drive.step("jobs.list_events, pages of 2"):
        events = calls.list_events(made.id, limit=2)
        want(len(events.data) == 2 and events.data[0].object == "fine_tuning.job.event", events)
    with drive.step("result file content"):
        want(openai.File.download(job.result_files[0]).startswith(b"step,train_loss"), "no CSV")
    with drive.step("jobs.cancel"):
        long = calls.create(training_file=file.id, model=MODEL, hyperparameters={"n_epochs": HELD_EPOCHS})
        reach(long.id, "running")
        want(calls.cancel(long.id).status == "cancelled", "not cancelled")
    return job


def answers(drive: Drive, job: Any, azure: bool) -> None:
    with drive.step("models.list"):
        want(job.fine_tuned_model in [model.id for model in openai.Model.list().data], "not in the list")
    name = {"engine": "legacy"} if azure else {"model": job.fine_tuned_model}
    if azure:
        with drive.step("deployment"):
            deploy("legacy", job.fine_tuned_model)
    asked = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    with drive.step("chat"):
        want(openai.ChatCompletion.create(**name, **asked).usage.total_tokens == 5, "no usage")
    with drive.step("chat, async"):
        answer = asyncio.run(openai.ChatCompletion.acreate(**name, **asked))
        want(answer.usage.total_tokens == 5, answer)
    with drive.step("chat, streamed"):
        pieces = list(openai.ChatCompletion.create(**name, **asked, stream=True))
        want(repeats("".join(piece.choices[0].delta.get("content", "") for piece in pieces), "hi"), pieces)
    with drive.step("completions"):
        want(openai.Completion.create(**name, prompt="hi", max_tokens=5).object == "text_completion", "no text")
    if azure:
        undeploy("legacy")


def deployments(drive: Drive, job: Any) -> None:
    """The data plane's deployments of 2022-12-01."""
    openai.api_version = "2022-12-01"
    with drive.step("Deployment.create, list, retrieve, delete"):
        made = openai.Deployment.create(model=job.fine_tuned_model, scale_settings={"scale_type": "standard"})
        until(lambda: openai.Deployment.retrieve(made.id), lambda found: found.status == "succeeded")
        want(made.id in [found.id for found in openai.Deployment.list().data], "not in the list")
        openai.Deployment.delete(sid=made.id)
    openai.api_version = API_VERSION


def errors(drive: Drive, job: Any, file: Any, api_type: str) -> None:
    def refused(kind: str, status: int, asked: Callable[[], Any]) -> None:
        try:
            asked()
        except openai.error.OpenAIError as error:
            want(type(error).__name__ == kind and error.http_status == status, repr(error))
            want(error.user_message or str(error), "no message")
            return
        raise AssertionError(f"no {kind}")

    calls = openai.FineTuningJob
    with drive.step("error 404"):
        refused("InvalidRequestError", 404, lambda: calls.retrieve("ftjob-none"))
    with drive.step("error 400"):
        asked = {"training_file": file.id, "model": MODEL, "hyperparameters": {"n_epochs": 0}}
        refused("InvalidRequestError", 400, lambda: calls.create(**asked))
    with drive.step("error 409"):
        # The client's own word for 409; it does not ask again by itself.
        refused("TryAgain", 409, lambda: calls.cancel(job.id))
    with drive.step("error 401"):
        point(api_type, "wrong")
        refused("AuthenticationError", 401, lambda: calls.retrieve(job.id))
    point(api_type)


def main() -> None:
    scopes = {}
    for api_type in ("azure", "azure_ad", "open_ai"):
        drive = scopes[api_type] = Drive()
        point(api_type)
        with drive.step("(all)"):
            file = files(drive)
            job = jobs(drive, file)
            answers(drive, job, api_type != "open_ai")
            errors(drive, job, file, api_type)
            if api_type != "open_ai":
                deployments(drive, job)
            with drive.step("models.delete"):
                want(openai.Model.delete(sid=job.fine_tuned_model).deleted, "not deleted")
            if api_type != "open_ai":
                with drive.step("DELETE job"):
                    part(openai.FineTuningJob, "delete")(sid=job.id)
            with drive.step("files.delete"):
                want(openai.File.delete(sid=file.id).deleted, "not deleted")
        if drive.outcomes["(all)"] == "ok":
            del drive.outcomes["(all)"]
    report(openai.version.VERSION, scopes)


if __name__ == "__main__":
    main()
