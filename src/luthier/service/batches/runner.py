"""The runner of batches: a task on the event loop for each open batch, from its input file to its output files.

What it knows is in the database, the folder and the journal of each batch: a batch whose work fails, or is killed, is
begun again from there.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from luthier.core.errors import LuthierError, NoSpace, RateLimited, Unavailable, UpstreamFailed
from luthier.core.inference.batches import Batch, BatchFault
from luthier.core.states import BatchStatus
from luthier.service.batches import batch_folder, input_lines, preparation, results, whole_steps
from luthier.service.batches.batch_folder import BatchFolder
from luthier.service.batches.input_lines import InputLine
from luthier.service.batches.journal import Journal
from luthier.service.batches.journal_writer import JournalWriter
from luthier.service.batches.line_calls import LineAnswer, LineCalls
from luthier.service.batches.open_batch import FIRST_BACKOFF_S, Backoff, OpenBatch
from luthier.service.batches.turns import Turns
from luthier.service.context import Context
from luthier.service.scheduling import slot_draining
from luthier.service.shutdown import Stopped
from luthier.store.queries.inference import batches

logger = logging.getLogger(__name__)

TICK_S = 5.0
"""So often the runner looks at its open batches, and writes how far they are."""
IDLE_TICK_S = 60.0
"""The same without any: a new one wakes it."""


class BatchRunner:
    """Works on every open batch, from `start` to `stop`; so many lines at once are in progress, resources in turn.

    Lives on one event loop, but for `wake`. Only the holder of the supervisor's lease has one; a former holder that
    wakes changes no row, and what it still appends to a journal is read by the next one.
    """

    def __init__(
        self,
        context: Context,
        lines_at_once: int,
        tick_s: float = TICK_S,
        idle_tick_s: float = IDLE_TICK_S,
        first_backoff_s: float = FIRST_BACKOFF_S,
    ) -> None:
        self._context = context
        self._first_backoff_s = first_backoff_s
        self._turns = Turns(lines_at_once)
        self._tick_s = tick_s
        self._idle_tick_s = idle_tick_s
        self._open: dict[str, OpenBatch] = {}
        self._working: dict[str, asyncio.Task[None]] = {}
        self._is_stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self._validating = asyncio.Semaphore(1)
        self._task: asyncio.Task[None] | None = None

    def start(self, calls: LineCalls) -> None:
        """Begins the work on the running event loop, with whatever a former process has left."""
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.create_task(self._run(calls))

    async def stop(self) -> None:
        """Ends the work: lines in progress are begun again at the next start."""
        self._is_stopping = True
        if self._task is not None:
            await slot_draining.cancel([self._task])
        await slot_draining.cancel(list(self._working.values()))

    def wake(self) -> None:
        """Has the runner look at the batches now, after a request; for any thread."""
        if self._loop is not None:
            with suppress(RuntimeError):  # the loop has ended
                self._loop.call_soon_threadsafe(self._woken.set)

    async def _run(self, calls: LineCalls) -> None:
        """Looks at the batches whenever it is woken, and as often as is due."""
        while True:
            self._woken.clear()
            try:
                await self._look(calls)
            except LuthierError as error:
                logger.error("batches not looked at: %s", error)
            except Exception:
                logger.exception("batches not looked at")
            with suppress(TimeoutError):
                async with asyncio.timeout(self._tick_s if self._working else self._idle_tick_s):
                    await self._woken.wait()

    async def _look(self, calls: LineCalls) -> None:
        """Begins the work on open batches that nobody works on, ends that on others, and writes the counts of all."""
        at_work = set(self._working)
        # Before the rows: a batch that is not open in rows read later has ended for good. The other way round a process
        # that is paused in between would remove what another one has begun since.
        present = await whole_steps.in_thread(batch_folder.list_ids, self._context)
        listed = {batch.id: batch for batch in await whole_steps.in_thread(self._list_open, list(self._open.values()))}
        await whole_steps.in_thread(batch_folder.remove, self._context, present - listed.keys() - at_work)
        # Those of deleted resources; one that has just ended is done, or about to be.
        await slot_draining.cancel([task for id, task in self._working.items() if id not in listed])
        for batch in listed.values():
            if batch.id not in self._working:
                task = self._working[batch.id] = asyncio.create_task(self._guarded(calls, batch))
                task.add_done_callback(partial(self._forget, batch.id))
            elif (opened := self._open.get(batch.id)) is not None and self._is_to_end(batch):
                opened.over.set()

    def _forget(self, batch_id: str, _: "asyncio.Task[None]") -> None:
        self._working.pop(batch_id, None)

    def _list_open(self, opened: Sequence[OpenBatch]) -> list[Batch]:
        """The batches that have not ended, as they are in the database once the counts of these are written there."""
        news = [(one, counts) for one in opened if (counts := one.journal.counts) != one.written_counts]
        if news:
            with self._context.database.writing() as tx:
                for one, counts in news:
                    batches.set_counts(tx, one.batch.id, counts)
            for one, counts in news:
                one.written_counts = counts
        with self._context.database.reading() as tx:
            return batches.list_open(tx)

    def _is_to_end(self, batch: Batch) -> bool:
        """Whether no further line of the batch may begin: it is cancelled, or its window is over."""
        return batch.status is BatchStatus.CANCELLING or batch.expires_at <= self._context.deletion_time()

    async def _guarded(self, calls: LineCalls, batch: Batch) -> None:
        """Works on one batch. An error is logged: a later look begins again, from what is on disk."""
        try:
            await self._work(calls, batch)
        except Stopped:
            return
        except LuthierError as error:
            logger.error("batch delayed id=%s code=%s", batch.id, error.code)
        except Exception as error:  # noqa: BLE001 - its text, which may be a line's, is not logged
            logger.error("batch delayed id=%s kind=%s", batch.id, type(error).__name__)
        finally:
            self._open.pop(batch.id, None)

    async def _work(self, calls: LineCalls, batch: Batch) -> None:
        """One batch from where it is to its end, or to an error that ends this attempt at it."""
        folder = batch_folder.of_batch(self._context, batch.id)
        if batch.status is BatchStatus.VALIDATING:
            async with self._validating:
                validate = partial(preparation.validate, self._context, calls, batch, folder)
                await whole_steps.in_thread(validate, lambda: self._is_stopping)
            self._woken.set()  # the next look continues with it
            return
        opened = await whole_steps.in_thread(self._opened, batch, folder)
        if opened is None:
            return
        self._open[batch.id] = opened
        if batch.status is BatchStatus.IN_PROGRESS and not self._is_to_end(batch):
            await self._answer_lines(calls, opened)
        finish = partial(results.finish, self._context, batch, folder)
        await whole_steps.in_thread(finish, opened.journal, opened.places)

    def _opened(self, batch: Batch, folder: BatchFolder) -> OpenBatch | None:
        """The batch with its lines and its journal; None if its folder was lost, which fails it.

        One that was cancelled before its file was checked has no lines.
        """
        try:
            places = input_lines.find_places(folder.input) if batch.total else []
        except FileNotFoundError:
            text = "The service has lost what it had stored of this batch. Create a new batch with the same file."
            preparation.fail(self._context, batch, folder, (BatchFault("batch_lost", text),))
            return None
        writer = JournalWriter(Journal.open(folder.journal))
        return OpenBatch(batch, folder, places, writer, Backoff(self._first_backoff_s))

    async def _answer_lines(self, calls: LineCalls, opened: OpenBatch) -> None:
        """Has all lines answered that have no answer yet, until they are or `over` is set.

        Lines in progress at its end are given up. Raises what a line's task has raised.
        """
        feeding = asyncio.create_task(self._feed(calls, opened))
        opened.begin()
        try:
            await opened.over.wait()
        finally:
            await slot_draining.cancel([feeding, *opened.tasks])
            await opened.writer.close()
        if opened.error is not None:
            raise opened.error

    async def _feed(self, calls: LineCalls, opened: OpenBatch) -> None:
        """Begins one waiting line after another, each once it is the batch's turn and no back-off holds; never ends."""
        while True:
            if not opened.pending:
                opened.has_pending.clear()
                await opened.has_pending.wait()
            if left_s := opened.backoff.left_s:
                await asyncio.sleep(left_s)
                continue
            await self._turns.take(opened.batch.resource_id)
            task = asyncio.create_task(self._answer_line(calls, opened, opened.pending.popleft()))
            opened.tasks.add(task)
            task.add_done_callback(opened.ended)
            task.add_done_callback(lambda _: self._turns.give_back())

    async def _answer_line(self, calls: LineCalls, opened: OpenBatch, index: int) -> None:
        """One line from the file to the journal; or behind the others again, if its call may succeed later."""
        line = await whole_steps.in_thread(_read_line, opened, index)
        answer = await self._ask(calls, opened, index, line.body)
        if answer is None:
            opened.put_back(index)
            return
        await opened.writer.append(results.answered(self._context, index, line.custom_id, answer))
        opened.look_whether_over()

    async def _ask(self, calls: LineCalls, opened: OpenBatch, index: int, body: bytes) -> LineAnswer | None:
        """The answer to a line's body, an error included; None if the call may succeed later."""
        batch = opened.batch
        try:
            answer = await calls.answer(batch, body)
        except (RateLimited, Unavailable) as error:
            opened.backoff.note_failure(error.retry_after_s)
            return None
        except NoSpace:
            opened.backoff.note_failure(None)
            return None
        except UpstreamFailed as error:
            if not opened.is_engine_fault_final(index):
                return None
            return calls.refusal(batch, error)
        except LuthierError as error:
            return calls.refusal(batch, error)
        except Exception as error:  # noqa: BLE001 - as the application's last handler, without the caller's text
            logger.error("bug in a line id=%s index=%d kind=%s", batch.id, index, type(error).__name__)
            text = f"Internal error; the service's log names it under {batch.id}."
            return calls.refusal(batch, UpstreamFailed("internal_error", text))
        opened.backoff.note_success()
        return answer


def _read_line(opened: OpenBatch, index: int) -> InputLine:
    """The line of that index, from the batch's copy of its file. Raises OSError."""
    return input_lines.parse(opened.places[index].read(opened.folder.input))
