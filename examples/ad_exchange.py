"""An ad exchange: asks 20 bidders for each page view and ignores bids after 100 ms.

Run as `python examples/ad_exchange.py [VIEWS] [--seed N]`.

The first five bids are a quorum: the highest of them wins, and Cano cancels the other branches. Then the banner is
fetched from three servers at once, and the first answer is used. The example uses a virtual clock: a thousand auctions
of up to 100 ms take about a second, and the same seed gives the same sales on every machine.
"""

import argparse
import asyncio
from collections.abc import Awaitable
from enum import Enum, auto
from random import Random
from typing import Literal, NamedTuple

from cano import (
    JoinConfig,
    JoinStrategy,
    Kernel,
    Key,
    KeyValueStore,
    Task,
    TaskConfig,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock


class State(Enum):
    ASK = auto()
    CHOOSE = auto()
    FETCH = auto()
    SHOW = auto()
    DONE = auto()
    NO_AD = auto()


class Bid(NamedTuple):
    bidder: str
    cents: int


VIEW = Key("view", str)
WON = Key("won by", str)
PRICE = Key("price", int)
SERVER = Key("server", str)

BIDDERS = [f"bidder {number:2}" for number in range(1, 21)]
SERVERS = ["Frankfurt", "Warsaw", "Paris"]
ENOUGH = 5
DEADLINE = 0.1
IMPATIENT = TaskConfig(timeout=0.05, on_exhausted=State.NO_AD)

flow = Workflow(State.ASK, name="ad exchange", default_config=TaskConfig.minimal())
flow.add_exit_states([State.DONE, State.NO_AD])


def sleep(seconds: float) -> Awaitable[None]:
    # by the kernel's clock, which may be virtual
    return current_step().run.kernel.clock.sleep(seconds)


def behaviour(who: str, view: str) -> tuple[float, bool, int]:
    """Return the seconds until `who` answers, whether the connection breaks, and the offer, seeded by the page view."""
    random = Random(f"{who} {view}")
    return random.expovariate(1 / 0.2), random.random() < 0.1, random.randint(1, 500)


class Bidder(Task[Bid]):
    def __init__(self, bidder: str) -> None:
        super().__init__()
        self.bidder = bidder

    async def run(self, store: KeyValueStore) -> Bid:
        seconds, breaks, cents = behaviour(self.bidder, store.get(VIEW, default="1"))
        await sleep(seconds)
        if breaks:
            raise ConnectionError(self.bidder)
        return Bid(self.bidder, cents)

    @property
    def name(self) -> str:
        return self.bidder


class Server(Task[str]):
    def __init__(self, place: str) -> None:
        super().__init__()
        self.place = place

    async def run(self, store: KeyValueStore) -> str:
        seconds, breaks, _ = behaviour(self.place, store.get(VIEW, default="1"))
        await sleep(seconds / 10)
        if breaks:
            raise ConnectionError(self.place)
        store[SERVER] = self.place  # the join keeps only the winner's data
        return self.place

    @property
    def name(self) -> str:
        return self.place


# if there are too few bids before the deadline, the page shows no ad
flow.register_split(
    State.ASK,
    [Bidder(bidder) for bidder in BIDDERS],
    JoinConfig(JoinStrategy.quorum(ENOUGH), State.CHOOSE, timeout=DEADLINE),
    config=TaskConfig(on_exhausted=State.NO_AD),
)


@flow.on(State.CHOOSE)
async def choose(store: KeyValueStore) -> Literal[State.FETCH]:
    bids: list[Bid] = current_step().outcome.results
    best = max(bids, key=lambda bid: bid.cents)
    store[WON], store[PRICE] = best.bidder, best.cents
    return State.FETCH


flow.register_split(
    State.FETCH,
    [Server(place) for place in SERVERS],
    JoinConfig(JoinStrategy.any(), State.SHOW),
    config=IMPATIENT,
)


@flow.on(State.SHOW)
async def show(store: KeyValueStore) -> Literal[State.DONE]:
    return State.DONE


async def main() -> None:
    parser = argparse.ArgumentParser(description="Sell the ads of many page views.")
    parser.add_argument("views", nargs="?", type=int, default=1000, help="number of page views")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random numbers")
    given = parser.parse_args()
    clock = VirtualClock()
    sold: list[tuple[int, str, str]] = []
    longest = 0.0
    async with Kernel(clock=clock) as kernel:
        for number in range(given.views):
            began = clock.monotonic()
            result = await kernel.run(flow, {"view": f"{given.seed}.{number}"})
            longest = max(longest, clock.monotonic() - began)
            if result.state is State.DONE:
                sold.append((result.data["price"], result.data["won by"], result.data["server"]))
    print(f"{given.views} page views: {len(sold)} sold, {given.views - len(sold)} without an ad")
    print(f"{sum(cents for cents, _, _ in sold) / 100:.2f} earned; the slowest took {longest * 1000:.1f} ms")
    for what, column, names in (("won", 1, BIDDERS), ("served", 2, SERVERS)):
        counts = sorted(((sum(sale[column] == name for sale in sold), name) for name in names), reverse=True)
        print(f"{what} most:", ", ".join(f"{name.replace('  ', ' ')} {count}" for count, name in counts[:3]))


if __name__ == "__main__":
    asyncio.run(main())
