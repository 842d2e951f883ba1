"""The HTTP side: checks what comes in, streams tokens as server-sent events, notices who leaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from examples.engine_server.client import EngineDown, Stream
from examples.engine_server.supervisor import Supervisor


class Prompt(BaseModel, extra="forbid"):
    """The body of a request."""

    prompt: Annotated[str, Field(max_length=10_000)]
    max_tokens: Annotated[int, Field(ge=1, le=1024)] = 32
    seed: Annotated[int, Field(ge=0, lt=1 << 64)] = 0


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.supervisor = supervisor = Supervisor()
    running = asyncio.create_task(supervisor.run())
    try:
        yield  # at once: until the engine is there, requests get 503
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


app = FastAPI(lifespan=lifespan)


@app.exception_handler(EngineDown)
async def engine_down(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, 503, headers={"Retry-After": "1"})


class Events(StreamingResponse):
    """The events of one stream, which is left however the response ends."""

    media_type = "text/event-stream"

    def __init__(self, stream: Stream) -> None:
        super().__init__(events(stream))
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.leave()


async def events(stream: Stream) -> AsyncIterator[str]:
    name = "token"
    while name == "token":
        name, data = await stream.get()
        yield f"event: {name}\ndata: {json.dumps(data)}\n\n"


@app.post("/generate")
async def generate(body: Prompt) -> Events:
    engine = app.state.supervisor.engine
    return Events(await engine.generate(body.prompt, body.max_tokens, body.seed))


@app.get("/stats")
async def stats() -> dict[str, Any]:
    supervisor = app.state.supervisor
    try:
        engine = supervisor.engine.stats()
    except EngineDown:
        engine = None
    return {"starts": supervisor.starts, "engine": engine}
