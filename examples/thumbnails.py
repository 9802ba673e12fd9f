"""Thumbnails of a folder of pictures, two at a time, with progress and kept results.

    python examples/thumbnails.py

The pictures are PPM files, which need no library: a header, then three bytes a pixel.
"""

import tempfile
import threading
import time
from pathlib import Path

from prismq import Discard, Task, TaskContext, TaskHandlerRegistry, TaskQueue, WorkerEngine

FACTOR = 4
registry = TaskHandlerRegistry()


@registry.handler("thumbnail", keep_result=True, timeout_seconds=60)
def make_thumbnail(task: Task, context: TaskContext) -> dict[str, object]:
    """Shrink one picture: each pixel is the mean of a square of FACTOR x FACTOR pixels."""
    source = Path(task.get_payload_dict()["picture"])
    width, height, pixels = read_ppm(source)
    small = bytearray()
    for top in range(0, height, FACTOR):
        context.check()  # ends here if the task was cancelled
        for left in range(0, width, FACTOR):
            starts = [((top + row) * width + left) * 3 for row in range(FACTOR)]
            for colour in range(3):
                square = (pixels[start + colour : start + FACTOR * 3 : 3] for start in starts)
                small.append(sum(map(sum, square)) // FACTOR**2)
        context.progress((top + FACTOR) / height, f"row {top + FACTOR} of {height}")
    target = source.with_suffix(".thumbnail.ppm")
    write_ppm(target, width // FACTOR, height // FACTOR, bytes(small))
    return {"file": target.name, "width": width // FACTOR, "height": height // FACTOR}


def read_ppm(path: Path) -> tuple[int, int, bytes]:
    header, _, pixels = path.read_bytes().partition(b"\n")
    magic, width, height, _ = header.split()
    if magic != b"P6":
        raise Discard(f"{path} is not a PPM file")  # nor will it be one later
    return int(width), int(height), pixels


def write_ppm(path: Path, width: int, height: int, pixels: bytes) -> None:
    path.write_bytes(b"P6 %d %d 255\n" % (width, height) + pixels)


def draw_pictures(folder: Path, count: int) -> list[Path]:
    paths = [folder / f"picture-{number}.ppm" for number in range(count)]
    for number, path in enumerate(paths):
        pixels = bytes(value for y in range(96) for x in range(128) for value in (2 * x, 2 * y, 40 * number % 256))
        write_ppm(path, 128, 96, pixels)
    return paths


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pictures = draw_pictures(folder, 6)
        with TaskQueue(folder / "queue.db") as queue:
            # The key makes sure that a picture is a task once, however often this is run.
            ids = queue.enqueue_many(
                {"type": "thumbnail", "payload": {"picture": str(path)}, "idempotency_key": path.name}
                for path in pictures
            )
            print(f"{len(ids)} pictures of {pictures[0].stat().st_size:,} bytes")

            engine = WorkerEngine(queue, "painter", handler_registry=registry, concurrency=2)
            worker = threading.Thread(target=engine.run_loop)
            worker.start()
            while any(task.finished_at_utc is None for task in map(queue.get, ids) if task is not None):
                time.sleep(0.05)
            engine.stop()
            worker.join()

            for task_id in ids:
                report = queue.report(task_id)
                print(f"task {task_id}: {report.result if report else 'failed'}")
        print(f"{len(list(folder.glob('*.thumbnail.ppm')))} thumbnails")


if __name__ == "__main__":
    main()
