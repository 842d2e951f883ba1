import asyncio
from multiprocessing import get_context
from aioshm import Handle, MessageQueue

def reader(handle: Handle, rank: int) -> None:
    async def read() -> None:
        async with MessageQueue.create_from_handle(handle, rank) as queue:
            async for message in queue:
                print(f"reader {rank} got {message}")
    asyncio.run(read())

async def main() -> None:
    async with MessageQueue.create(n_reader=2) as queue:
        for rank in range(2):
            get_context("spawn").Process(target=reader, args=(queue.handle, rank)).start()
        await queue.enqueue("hello, everybody")

if __name__ == "__main__":
    asyncio.run(main())
