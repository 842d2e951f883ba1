"""A server that streams what an engine process generates, and lives through the engine's death.

::

    POST /generate                 server process     │     engine process
    ───────────────► Generate, Cancel ──► requests queue ──► join, leave
    ◄─────────────── events of one request ◄── steps queue ◄── one Step for all that run
    GET /stats                                        │

    server.py       the HTTP side: checks input, streams events, notices who leaves
    supervisor.py   starts the engine, and another when it dies
    client.py       the server's side of one engine: requests out, steps dealt out
    engine.py       the engine: continuous batching, one step for all running requests
    model.py        the language model: word trigrams of the standard library's docstrings
    messages.py     what the two processes tell each other

Start it in the folder above `examples`, and ask it::

    python -m examples.engine_server
    curl -N http://127.0.0.1:8000/generate --json '{"prompt": "Return the", "max_tokens": 32}'
"""
