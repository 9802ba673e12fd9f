"""A hundred pages fetched at a time by coroutines, on one event loop of one worker.

    python examples/fetcher.py

The pages come from a slow server in this program.
"""

import asyncio
import tempfile
import time
from pathlib import Path

from prismq import Task, TaskHandlerRegistry, TaskQueue, WorkerEngine

registry = TaskHandlerRegistry()
PAGES, ANSWER_SECONDS = 300, 0.1


@registry.handler("fetch", timeout_seconds=30, keep_result=True)
async def fetch(task: Task) -> int:
    """How many bytes the page has. While this awaits, others run."""
    page = task.get_payload_dict()
    reader, writer = await asyncio.open_connection("127.0.0.1", page["port"])
    try:
        writer.write(f"GET {page['path']} HTTP/1.0\r\n\r\n".encode())
        await writer.drain()
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
        await writer.wait_closed()
    if not head.startswith(b"HTTP/1.0 200"):
        raise RuntimeError(f"{page['path']}: {head.decode()}")  # tried again with backoff
    return len(body)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
    await asyncio.sleep(ANSWER_SECONDS)
    writer.write(b"HTTP/1.0 200 OK\r\n\r\n" + path * 100)
    await writer.drain()
    writer.close()
    await writer.wait_closed()


async def main() -> None:
    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=200)
    port = server.sockets[0].getsockname()[1]
    async with server:
        with tempfile.TemporaryDirectory() as folder, TaskQueue(Path(folder) / "queue.db") as queue:
            pages = [{"type": "fetch", "payload": {"port": port, "path": f"/page/{n}"}} for n in range(PAGES)]
            ids = await asyncio.to_thread(queue.enqueue_many, pages)
            # The worker has a loop of its own; this one goes on with the server.
            engine = WorkerEngine(queue, "fetcher", handler_registry=registry, concurrency=100, prefetch=50)
            started = time.perf_counter()
            worker = asyncio.create_task(asyncio.to_thread(engine.run_loop))
            while engine.counts.completed + engine.counts.failed < PAGES:
                await asyncio.sleep(0.02)
            seconds = time.perf_counter() - started
            engine.stop()
            await worker
            reports = [await asyncio.to_thread(queue.report, task_id) for task_id in ids]
    sizes = [report.get_result() for report in reports if report is not None]
    print(f"{len(sizes)} pages, {sum(sizes):,} bytes in {seconds:.1f} s")
    print(f"one after the other they take {PAGES * ANSWER_SECONDS:.0f} s")


if __name__ == "__main__":
    asyncio.run(main())
