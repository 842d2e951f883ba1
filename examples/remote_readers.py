"""One writer, one reader beside it, and one that may be on another machine.

All three on this machine::

    python examples/remote_readers.py

Or the last one elsewhere. The writer puts the queue's handle in a file; take that to the
other machine by a safe way, such as scp, for whoever has it can read the queue::

    python examples/remote_readers.py write handle.txt --port 5555     on this machine
    python examples/remote_readers.py read handle.txt                  on the other one
"""

import argparse
import asyncio
from multiprocessing import get_context
from pathlib import Path

from aioshm import Handle, MessageQueue, WriterDied

LOCAL, REMOTE = 0, 1  # ranks: local readers come first


async def write(steps: int, ip: str | None, port: int, file: Path | None) -> None:
    # Without an ip, the readers connect to this machine's address as its routes say.
    async with MessageQueue.create(
        n_reader=2, n_local_reader=1, connect_ip=ip, port=port, on_reader_death="evict"
    ) as queue:
        handle = queue.export_handle()
        start_reader(handle, LOCAL)
        if file is None:
            start_reader(handle, REMOTE)
        else:
            save(handle, file)
        await queue.wait_until_ready()
        for step in range(1, steps + 1):
            await queue.enqueue({"step": step, "tokens": [step] * 3})
        await queue.aclose(timeout=60)  # the readers get everything first


def save(handle: Handle, file: Path) -> None:
    file.unlink(missing_ok=True)
    file.touch(mode=0o600)
    file.write_text(handle.to_string())
    print(f"listening at {handle.address}, handle in {file}", flush=True)


async def read(handle: Handle, rank: int) -> None:
    try:
        async with MessageQueue.create_from_handle(handle, rank) as queue:
            async for message in queue:  # the same calls, wherever the writer is
                print(f"rank {rank} got {message}", flush=True)
    except WriterDied as error:  # or its network; raised after all that came was read
        raise SystemExit(f"rank {rank}: {error}") from None


def run_reader(handle: Handle, rank: int) -> None:
    asyncio.run(read(handle, rank))


def start_reader(handle: Handle, rank: int) -> None:
    get_context("spawn").Process(target=run_reader, args=(handle, rank)).start()


def main() -> None:
    parser = argparse.ArgumentParser(description="readers here and on another machine")
    parser.add_argument("role", nargs="?", choices=("write", "read"), help="default: all")
    parser.add_argument("file", nargs="?", type=Path, help="where the handle is")
    parser.add_argument("--ip", help="the writer's address, as the other machine knows it")
    parser.add_argument("--port", type=int, default=0, help="the writer's; 0 takes a free one")
    parser.add_argument("--steps", type=int, default=5)
    args = parser.parse_args()
    if args.role and not args.file:
        parser.error(f"{args.role} needs the file for the handle")
    if args.role == "read":
        run_reader(Handle.from_string(args.file.read_text()), REMOTE)
    else:
        try:
            asyncio.run(write(args.steps, args.ip, args.port, args.file))
        finally:
            if args.file:
                args.file.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
