"""The official Python SDK from 1.3.9 on: every dialect, sync and async, the whole workflow and every error."""

import asyncio
import base64
import inspect
import os
from collections.abc import Callable
from typing import Any

import openai
from drive import (
    API_VERSION,
    HELD_EPOCHS,
    KEY,
    MODEL,
    URL,
    Absent,
    Drive,
    deploy,
    part,
    repeats,
    report,
    rest,
    rows,
    undeploy,
)
from drive import wanted as want

TERMINAL = {"succeeded", "failed", "cancelled"}
SCOPES = [(dialect, mode) for dialect in ("azure", "azure_v1", "openai") for mode in ("sync", "async")]


def make(dialect: str, mode: str, key: str = KEY, **more: Any) -> Any:
    """The client as its documentation makes it."""
    if dialect == "azure":
        kind = openai.AzureOpenAI if mode == "sync" else openai.AsyncAzureOpenAI
        return kind(azure_endpoint=URL, api_key=key, api_version=API_VERSION, **more)
    plain = openai.OpenAI if mode == "sync" else openai.AsyncOpenAI
    return plain(base_url=URL + ("/openai/v1/" if dialect == "azure_v1" else "/v1"), api_key=key, **more)


async def got(value: Any) -> Any:
    return await value if inspect.isawaitable(value) else value


async def every(listing: Any) -> list[Any]:
    """All items over all pages; a list of no more than one page in the oldest clients."""
    if hasattr(listing, "__aiter__"):
        return [item async for item in listing]
    return list(await got(listing))


