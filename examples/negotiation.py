"""A buyer and a seller negotiate a price until they agree or the buyer leaves.

Each party is a task, and each proposal is a step. The optional argument is a seed; the same seed gives the same
negotiation.
"""

from argparse import ArgumentParser
from enum import Enum, auto
from random import Random
from typing import Literal

from cano import Key, KeyValueStore, Workflow


class State(Enum):
    MEET = auto()
    SELLER = auto()
    BUYER = auto()
    AGREED = auto()
    NO_DEAL = auto()


MAX_ROUNDS = 8

SEED = Key("seed", int)
ROUND = Key("round", int)
LEAST = Key("the least the seller takes", int)
MOST = Key("the most the buyer pays", int)
ASK = Key("ask", int)
OFFER = Key("offer", int)

flow = Workflow(State.MEET, name="negotiation").add_exit_states([State.AGREED, State.NO_DEAL])


@flow.on(State.MEET)
async def meet(store: KeyValueStore) -> Literal[State.SELLER]:
    random = Random(store.get(SEED, default=1))
    least, most = random.randint(60, 110), random.randint(80, 130)
    store[LEAST], store[MOST] = least, most
    store[ASK], store[OFFER] = least * 2, most // 2
    store[SEED], store[ROUND] = random.randrange(2**32), 1
    print(f"seller wants at least {least}, buyer pays at most {most}; neither says so")
    return State.SELLER


@flow.on(State.SELLER)
async def seller(store: KeyValueStore) -> Literal[State.BUYER, State.AGREED]:
    ask, offer = store[ASK], store[OFFER]
    if offer >= store[LEAST] and ask - offer <= 5:
        print(f"round {store[ROUND]}: seller takes {offer}")
        return State.AGREED
    if store[ROUND] > 1:
        ask = max(store[LEAST], ask - concession(store, ask - offer))
    store[ASK] = ask
    print(f"round {store[ROUND]}: seller asks {ask}")
    return State.BUYER


@flow.on(State.BUYER)
async def buyer(store: KeyValueStore) -> Literal[State.SELLER, State.AGREED, State.NO_DEAL]:
    ask, offer = store[ASK], store[OFFER]
    if ask <= store[MOST] and ask - offer <= 5:
        print(f"round {store[ROUND]}: buyer takes {ask}")
        store[OFFER] = ask
        return State.AGREED
    if store[ROUND] == MAX_ROUNDS:
        print(f"round {store[ROUND]}: buyer leaves")
        return State.NO_DEAL
    store[OFFER] = min(store[MOST], ask, offer + concession(store, ask - offer))
    print(f"round {store[ROUND]}: buyer offers {store[OFFER]}")
    store[ROUND] += 1
    return State.SELLER


def concession(store: KeyValueStore, gap: int) -> int:
    # the next seed is in the store, so a failed attempt rolls it back like all other data
    random = Random(store[SEED])
    store[SEED] = random.randrange(2**32)
    return round(gap * random.uniform(0.15, 0.4))


if __name__ == "__main__":
    parser = ArgumentParser(description="Negotiate a price.")
    parser.add_argument("seed", nargs="?", type=int, default=1, help="seed of the random numbers")
    data = {"seed": parser.parse_args().seed}
    if flow.orchestrate_sync(data) is State.AGREED:
        print(f"agreed on {data['offer']} in round {data['round']}")
    else:
        print(f"no deal: {data['ask']} asked, {data['offer']} offered in round {data['round']}")
