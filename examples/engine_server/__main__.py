"""The server as a program, on port 8000 or the environment's PORT."""

import os

import uvicorn

from examples.engine_server.server import app

if __name__ == "__main__":
    # Ctrl-C and SIGTERM let the running streams end first.
    uvicorn.run(app, port=int(os.environ.get("PORT", "8000")))
