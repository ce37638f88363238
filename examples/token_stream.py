"""A web service that streams an answer word by word, as server-sent events that any client can continue.

    python examples/token_stream.py    serves on http://127.0.0.1:8000 until Ctrl-C

The page at / asks a question and shows the answer. Reload it, disconnect, or kill the server and start it again: the
browser reconnects with the header Last-Event-ID, and gets each word once. Words of an attempt that was killed are
followed by an event that they are superseded. By hand:

    curl -d '"Why?"' http://127.0.0.1:8000/answers                                  # {"run": "5f0c…"}
    curl -N http://127.0.0.1:8000/answers/5f0c…                                     # all events
    curl -N -H 'Last-Event-ID: 7' http://127.0.0.1:8000/answers/5f0c…               # those after the seventh

It needs cano-sqlite and cano-msgspec from a checkout, and

    python -m pip install starlette uvicorn
"""

import argparse
import asyncio
import contextlib
import json
import uuid
from collections.abc import AsyncIterator
from typing import Literal

import uvicorn
from cano import AttachedRun, Kernel, KeyValueStore, RunNotFoundError, Workflow, current_step
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

PAGE = """<!doctype html><meta charset="utf-8"><title>Answers</title>
<button>Why?</button> <p></p>
<script>
  const words = new Map(), show = () => document.querySelector("p").textContent = [...words.values()].join(" ")
  document.querySelector("button").onclick = async () => {
    words.clear()
    const answer = await fetch("/answers", {method: "POST", body: JSON.stringify("Why?")})
    const source = new EventSource("/answers/" + (await answer.json()).run)
    source.onmessage = event => { words.set(Number(event.lastEventId), JSON.parse(event.data)); show() }
    source.addEventListener("superseded", event => {
      for (const [first, last] of JSON.parse(event.data)) for (let at = first; at <= last; at++) words.delete(at)
      show()
    })
    source.addEventListener("end", () => source.close())  // otherwise the browser would reconnect
  }
</script>"""

PAUSE = 0.1
flow = Workflow("ANSWER", name="answer").add_exit_state("ANSWERED")


async def tokens(question: str) -> AsyncIterator[str]:
    """Stand in for a language model."""
    for word in f"You ask {question} Because a stream is a part of its run and every word has its place".split():
        await asyncio.sleep(PAUSE)
        yield word


@flow.on("ANSWER")
async def answer(store: KeyValueStore) -> Literal["ANSWERED"]:
    words = []
    async for word in tokens(store.get("question", str, "What is a stream?")):
        await current_step().emit("answer", word, flush=True)  # readers need not wait for the step's commit
        words.append(word)
    store["answer"] = " ".join(words)
    return "ANSWERED"


async def events(attached: AttachedRun, after: int) -> AsyncIterator[str]:
    """Yield the items after an offset as server-sent events, whose ids are the offsets."""
    async for item in attached.stream("answer", after=after):
        kind, data = "message", item.value
        if item.superseded:
            kind, data = "superseded", [[some.start, some.stop - 1] for some in item.superseded]
        yield f"id: {item.offset}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
    yield "event: end\ndata: null\n\n"


async def ask(request: Request) -> Response:
    """Start a run, and answer with its id at once."""
    kernel: Kernel = request.app.state.kernel
    handle = await kernel.start(flow, {"question": str(await request.json())}, run_id=uuid.uuid4().hex)
    return JSONResponse({"run": handle.run_id}, status_code=201)


async def follow(request: Request) -> Response:
    """Stream the answer of a run that any process executes, from the place that the client names."""
    kernel: Kernel = request.app.state.kernel
    after = request.headers.get("last-event-id") or "0"
    if not (after.isascii() and after.isdigit()):
        return PlainTextResponse("Last-Event-ID is not a number", status_code=400)
    try:
        attached = await kernel.attach(request.path_params["run"])
    except RunNotFoundError:
        return PlainTextResponse("there is no such run", status_code=404)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(events(attached, int(after)), media_type="text/event-stream", headers=headers)


async def page(request: Request) -> Response:
    return HTMLResponse(PAGE)


def make_app(store: str) -> Starlette:
    """Return the service, on the store with this URL."""

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async with Kernel(store=store) as kernel:
            await kernel.recover(flow)  # continue the answers of servers that were killed
            app.state.kernel = kernel
            yield

    routes = [
        Route("/", page),
        Route("/answers", ask, methods=["POST"]),
        Route("/answers/{run}", follow),
    ]
    return Starlette(routes=routes, lifespan=lifespan)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", default="sqlite:///answers.db", help="where runs are kept")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--pause", type=float, default=PAUSE, help="seconds between two words")
    given = parser.parse_args()
    PAUSE = given.pause
    uvicorn.run(make_app(given.store), port=given.port, timeout_graceful_shutdown=1)
