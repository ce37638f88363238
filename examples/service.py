"""A web service whose requests start workflows. All log lines and spans of a request carry its trace id.

    python examples/service.py            sends three requests, then prints their log lines and spans
    python examples/service.py --serve    serves on http://127.0.0.1:8000 until Ctrl-C

It needs cano-otel, cano-retry, cano-structlog and cano-cli from a checkout, and

    python -m pip install httpx starlette uvicorn

To order: curl -i -d '{"lamp": 2}' http://127.0.0.1:8000/orders
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from enum import Enum, auto
from typing import Any, Literal

import httpx
import structlog
import uvicorn
from cano import JoinConfig, JoinStrategy, Kernel, Key, KeyValueStore, TaskConfig, Workflow, current_step
from cano_otel import Otel, SpanTree
from cano_retry import Fixed
from cano_structlog import LogSettings, RunLog, add_trace_ids
from opentelemetry import propagate, trace
from opentelemetry.sdk.trace import TracerProvider
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

log = structlog.get_logger("shop")
provider = TracerProvider()
tracer = provider.get_tracer("shop")


structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        add_trace_ids,  # the ids of the current span
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.JSONRenderer(sort_keys=True),
    ],
    logger_factory=structlog.PrintLoggerFactory(sys.stderr),
)


# the workflow, which is independent of HTTP and tracing


class State(Enum):
    CHECK = auto()
    PRICE = auto()
    RESERVE = auto()
    DONE = auto()
    REJECTED = auto()


ITEMS = Key("items", dict[str, int])
TOTAL = Key("total", int)
PRICES = {"lamp": 30, "chair": 45, "vase": 12}

flow = Workflow(State.CHECK, name="order").add_exit_states([State.DONE, State.REJECTED])


@flow.on(State.CHECK)
async def check(store: KeyValueStore) -> Literal[State.PRICE, State.REJECTED]:
    items = store[ITEMS] = store.get(ITEMS, default={"lamp": 1})
    unknown = sorted(items.keys() - PRICES.keys())
    if unknown:
        log.warning("unknown items", items=unknown)
        return State.REJECTED
    return State.PRICE


async def add_up(store: KeyValueStore) -> None:
    store[TOTAL] = sum(PRICES[name] * count for name, count in store[ITEMS].items())


def weigh(store: KeyValueStore) -> None:
    log.info("weighed in a thread", pieces=sum(store[ITEMS].values()))


flow.register_split(State.PRICE, [add_up, weigh], JoinConfig(JoinStrategy.all(), State.RESERVE))


@flow.on(State.RESERVE, config=TaskConfig(retry=Fixed(2, 0.01)))
async def reserve(store: KeyValueStore) -> Literal[State.DONE]:
    with tracer.start_as_current_span("ask the warehouse"):
        if "vase" in store[ITEMS] and current_step().attempt == 1:
            raise ConnectionError("the warehouse does not answer")
    log.info("reserved", total=store[TOTAL])
    return State.DONE


# the service


class TraceRequests:
    """Middleware: starts a span for each request, in the caller's trace if it has one, and returns its traceparent."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        caller = propagate.extract({key.decode(): value.decode() for key, value in scope["headers"]})
        name = f"{scope['method']} {scope['path']}"
        with tracer.start_as_current_span(name, caller, kind=trace.SpanKind.SERVER):
            carrier: dict[str, str] = {}
            propagate.inject(carrier)

            async def send_traced(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message["headers"] += [(key.encode(), value.encode()) for key, value in carrier.items()]
                await send(message)

            await self.app(scope, receive, send_traced)


async def order(request: Request) -> Response:
    """Start a run and wait for its result."""
    kernel: Kernel = request.app.state.kernel
    result = await kernel.run(flow, {ITEMS: await request.json()})
    answer = {"order": result.run_id, "state": result.state.name, "total": result.data.get("total")}
    return JSONResponse(answer, status_code=201 if result.state is State.DONE else 422)


def make_app(*plugins: Any) -> Starlette:
    """Return the service.

    Args:
        plugins: additional plugins for its kernel.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        logs = RunLog(
            LogSettings(levels={"step.started": "off", "step.finished": "off", "transition.committed": "off"})
        )
        kernel = Kernel(plugins=[Otel(tracer_provider=provider), logs, *plugins], block=["otel", "structlog"])
        async with kernel:  # closing it flushes its telemetry
            app.state.kernel = kernel
            yield

    app = Starlette(routes=[Route("/orders", order, methods=["POST"])], lifespan=lifespan)
    app.add_middleware(TraceRequests)
    return app


async def demonstrate() -> None:
    """Send three requests, the last one from a caller with its own trace."""
    tree = SpanTree()
    app = make_app(tree)
    transport = httpx.ASGITransport(app)
    async with app.router.lifespan_context(app), httpx.AsyncClient(transport=transport, base_url="http://shop") as shop:
        callers = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        for items, headers in (
            ({"lamp": 2, "chair": 1}, {}),
            ({"piano": 1}, {}),
            ({"vase": 3}, {"traceparent": callers}),
        ):
            answer = await shop.post("/orders", json=items, headers=headers)
            trace_id = answer.headers["traceparent"].split("-")[1]
            print(f"{answer.status_code} {answer.json()['state']:8} trace {trace_id}", flush=True)
    tree.print(Console(file=sys.stdout, width=100))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="serve until Ctrl-C")
    parser.add_argument("--port", type=int, default=8000)
    given = parser.parse_args()
    if given.serve:
        uvicorn.run(make_app(), port=given.port)
    else:
        asyncio.run(demonstrate())