class Workflow:
    """One walk through everything, in one dialect and one mode; later steps use what earlier ones made."""

    def __init__(self, drive: Drive, dialect: str, mode: str) -> None:
        self.drive, self.dialect, self.mode = drive, dialect, mode
        # The SDK's own tests check answers so; it takes no word that its types do not list, such as `paused`.
        strict = {"_strict_response_validation": True} if dialect == "openai" else {}
        self.client = make(dialect, mode, **strict)
        self.relaxed = make(dialect, mode)
        self.tag = f"{dialect}-{mode}".replace("_", "-")

    async def run(self) -> None:
        await self.files()
        await self.train()
        await self.hold()
        await self.models()
        await self.chat()
        await self.errors()
        await self.uploads()
        await self.others()
        await self.clean_up()

    async def upload(self) -> Any:
        return await got(self.client.files.create(file=("rows.jsonl", rows()), purpose="fine-tune"))

    async def ended(self, job_id: str, words: set[str] = TERMINAL) -> Any:
        for _ in range(600):
            job = await got(self.relaxed.fine_tuning.jobs.retrieve(job_id))
            if job.status in words:
                return job
            await asyncio.sleep(0.05)
        raise TimeoutError(f"{job_id} is still {job.status}")

    async def files(self) -> None:
        step, files = self.drive.step, self.client.files
        with step("files.create"):
            self.file = await self.upload()
            self.other_file = await self.upload()
            want(self.file.id.startswith("file-") and self.file.bytes == len(rows()), self.file)
        with step("files.wait_for_processing"):
            done = await got(part(files, "wait_for_processing")(self.file.id))
            want(done.status == "processed", done)
        with step("files.retrieve"):
            found = await got(files.retrieve(self.file.id))
            want((found.filename, found.purpose) == ("rows.jsonl", "fine-tune"), found)
        with step("files.list"):
            ids = [file.id for file in await every(files.list())]
            want({self.file.id, self.other_file.id} <= set(ids) and len(ids) == len(set(ids)), ids)
        with step("files.list, pages of 1"):
            if "limit" not in inspect.signature(files.list).parameters:
                raise Absent
            ids = [file.id for file in await every(files.list(limit=1, purpose="fine-tune"))]
            want(len(ids) == len(set(ids)) and {self.file.id, self.other_file.id} <= set(ids), ids)
        with step("files.content"):
            want((await got(files.content(self.file.id))).read() == rows(), "other bytes")

    async def train(self) -> None:
        step, jobs = self.drive.step, self.client.fine_tuning.jobs
        with step("jobs.create"):
            made = await got(
                jobs.create(training_file=self.file.id, validation_file=self.other_file.id, model=MODEL, suffix="clip")
            )
            want(made.id.startswith("ftjob-") and made.status not in TERMINAL, made)
            self.job_id = made.id
        with step("jobs.retrieve until succeeded"):
            self.job = await self.ended(self.job_id)
            want(self.job.status == "succeeded" and self.job.fine_tuned_model, self.job)
            await got(jobs.retrieve(self.job_id))
        with step("jobs.create, method and metadata"):
            if "method" not in inspect.signature(jobs.create).parameters:
                raise Absent
            method = {"type": "supervised", "supervised": {"hyperparameters": {"n_epochs": 2}}}
            made = await got(
                jobs.create(training_file=self.file.id, model=MODEL, method=method, metadata={"of": self.tag})
            )
            await self.ended(made.id)
        with step("jobs.create, trainingType"):
            body = {"trainingType": "globalStandard"}
            made = await got(jobs.create(training_file=self.file.id, model=MODEL, extra_body=body))
            await self.ended(made.id)
        with step("jobs.list, pages of 1"):
            ids = [job.id for job in await every(jobs.list(limit=1))]
            want(self.job_id in ids and len(ids) == len(set(ids)) >= 2, ids)
        with step("jobs.list, metadata filter"):
            if "metadata" not in inspect.signature(jobs.list).parameters:
                raise Absent
            found = await every(jobs.list(metadata={"of": self.tag}))
            want(len(found) == 1 and found[0].metadata == {"of": self.tag}, f"{len(found)} jobs")
        with step("jobs.list_events, pages of 2"):
            events = await every(jobs.list_events(self.job_id, limit=2))
            want(len(events) > 4 and len({event.id for event in events}) == len(events), events)
            times = [event.created_at for event in events]
            want(times[0] == max(times), times)
        with step("jobs.checkpoints.list"):
            found = await every(part(jobs, "checkpoints.list")(self.job_id, limit=1))
            want([point.step_number for point in found] == [4, 2], found)
            self.checkpoint = found[1].fine_tuned_model_checkpoint
        with step("result file content"):
            text = (await got(self.client.files.content(self.job.result_files[0]))).read()
            if "/openai" not in str(self.client.base_url) and not text.startswith(b"step"):
                text = base64.b64decode(text)  # as from OpenAI
            want(text.startswith(b"step,train_loss"), text[:80])

    async def hold(self) -> None:
        step, jobs = self.drive.step, self.client.fine_tuning.jobs
        long = {"n_epochs": HELD_EPOCHS}

        async def running() -> str:
            made = await got(jobs.create(training_file=self.file.id, model=MODEL, hyperparameters=long))
            await self.ended(made.id, {"running"})
            return str(made.id)

        with step("jobs.cancel"):
            cancelled = await got(jobs.cancel(await running()))
            want(cancelled.status == "cancelled", cancelled)
        with step("jobs.pause, jobs.resume"):
            part(jobs, "pause")
            held = await running()
            try:
                await got(self.relaxed.fine_tuning.jobs.pause(held))
                await self.ended(held, {"paused"})
                await got(jobs.resume(held))
                await self.ended(held, {"running"})
            finally:
                await got(jobs.cancel(held))

    async def models(self) -> None:
        with self.drive.step("models.list"):
            names = [model.id for model in await every(self.client.models.list())]
            want({MODEL, self.job.fine_tuned_model} <= set(names), names)
        with self.drive.step("models.retrieve"):
            found = await got(self.client.models.retrieve(self.job.fine_tuned_model))
            want(found.id == self.job.fine_tuned_model, found)

    async def chat(self) -> None:
        step = self.drive.step
        self.name = self.job.fine_tuned_model
        if self.dialect != "openai":
            with step("deployment"):
                await asyncio.to_thread(deploy, self.tag, self.job.fine_tuned_model)
                self.name = self.tag
        asked: dict[str, Any] = {"model": self.name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
        with step("chat"):
            answer = await got(self.client.chat.completions.create(**asked))
            want(answer.choices[0].message.role == "assistant" and answer.usage.total_tokens == 5, answer)
        with step("chat, streamed"):
            pieces = await every(await got(self.client.chat.completions.create(**asked, stream=True)))
            text = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
            want(repeats(text, "hi"), text)
        with step("chat, streamed with usage"):
            stream = await got(
                self.client.chat.completions.create(
                    **asked, stream=True, extra_body={"stream_options": {"include_usage": True}}
                )
            )
            usage = (await every(stream))[-1].usage  # 1.3.9 does not know the field and leaves it a dict
            want((usage if isinstance(usage, dict) else usage.model_dump())["total_tokens"] == 5, usage)
        with step("completions"):
            text = await got(self.client.completions.create(model=self.name, prompt="hi", max_tokens=5))
            want(text.object == "text_completion", text)

    async def errors(self) -> None:
        step, jobs = self.drive.step, self.relaxed.fine_tuning.jobs

        async def refused(kind: type[openai.APIStatusError], asked: Callable[[], Any]) -> Any:
            try:
                await got(asked())
            except kind as error:
                want(isinstance(error.body, dict) and error.body.get("message"), error.body)
                want(error.response.headers.get("x-should-retry") == "false", "would be asked again")
                return error
            raise AssertionError(f"no {kind.__name__}")

        with step("error 401"):
            wrong = make(self.dialect, self.mode, "wrong")
            await refused(openai.AuthenticationError, lambda: wrong.fine_tuning.jobs.retrieve(self.job_id))
        with step("error 404"):
            await refused(openai.NotFoundError, lambda: jobs.retrieve("ftjob-none"))
            await refused(openai.NotFoundError, lambda: self.relaxed.files.retrieve("file-none"))
        with step("error 400"):
            error = await refused(
                openai.BadRequestError,
                lambda: jobs.create(training_file=self.file.id, model=MODEL, hyperparameters={"n_epochs": 0}),
            )
            want("n_epochs" in str(error.param or error.body), error.body)
        with step("error 409"):
            await refused(openai.ConflictError, lambda: jobs.cancel(self.job_id))

    async def uploads(self) -> None:
        step = self.drive.step
        about: dict[str, Any] = {
            "bytes": len(rows()),
            "filename": "parts.jsonl",
            "mime_type": "application/jsonl",
            "purpose": "fine-tune",
        }
        with step("uploads.create, parts, complete"):
            uploads = part(self.client, "uploads")
            made = await got(uploads.create(**about))
            half = len(rows()) // 2
            parts = [
                (await got(uploads.parts.create(made.id, data=data))).id for data in (rows()[:half], rows()[half:])
            ]
            done = await got(uploads.complete(made.id, part_ids=parts))
            want(done.status == "completed" and done.file.bytes == len(rows()), done)
        with step("uploads.cancel"):
            uploads = part(self.client, "uploads")
            made = await got(uploads.create(**about))
            want((await got(uploads.cancel(made.id))).status == "cancelled", made)

    async def others(self) -> None:
        step = self.drive.step
        if self.dialect == "openai":
            with step("checkpoints.permissions"):
                permissions = part(self.client, "fine_tuning.checkpoints.permissions")
                made = await every(permissions.create(self.checkpoint, project_ids=["proj_other"]))
                await got(permissions.delete(made[0].id, fine_tuned_model_checkpoint=self.checkpoint))
        await self.azure_ways()

    async def azure_ways(self) -> None:
        """What only the dated Azure dialect has."""
        step = self.drive.step
        if self.dialect != "azure":
            return
        with step("files/import"):
            body = {"purpose": "fine-tune", "filename": "far.jsonl", "content_url": f"{URL}/healthz"}
            try:
                made = await got(self.client.post("/files/import", cast_to=object, body=body))
                want(made["id"].startswith("file-"), made)
            except openai.BadRequestError:
                pass  # a loopback address is not fetched
        with step("azure_ad_token"):
            kind = openai.AzureOpenAI if self.mode == "sync" else openai.AsyncAzureOpenAI
            os.environ.pop("AZURE_OPENAI_API_KEY", None)
            by_token = kind(azure_endpoint=URL, azure_ad_token=KEY, api_version=API_VERSION)
            await every(by_token.fine_tuning.jobs.list(limit=5))
        with step("azure_deployment for files and jobs"):
            named = make(self.dialect, self.mode, azure_deployment=self.tag)
            await every(named.files.list())
            await every(named.fine_tuning.jobs.list(limit=5))

    async def clean_up(self) -> None:
        step = self.drive.step
        if self.dialect != "openai":
            undeploy(self.tag)
        with step("models.delete"):
            want((await got(self.client.models.delete(self.job.fine_tuned_model))).deleted, "not deleted")
        if self.dialect == "azure":
            with step("DELETE job"):
                await got(self.client.delete(f"/fine_tuning/jobs/{self.job_id}", cast_to=type(None)))
                status, _ = rest("GET", f"/openai/fine_tuning/jobs/{self.job_id}?api-version={API_VERSION}")
                want(status == 404, status)
        with step("files.delete"):
            want((await got(self.client.files.delete(self.file.id))).deleted, "not deleted")


def main() -> None:
    scopes = {}
    for dialect, mode in SCOPES:
        drive = scopes[f"{dialect} {mode}"] = Drive()
        with drive.step("(all)"):
            asyncio.run(Workflow(drive, dialect, mode).run())
        if drive.outcomes["(all)"] == "ok":
            del drive.outcomes["(all)"]
    report(openai.__version__, scopes)


if __name__ == "__main__":
    main()
