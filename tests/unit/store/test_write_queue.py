"""Writers of one process: in FIFO order, refused after a timeout."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from luthier.store.write_queue import QueueTimeout, WriteQueue


def test_threads_get_the_lock_in_fifo_order() -> None:
    queue = WriteQueue()
    order: list[int] = []
    queued: list[threading.Event] = []

    def work(number: int) -> None:
        queued[number].set()
        with queue.held(30):
            order.append(number)

    with ThreadPoolExecutor(20) as pool, queue.held(1):
        for number in range(20):
            queued.append(threading.Event())
            pool.submit(work, number)
            assert queued[number].wait(10)
            while queue.waiting <= number:
                pass
    assert order == list(range(20))


def test_thread_that_times_out_leaves_the_queue() -> None:
    queue = WriteQueue()
    with ThreadPoolExecutor(1) as pool:
        with queue.held(1):
            late = pool.submit(lambda: queue.held(0.01).__enter__())
            with pytest.raises(QueueTimeout):
                late.result(10)
        with queue.held(1):
            assert queue.waiting == 0
