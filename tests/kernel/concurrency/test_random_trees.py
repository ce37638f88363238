"""Random trees of splits, sub-workflows, delays, failures and cancellations, compared with a model of twenty lines.

Whatever the tree, and whenever it is cut off: it ends when the model says and as the model says, the store then holds
what the model says and no half-written pair of keys, every branch is named, and no task, timer or open event is left.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from cano import (
    BranchStatus,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    Run,
    RunCancelledError,
    RunInterruptedError,
    RunTimeoutError,
    SplitOutcome,
    Step,
    SubWorkflow,
    Task,
    TaskConfig,
    Workflow,
    WorkflowError,
    current_step,
    hookimpl,
)
from cano.testing import VirtualClock
from cano_memory import MemoryStore
from hypothesis import event, given, settings
from hypothesis import strategies as st

OK, FAILED = BranchStatus.OK, BranchStatus.FAILED
CANCELLED, NOT_STARTED = BranchStatus.CANCELLED, BranchStatus.NOT_STARTED
PAUSE = 1


@dataclass
class Leaf:
    """A task that takes a while, and fails some times before it succeeds, if it is attempted so often."""

    lasts: int
    failures: int
    retries: int
    id: int = 0


@dataclass
class Chain:
    """A sub-workflow that does several things one after the other."""

    children: list[Tree]
    id: int = 0


@dataclass
class Split:
    """A sub-workflow that does several things side by side."""

    strategy: str
    number: float
    children: list[Tree]
    timeout: int | None
    limit: int | None
    dynamic: bool
    id: int = 0


Tree = Leaf | Chain | Split


def number(tree: Tree, first: int = 0) -> int:
    """Give every node an id of its own; how many there are."""
    tree.id = first
    first += 1
    for child in [] if isinstance(tree, Leaf) else tree.children:
        first = number(child, first)
    return first


def fraction(id: int) -> float:
    """A part of a second that is this node's alone, so that no two things happen at the same time.

    Sums of up to four of each are unique, and exact in binary.
    """
    return float(8.0 ** -(id + 1))


def strategy_of(split: Split) -> JoinStrategy:
    """The strategy of a split, with a number that it can meet."""
    width = len(split.children)
    match split.strategy:
        case "all":
            return JoinStrategy.all()
        case "any":
            return JoinStrategy.any()
        case "quorum":
            return JoinStrategy.quorum(max(1, math.ceil(split.number * width)))
        case "percentage":
            return JoinStrategy.percentage(split.number)
        case _:
            return JoinStrategy.partial(math.floor(split.number * width))


# the model


class End(NamedTuple):
    """How a tree ends: when, whether well, the leaves whose writes are kept, and the branches of a split."""

    at: float
    ok: bool
    kept: frozenset[int] = frozenset()
    branches: tuple[BranchStatus, ...] = ()


def foresee(tree: Tree, now: float) -> End:
    """How the tree ends that begins now, unless somebody cuts it off."""
    if isinstance(tree, Leaf):
        attempts = min(tree.failures, tree.retries) + 1
        at = now + attempts * (tree.lasts + fraction(tree.id)) + (attempts - 1) * PAUSE
        ok = tree.failures <= tree.retries
        return End(at, ok, frozenset([tree.id] if ok else []))
    if isinstance(tree, Chain):
        kept: frozenset[int] = frozenset()
        for child in tree.children:
            end = foresee(child, now)
            now, kept = end.at, kept | end.kept
            if not end.ok:
                return End(now, False)
        return End(now, True, kept)
    return foresee_split(tree, now)


def foresee_split(split: Split, now: float) -> End:
    """The same for a split: branch after branch ends, until the join can be decided."""
    width = len(split.children)
    needed = strategy_of(split).needed(width)
    over = math.inf if split.timeout is None else now + split.timeout + fraction(split.id)
    statuses = [NOT_STARTED] * width
    running: list[tuple[float, int, End]] = []
    kept: frozenset[int] = frozenset()
    waiting = list(range(width))
    while True:
        ok, pending = statuses.count(OK), width - statuses.count(OK) - statuses.count(FAILED)
        if ok + pending < needed:
            return End(now, False, frozenset(), tuple(statuses))
        if ok >= needed and not (split.strategy == "partial" and pending):
            return End(now, True, kept, tuple(statuses))
        while waiting and len(running) < (split.limit or width):
            index = waiting.pop(0)
            end = foresee(split.children[index], now)
            statuses[index] = CANCELLED
            heapq.heappush(running, (end.at, index, end))
        if running[0][0] > over:
            return End(over, ok >= needed, kept if ok >= needed else frozenset(), tuple(statuses))
        now, index, end = heapq.heappop(running)
        statuses[index] = OK if end.ok else FAILED
        kept |= end.kept


# the same as workflows


class Retries:
    """Another attempt after a second, so many times."""

    def __init__(self, times: int) -> None:
        self.times = times

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """See `RetryStrategy`."""
        return PAUSE if attempt <= self.times else None


class Work(Task[Any]):
    """Does what a leaf says: writes one key, waits, fails or not, and writes the other."""

    def __init__(self, clock: VirtualClock, leaf: Leaf) -> None:
        super().__init__(TaskConfig(retry=Retries(leaf.retries)))
        self.clock = clock
        self.leaf = leaf

    async def run(self, store: Any) -> Any:
        """See the class."""
        store[f"begun {self.leaf.id}"] = True
        store.append("log", self.leaf.id)
        await self.clock.sleep(self.leaf.lasts + fraction(self.leaf.id))
        if current_step().attempt <= self.leaf.failures:
            raise OSError(f"leaf {self.leaf.id}")
        store[f"ended {self.leaf.id}"] = True
        return "next"


@dataclass
class Built:
    """What is made of a tree.

    Attributes:
        outcomes: how each split ended that was joined, by its id.
    """

    clock: VirtualClock
    outcomes: dict[int, SplitOutcome] = field(default_factory=dict)

    def task(self, tree: Tree) -> Task[Any]:
        """The tree as a task, which is also a branch."""
        if isinstance(tree, Leaf):
            return Work(self.clock, tree)
        flow = self.chain(tree) if isinstance(tree, Chain) else self.split(tree)
        return SubWorkflow(flow, outputs={"all": f"sub {tree.id}"}, then="next", config=TaskConfig.minimal())

    def collecting(self, flow: Workflow[Any], split: int | None = None) -> Workflow[Any]:
        """The workflow, completed by a last state that puts all that there is under one key."""

        async def collect(store: Any) -> str:
            if split is not None:
                self.outcomes[split] = current_step().outcome
            store["all"] = {key: store[key] for key in store.keys()}  # noqa: SIM118  # a store, not a dict
            return "end"

        return flow.register("next", collect, config=TaskConfig.minimal()).add_exit_state("end")

    def chain(self, chain: Chain) -> Workflow[Any]:
        """One state after the other."""
        states = [f"state {position}" for position in range(len(chain.children))] + ["next"]
        flow: Workflow[Any] = Workflow(states[0], name=f"chain {chain.id}")
        for state, following, child in zip(states, states[1:], chain.children, strict=False):
            flow.register(state, Leading(self.task(child), following))
        return self.collecting(flow)

    def split(self, split: Split) -> Workflow[Any]:
        """One state with branches."""
        branches: Any = [self.task(child) for child in split.children]
        timeout = None if split.timeout is None else split.timeout + fraction(split.id)
        join = JoinConfig(strategy_of(split), "next", timeout=timeout, limit=split.limit)
        flow: Workflow[Any] = Workflow("split", name=f"split {split.id}")
        flow.register_split("split", (lambda store: branches) if split.dynamic else branches, join)
        return self.collecting(flow, split.id)

    def whole(self, tree: Tree) -> Workflow[Any]:
        """The tree as a workflow of its own."""
        return self.collecting(Workflow[Any]("tree", name="tree").register("tree", self.task(tree)))


class Leading(Task[Any]):
    """A task that leads to another state than it says."""

    def __init__(self, task: Task[Any], following: str) -> None:
        super().__init__(task.config)
        self.task = task
        self.following = following

    async def run(self, store: Any) -> Any:
        """Do the work."""
        await self.task.run(store)
        return self.following


class Balance:
    """An observer that counts starts and ends."""

    def __init__(self) -> None:
        self.open: Counter[tuple[str, str | None, int]] = Counter()

    def count(self, key: tuple[str, str | None, int], by: int) -> None:
        """One more, or one less, which must be there."""
        self.open[key] += by
        assert 0 <= self.open[key] <= 1

    @hookimpl
    def cano_run_started(self, run: Run) -> None:
        """See the hook."""
        self.count((run.run_id, None, 0), 1)

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """See the hook."""
        self.count((run.run_id, None, 0), -1)

    @hookimpl
    def cano_step_started(self, step: Step) -> None:
        """See the hook."""
        self.count((step.run_id, step.branch, step.seq), 1)

    @hookimpl
    def cano_step_finished(self, step: Step) -> None:
        """See the hook."""
        self.count((step.run_id, step.branch, step.seq), -1)

    @hookimpl
    def cano_step_failed(self, step: Step) -> None:
        """See the hook."""
        self.count((step.run_id, step.branch, step.seq), -1)


def leaves_in(data: Any, which: str) -> set[int]:
    """The leaves of which there is the key that they write first, or last, however deep down."""
    found: set[int] = set()
    for key, value in data.items():
        if isinstance(value, dict):
            found |= leaves_in(value, which)
        elif key.startswith(which):
            found.add(int(key.split()[1]))
    return found


class Seen(NamedTuple):
    """What came of a tree."""

    at: float
    error: BaseException | None
    data: dict[str, Any]
    outcomes: dict[int, SplitOutcome]


async def execute(tree: Tree, cut: str | None = None, at: float = 0) -> Seen:
    """Run the tree, perhaps cut it off at some time, and see that nothing is left."""
    clock, balance, store = VirtualClock(), Balance(), MemoryStore()
    built = Built(clock)
    unseen: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unseen.append(context))
    kernel = Kernel(discover=False, clock=clock, plugins=[balance], grace=0)
    handle = await kernel.start(built.whole(tree), store, timeout=at if cut == "timeout" else None)
    if cut == "cancel":
        await clock.sleep(at)
        await handle.cancel()
    elif cut == "close":
        await clock.sleep(at)
        await kernel.close()
    error = (await asyncio.gather(handle.result(), return_exceptions=True))[0]
    ended = clock.monotonic()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert clock._next_due() is None
    assert kernel.active == {}
    await kernel.close()
    assert set(balance.open.values()) <= {0}
    assert kernel.observer_errors == {}
    assert unseen == []
    data = dict(store.live())
    assert leaves_in(data, "begun") == leaves_in(data, "ended")
    return Seen(ended, error if isinstance(error, BaseException) else None, data, built.outcomes)


def splits_in(tree: Tree) -> list[Split]:
    """All splits of the tree."""
    if isinstance(tree, Leaf):
        return []
    below = [split for child in tree.children for split in splits_in(child)]
    return [tree, *below] if isinstance(tree, Split) else below


def join_errors(error: BaseException | None) -> list[JoinError]:
    """All join errors below an error: among its causes, and in the outcomes of the branches."""
    if error is None:
        return []
    found = join_errors(error.__cause__)
    if isinstance(error, JoinError):
        found.append(error)
        for below in error.outcome.errors:
            found += join_errors(below)
    return found


def check_names(outcome: SplitOutcome, split: Split) -> None:
    """Every branch of the split is named, in order."""
    kinds = {Leaf: "Work", Chain: "workflow chain", Split: "workflow split"}
    names = [
        f"{position}:{kinds[type(child)]}" + ("" if isinstance(child, Leaf) else f" {child.id}")
        for position, child in enumerate(split.children)
    ]
    assert [branch.name for branch in outcome.branches] == names


MAX_NODES = 12

leaf = st.builds(Leaf, lasts=st.integers(0, 4), failures=st.integers(0, 3), retries=st.integers(0, 3))


def node(children: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    """A tree one level higher."""
    several = st.lists(children, min_size=1, max_size=4)
    split = st.builds(
        Split,
        strategy=st.sampled_from(["all", "any", "quorum", "percentage", "partial"]),
        number=st.floats(0.01, 1),
        children=several,
        timeout=st.none() | st.integers(1, 8),
        limit=st.none() | st.integers(1, 3),
        dynamic=st.booleans(),
    )
    return split | st.builds(Chain, children=several)


trees = st.recursive(leaf, node, max_leaves=8).filter(lambda tree: number(tree) <= MAX_NODES)


@settings(max_examples=300, deadline=None)
@given(tree=trees)
def test_a_random_tree_does_what_the_model_says(tree: Tree) -> None:
    """Left alone it ends at the foreseen moment, well or not, with the writes of the foreseen leaves."""
    expected = foresee(tree, 0)

    seen = asyncio.run(execute(tree))

    event(f"{type(tree).__name__} ends {'well' if expected.ok else 'badly'}")
    assert seen.at == expected.at
    assert (seen.error is None) == expected.ok
    assert leaves_in(seen.data, "ended") == expected.kept
    splits = {split.id: split for split in splits_in(tree)}
    for id, outcome in seen.outcomes.items():
        check_names(outcome, splits[id])
    for error in join_errors(seen.error):
        assert error.workflow is not None
        check_names(error.outcome, splits[int(error.workflow.split()[1])])
    if isinstance(tree, Split):
        outcomes = seen.outcomes | {
            int(error.workflow.split()[1]): error.outcome for error in join_errors(seen.error) if error.workflow
        }
        assert tuple(branch.status for branch in outcomes[tree.id].branches) == expected.branches


CUTS: dict[str, type[WorkflowError]] = {
    "cancel": RunCancelledError,
    "timeout": RunTimeoutError,
    "close": RunInterruptedError,
}


@settings(max_examples=300, deadline=None)
@given(tree=trees, cut=st.sampled_from(sorted(CUTS)), part=st.floats(0, 1.2))
def test_a_random_tree_may_be_cut_off_at_any_time(tree: Tree, cut: str, part: float) -> None:
    """By cancelling it, by its deadline, or by closing the kernel: it ends at that moment, and has done nothing."""
    expected = foresee(tree, 0)
    at = math.floor(part * expected.at) + fraction(MAX_NODES + 1)

    seen = asyncio.run(execute(tree, cut, at))

    if at < expected.at:
        event(f"{cut} in time")
        assert isinstance(seen.error, CUTS[cut])
        assert seen.at == at
        assert seen.data == {}
    else:
        event(f"{cut} too late")
        assert (seen.error is None) == expected.ok
        assert leaves_in(seen.data, "ended") == expected.kept


def test_the_model_knows_an_example() -> None:
    """A tree that was worked out by hand."""
    quick, slow = Leaf(lasts=1, failures=0, retries=0), Leaf(lasts=4, failures=0, retries=0)
    flaky = Leaf(lasts=1, failures=2, retries=2)
    both = Chain([quick, flaky])
    tree = Split("quorum", 0.5, [slow, both, Leaf(0, 3, 1), Leaf(4, 0, 0)], timeout=None, limit=2, dynamic=False)
    assert number(tree) == 7

    # 0 s: slow and both; 4 s: slow ends, the third begins; 5 s: it fails, the fourth begins; 6 s: both end; met
    end = foresee(tree, 0)

    assert math.floor(end.at) == 6
    assert end.ok
    assert end.branches == (OK, OK, FAILED, CANCELLED)
    assert end.kept == {slow.id, quick.id, flaky.id}
    seen = asyncio.run(execute(tree))
    assert (seen.at, seen.error) == (end.at, None)
