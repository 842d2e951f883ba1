"""A server that answers from a worker process, over two queues: requests out, results back.

Start it with `uvicorn examples.fastapi_app:app` or `python examples/fastapi_app.py`, and
ask for http://127.0.0.1:8000/upper/hello
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from multiprocessing import connection, get_context

import uvicorn
from fastapi import FastAPI, HTTPException

from aioshm import Handle, MessageQueue, Reader, WriterDied

numbers = itertools.count()
answers: dict[int, asyncio.Future[str]] = {}  # by the number of the request


def worker(handle: Handle, pipe: connection.Connection) -> None:
    async def work() -> None:
        async with MessageQueue.create_from_handle(handle, rank=0) as requests:
            async with MessageQueue.create() as results:  # whoever writes a queue creates it
                pipe.send(results.export_handle())
                async for number, text in requests:  # ends when the server closes the queue
                    await results.enqueue((number, f"{text.upper()} from process {os.getpid()}"))

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the server to handle
    asyncio.run(work())


async def collect(results: Reader) -> None:
    with suppress(WriterDied):  # whoever waits for an answer sees this task end
        async for number, text in results:
            if (answer := answers.get(number)) and not answer.done():
                answer.set_result(text)


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    spawn = get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    async with MessageQueue.create(on_reader_death="evict") as requests:
        process = spawn.Process(target=worker, args=(requests.export_handle(), theirs))
        process.start()
        theirs.close()  # so that recv ends if the worker does
        handle = await asyncio.to_thread(ours.recv)
        async with MessageQueue.create_from_handle(handle, rank=0) as results:
            app.state.requests = requests
            app.state.collecting = asyncio.create_task(collect(results))
            yield
            await requests.aclose()  # the worker reads to the end, closes its queue and exits
            await app.state.collecting
    await asyncio.to_thread(process.join)


app = FastAPI(lifespan=lifespan)


@app.get("/upper/{text}")
async def upper(text: str) -> str:
    number, collecting = next(numbers), app.state.collecting
    answers[number] = answer = asyncio.Future[str]()
    try:
        await app.state.requests.enqueue((number, text))
        await asyncio.wait([answer, collecting], return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise HTTPException(503, "the worker died")
        return answer.result()
    finally:
        del answers[number]


if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
