"""Web-hooks that arrive although the other side is down, busy or gone for good.

    python examples/webhooks.py

The other side is a server in this program. It is down at first, then busy, and one address is gone.
"""

import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from prismq import Discard, RetryConfig, RetryLater, Task, TaskHandlerRegistry, TaskQueue, WorkerEngine

registry = TaskHandlerRegistry()


@registry.handler("webhook", timeout_seconds=10, retry=RetryConfig(initial_delay_seconds=0.1))
def deliver(task: Task) -> None:
    """POST the event. What is raised says whether and when it is tried again."""
    hook = task.get_payload_dict()
    # The receiver can tell by it that an event comes twice: this side may crash right after the request.
    headers = {"Idempotency-Key": f"task-{task.id}"}
    request = urllib.request.Request(hook["url"], data=hook["event"].encode(), headers=headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5):
            print(f"{hook['event']}: delivered by attempt {task.attempts}")
    except urllib.error.HTTPError as error:
        with error:
            print(f"{hook['event']}: {error.code} {error.reason}")
            if error.code == 410:
                raise Discard("the receiver is gone") from error
            if error.code == 429:
                raise RetryLater(float(error.headers["Retry-After"]), "the receiver is busy") from error
            raise  # again with exponential backoff


requests: Counter[str] = Counter()


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        requests[self.path] += 1
        if self.path == "/gone":
            self.send_response(410)
        elif self.path == "/down" and requests[self.path] <= 2:
            self.send_response(503)
        elif self.path == "/busy" and requests[self.path] == 1:
            self.send_response(429)
            self.send_header("Retry-After", "0.3")
        else:
            self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing: the sender does."""


def main() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Receiver) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with TaskQueue(Path(folder) / "queue.db") as queue:
            address = f"http://127.0.0.1:{server.server_port}"
            ids = [
                queue.enqueue("webhook", {"url": f"{address}/{path}", "event": f"event for {path}"}, max_attempts=4)
                for path in ("ok", "down", "busy", "gone")
            ]
            engine = WorkerEngine(queue, "sender", handler_registry=registry, concurrency=4)
            worker = threading.Thread(target=engine.run_loop)
            worker.start()
            while any(task.finished_at_utc is None for task in map(queue.get, ids) if task is not None):
                time.sleep(0.05)
            engine.stop()
            worker.join()
            for task in filter(None, map(queue.get, ids)):
                print(
                    f"task {task.id}: {task.status} after {task.attempts} attempts, {task.error_message or 'no error'}"
                )
        server.shutdown()


if __name__ == "__main__":
    main()
