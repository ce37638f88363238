"""When a split is done: every strategy, as soon as it can be decided."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from cano import (
    BranchStatus,
    ConfigurationError,
    JoinConfig,
    JoinError,
    JoinStrategy,
    Kernel,
    SplitOutcome,
    TaskConfig,
    TaskError,
    Workflow,
    current_step,
)
from cano.testing import VirtualClock

ALL, ANY = JoinStrategy.all(), JoinStrategy.any()
Branch = Callable[[Any], Coroutine[Any, Any, Any]]
LETTERS = {
    BranchStatus.OK: "o",
    BranchStatus.FAILED: "f",
    BranchStatus.CANCELLED: "c",
    BranchStatus.NOT_STARTED: "-",
}


def letters(outcome: SplitOutcome) -> str:
    """One letter per branch: o(k), f(ailed), c(ancelled), - for not started."""
    return "".join(LETTERS[branch.status] for branch in outcome.branches)


def split(
    branches: Any, strategy: JoinStrategy, outcomes: list[SplitOutcome] | None = None, **join: Any
) -> Workflow[str]:
    """A workflow of a split and a state after it, which notes the outcome."""

    async def after(store: Any) -> str:
        if outcomes is not None:
            outcomes.append(current_step().outcome)
        return "end"

    flow = Workflow("split", name="work").register_split("split", branches, JoinConfig(strategy, "after", **join))
    return flow.register("after", after).add_exit_state("end")


async def outcome_of(kernel: Kernel, branches: Any, strategy: JoinStrategy, **join: Any) -> SplitOutcome:
    """Run a split that succeeds; how it ended."""
    outcomes: list[SplitOutcome] = []
    await kernel.run(split(branches, strategy, outcomes, **join))
    return outcomes[0]


@pytest.fixture
def lasting(clock: VirtualClock) -> Callable[[str], list[Branch]]:
    """Branches, from one word each: so many seconds, and a ! for those that fail then."""

    def branch(word: str) -> Branch:
        async def work(store: Any) -> str:
            await clock.sleep(float(word.strip("!")))
            if word.endswith("!"):
                raise OSError(word)
            return word

        return work

    return lambda words: [branch(word) for word in words.split()]


CASES = [
    # strategy, branches, how they end, whether the join is met, after how long
    (ALL, "1 2 3", "ooo", True, 3),
    (ALL, "3 1 2", "ooo", True, 3),
    (ALL, "1 2! 3", "ofc", False, 2),
    (ALL, "1! 2! 3!", "fcc", False, 1),
    (ALL, "1", "o", True, 1),
    (ALL, "1!", "f", False, 1),
    (ALL, "", "", True, 0),
    (ANY, "3 1 2", "coc", True, 1),
    (ANY, "1! 2 3", "foc", True, 2),
    (ANY, "1! 3! 2!", "fff", False, 3),
    (ANY, "1", "o", True, 1),
    (ANY, "1!", "f", False, 1),
    (JoinStrategy.quorum(2), "1 2 3 4", "oocc", True, 2),
    (JoinStrategy.quorum(2), "1! 2 3 4", "fooc", True, 3),
    (JoinStrategy.quorum(2), "1! 2! 3", "ffc", False, 2),
    (JoinStrategy.quorum(2), "1 2! 3! 4", "offo", True, 4),
    (JoinStrategy.quorum(2), "1 2! 3! 4!", "offf", False, 4),
    (JoinStrategy.quorum(3), "1 2! 3", "ofc", False, 2),
    (JoinStrategy.quorum(1), "2 1", "co", True, 1),
    (JoinStrategy.quorum(2), "1 2", "oo", True, 2),
    (JoinStrategy.percentage(0.5), "1 2 3 4", "oocc", True, 2),
    (JoinStrategy.percentage(0.5), "1 2 3", "ooc", True, 2),
    (JoinStrategy.percentage(0.5), "1! 2! 3", "ffc", False, 2),
    (JoinStrategy.percentage(0.5), "1! 2! 3 4", "ffoo", True, 4),
    (JoinStrategy.percentage(1), "1 2 3", "ooo", True, 3),
    (JoinStrategy.percentage(1.0), "1 2! 3", "ofc", False, 2),
    (JoinStrategy.percentage(0.01), "1 2 3", "occ", True, 1),
    (JoinStrategy.percentage(1e-300), "2 1", "co", True, 1),
    (JoinStrategy.percentage(0.5), "", "", True, 0),
    (JoinStrategy.partial(1), "1 2! 3", "ofo", True, 3),
    (JoinStrategy.partial(1), "1! 2! 3", "ffo", True, 3),
    (JoinStrategy.partial(1), "1! 2!", "ff", False, 2),
    (JoinStrategy.partial(2), "1! 2! 3", "ffc", False, 2),
    (JoinStrategy.partial(3), "1 2 3", "ooo", True, 3),
    (JoinStrategy.partial(0), "1! 2! 3!", "fff", True, 3),
    (JoinStrategy.partial(0), "", "", True, 0),
]


@pytest.mark.parametrize(("strategy", "words", "expected", "met", "seconds"), CASES)
@pytest.mark.parametrize("timeout", [None, 100], ids=["", "timeout"])
async def test_strategies_decide_as_soon_as_they_can(
    kernel: Kernel,
    clock: VirtualClock,
    lasting: Callable[[str], list[Branch]],
    strategy: JoinStrategy,
    words: str,
    expected: str,
    met: bool,
    seconds: float,
    timeout: float | None,
) -> None:
    """A join is over when its condition is met or can no longer be; a timeout that is not reached changes nothing."""
    if met:
        outcome = await outcome_of(kernel, lasting(words), strategy, timeout=timeout)
    else:
        with pytest.raises(JoinError) as caught:
            await kernel.run(split(lasting(words), strategy, timeout=timeout))
        outcome = caught.value.outcome

    assert letters(outcome) == expected
    assert clock.monotonic() == seconds
    assert not outcome.timed_out


TIMEOUTS = [
    (ALL, "1 3", "oc", False, 2),
    (ALL, "1 1.5", "oo", True, 1.5),
    (ANY, "1 3", "oc", True, 1),
    (ANY, "3 4", "cc", False, 2),
    (ANY, "1! 3", "fc", False, 2),
    (JoinStrategy.quorum(2), "1 3 4", "occ", False, 2),
    (JoinStrategy.quorum(2), "1 1.5 4", "ooc", True, 1.5),
    (JoinStrategy.percentage(0.5), "1 3 4", "occ", False, 2),
    (JoinStrategy.percentage(0.3), "1 3 4", "occ", True, 1),
    (JoinStrategy.partial(1), "1 3 4", "occ", True, 2),
    (JoinStrategy.partial(1), "1 1.5! 4", "ofc", True, 2),
    (JoinStrategy.partial(2), "1 3 4", "occ", False, 2),
    (JoinStrategy.partial(1), "1! 3 4", "fcc", False, 2),
    (JoinStrategy.partial(0), "3 4", "cc", True, 2),
    (JoinStrategy.partial(1), "1 1.5", "oo", True, 1.5),
]


@pytest.mark.parametrize(("strategy", "words", "expected", "met", "seconds"), TIMEOUTS)
async def test_a_timeout_of_two_seconds(
    kernel: Kernel,
    clock: VirtualClock,
    lasting: Callable[[str], list[Branch]],
    strategy: JoinStrategy,
    words: str,
    expected: str,
    met: bool,
    seconds: float,
) -> None:
    """What is met by then is a success, whatever still runs; what is not met by then is a failure."""
    if met:
        outcome = await outcome_of(kernel, lasting(words), strategy, timeout=2)
    else:
        with pytest.raises(JoinError) as caught:
            await kernel.run(split(lasting(words), strategy, timeout=2))
        outcome = caught.value.outcome
        assert outcome.timed_out == (seconds == 2)
        assert ("timed out" in str(caught.value)) == outcome.timed_out

    assert letters(outcome) == expected
    assert clock.monotonic() == seconds
    assert outcome.timed_out == (seconds == 2)


@pytest.mark.parametrize(
    ("strategy", "ok"),
    [
        (ALL, 10_000),
        (ANY, 1),
        (JoinStrategy.quorum(5_000), 5_000),
        (JoinStrategy.percentage(0.07), 700),
        (JoinStrategy.partial(10), 10_000),
    ],
)
async def test_ten_thousand_branches(kernel: Kernel, clock: VirtualClock, strategy: JoinStrategy, ok: int) -> None:
    """All of them in flight at once; exactly as many succeed as the strategy asks for."""
    begun: list[int] = []

    def branch(number: int) -> Branch:
        async def work(store: Any) -> int:
            begun.append(number)
            await clock.sleep(1 + number)
            return number

        return work

    outcome = await outcome_of(kernel, [branch(number) for number in range(10_000)], strategy)

    assert begun == list(range(10_000))
    assert outcome.results == list(range(ok))
    assert outcome.count(BranchStatus.CANCELLED) == 10_000 - ok
    assert clock.monotonic() == ok


async def test_ten_thousand_branches_of_which_one_fails(kernel: Kernel, clock: VirtualClock) -> None:
    """`all` fails fast; the message is readable and names the one, the outcome names every one."""

    def branch(number: int) -> Branch:
        async def work(store: Any) -> None:
            await clock.sleep(1 if number == 7_777 else 1000)
            raise OSError("the one")

        return work

    with pytest.raises(JoinError) as caught:
        await kernel.run(split([branch(number) for number in range(10_000)], ALL))

    assert clock.monotonic() == 1
    assert "7777:work: failed (task 'work' failed: OSError: the one)" in str(caught.value)
    assert len(str(caught.value)) < 2_000
    assert [branch.name for branch in caught.value.outcome.branches] == [f"{number}:work" for number in range(10_000)]


# several at the same moment


@pytest.mark.parametrize(("strategy", "winners"), [(ANY, 1), (JoinStrategy.quorum(2), 2), (ALL, 5)])
@pytest.mark.parametrize("seconds", [0, 1])
async def test_a_dead_heat_has_as_many_winners_as_are_needed(
    kernel: Kernel, clock: VirtualClock, strategy: JoinStrategy, winners: int, seconds: float
) -> None:
    """Branches that succeed at the very moment of the decision come too late, and write nothing."""

    def branch(number: int) -> Branch:
        async def work(store: Any) -> int:
            if seconds:
                await clock.sleep(seconds)
            store.append("winners", number)
            store[f"won {number}"] = True
            return number

        return work

    outcomes: list[SplitOutcome] = []
    data = (await kernel.run(split([branch(number) for number in range(5)], strategy, outcomes))).data
    outcome = outcomes[0]

    assert outcome.count(BranchStatus.OK) == winners
    assert outcome.results == data.pop("winners") == list(range(winners))
    assert data == {f"won {number}": True for number in range(winners)}
    assert clock.monotonic() == seconds


async def test_who_has_not_begun_at_the_decision_does_not_begin(kernel: Kernel) -> None:
    """Where the first branch decides at once, the others never run."""
    begun: list[str] = []

    async def quick(store: Any) -> None:
        begun.append("quick")

    async def bad(store: Any) -> None:
        begun.append("bad")
        raise OSError

    assert letters(await outcome_of(kernel, [quick, quick, bad], ANY)) == "o--"
    with pytest.raises(JoinError) as caught:
        await kernel.run(split([bad, quick, quick], ALL))
    assert letters(caught.value.outcome) == "f--"
    assert begun == ["quick", "bad"]


async def test_a_loser_that_swallows_its_cancellation_has_lost(kernel: Kernel, clock: VirtualClock) -> None:
    """What it returns and writes after the decision does not count."""

    async def winner(store: Any) -> str:
        await clock.sleep(1)
        store["winner"] = "the first"
        return "won"

    async def stubborn(store: Any) -> str:
        store["winner"] = "I"
        try:
            await clock.sleep(50)
        except asyncio.CancelledError:
            await clock.sleep(0.5)
        return "won too"

    outcomes: list[SplitOutcome] = []
    result = await kernel.run(split([stubborn, winner], ANY, outcomes))

    assert letters(outcomes[0]) == "co"
    assert outcomes[0].results == ["won"]
    assert result.data["winner"] == "the first"
    assert clock.monotonic() == 1.5


async def test_losers_are_awaited(kernel: Kernel, clock: VirtualClock) -> None:
    """The next state begins when every loser has cleaned up."""
    events: list[tuple[str, float]] = []

    async def winner(store: Any) -> None:
        await clock.sleep(1)

    async def loser(store: Any) -> None:
        try:
            await clock.sleep(50)
        finally:
            await clock.sleep(0.75)
            events.append(("cleaned up", clock.monotonic()))

    async def after(store: Any) -> str:
        events.append(("after", clock.monotonic()))
        return "end"

    flow = Workflow("split").register_split("split", [winner, loser, loser], JoinConfig(ANY, "after"))
    await kernel.run(flow.register("after", after).add_exit_state("end"))

    assert events == [("cleaned up", 1.75), ("cleaned up", 1.75), ("after", 1.75)]


async def test_losers_that_hang_are_cancelled_again(kernel: Kernel, clock: VirtualClock) -> None:
    """A clean-up gets a second; one that hangs does not hold up the run."""

    async def winner(store: Any) -> None:
        await clock.sleep(1)

    async def loser(store: Any) -> None:
        try:
            await clock.sleep(50)
        finally:
            await clock.sleep(3600)

    assert letters(await outcome_of(kernel, [winner, loser], ANY)) == "oc"
    assert clock.monotonic() == 2


# the error


async def test_the_error_names_every_branch(
    kernel: Kernel, clock: VirtualClock, lasting: Callable[[str], list[Branch]]
) -> None:
    """The message says how each ended, the failed ones first; the cause is the first failure's error."""
    with pytest.raises(JoinError) as caught:
        await kernel.run(split(lasting("1 2! 3! 4 5"), JoinStrategy.quorum(4), limit=2), run_id="r1")
    error = caught.value

    assert str(error).splitlines() == [
        "join quorum(4) was not met: 1 ok, 2 failed, 1 cancelled, 1 not started",
        "  - 1:work: failed (task 'work' failed: OSError: 2!)",
        "  - 2:work: failed (task 'work' failed: OSError: 3!)",
        "  - 0:work: ok",
        "  - 3:work: cancelled",
        "  - 4:work: not started",
    ]
    assert letters(error.outcome) == "offc-"
    assert (error.run_id, error.workflow, error.state, error.attempt) == ("r1", "work", "split", 1)
    assert error.__cause__ is error.outcome.errors[0]
    assert isinstance(error.__cause__, TaskError)
    assert repr(error.__cause__.__cause__) == "OSError('2!')"


async def test_outcome_tells_each_branch(kernel: Kernel, lasting: Callable[[str], list[Branch]]) -> None:
    """Name, status, what it returned, what it failed with: the next state's task finds it all."""
    outcome = await outcome_of(kernel, lasting("1 2! 9"), JoinStrategy.partial(1), timeout=5)
    one, two, three = outcome.branches

    assert (one.name, one.status, one.result, one.error) == ("0:work", BranchStatus.OK, "1", None)
    assert (two.name, two.status, two.result) == ("1:work", BranchStatus.FAILED, None)
    assert isinstance(two.error, TaskError)
    assert repr(two.error.__cause__) == "OSError('2!')"
    assert (three.name, three.status, three.result, three.error) == ("2:work", BranchStatus.CANCELLED, None, None)
    assert outcome.results == ["1"]
    assert outcome.errors == [two.error]
    assert str(outcome) == "1 ok, 1 failed, 1 cancelled, timed out"


async def test_outcome_is_there_for_one_step(kernel: Kernel, lasting: Callable[[str], list[Branch]]) -> None:
    """The state after the next one has no outcome any more; a retry of the next one still has it."""
    seen: list[Any] = []

    class Once:
        def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
            return 1 if attempt == 1 else None

    async def after(store: Any) -> str:
        seen.append(str(current_step().outcome))
        if current_step().attempt == 1:
            raise OSError
        return "later"

    async def later(store: Any) -> str:
        seen.append(current_step().outcome)
        return "end"

    flow = Workflow("split").register_split("split", lasting("1 2"), JoinConfig(ALL, "after"))
    flow.register("after", after, config=TaskConfig(retry=Once())).register("later", later).add_exit_state("end")
    await kernel.run(flow)

    assert seen == ["2 ok", "2 ok", None]


async def test_a_split_may_lead_to_an_exit(kernel: Kernel, lasting: Callable[[str], list[Branch]]) -> None:
    """A run can end with a join."""
    flow = Workflow("split").register_split("split", lasting("1"), JoinConfig(ALL, "end")).add_exit_state("end")

    result = await kernel.run(flow)

    assert (result.state, result.steps) == ("end", 1)


# what is refused


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "2", None])
def test_a_quorum_must_be_a_positive_number(n: Any) -> None:
    """Nothing is no quorum."""
    with pytest.raises(ConfigurationError, match="quorum must be a whole number, 1 or more"):
        JoinStrategy.quorum(n)


@pytest.mark.parametrize("p", [0, -0.5, 1.01, 50, True, "0.5", None, float("nan")])
def test_a_percentage_is_a_fraction(p: Any) -> None:
    """In (0, 1]: fifty is a mistake for a half."""
    with pytest.raises(ConfigurationError, match=r"fraction in \(0, 1\]"):
        JoinStrategy.percentage(p)


@pytest.mark.parametrize("n", [-1, 1.5, True, "2", None])
def test_partial_takes_a_number(n: Any) -> None:
    """0 is allowed: any result is fine then."""
    with pytest.raises(ConfigurationError, match="partial must be a whole number, 0 or more"):
        JoinStrategy.partial(n)


@pytest.mark.parametrize(
    ("strategy", "width"),
    [(ANY, 0), (JoinStrategy.quorum(1), 0), (JoinStrategy.quorum(4), 3), (JoinStrategy.partial(4), 3)],
)
async def test_more_than_there_is_can_never_be_met(
    kernel: Kernel, lasting: Callable[[str], list[Branch]], strategy: JoinStrategy, width: int
) -> None:
    """It is refused at registration where the branches are known, else by the run, before any branch begins."""
    branches = lasting("1 " * width)

    with pytest.raises(ConfigurationError, match=rf"over {width} branch\(es\) can never be met"):
        split(branches, strategy)
    with pytest.raises(JoinError, match="can never be met") as caught:
        await kernel.run(split(lambda store: branches, strategy))
    assert letters(caught.value.outcome) == "-" * width
    assert caught.value.state == "split"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"strategy": "all"}, "strategy must be a JoinStrategy"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"timeout": "5"}, "timeout must be a positive number"),
        ({"limit": 0}, "limit must be a whole number, 1 or more"),
        ({"limit": True}, "limit must be a whole number, 1 or more"),
        ({"limit": 2.5}, "limit must be a whole number, 1 or more"),
        ({"reducers": {"total": 5}}, "needs a function"),
        ({"reducers": ["total"]}, "needs a function"),
        ({"reducers": 5}, "reducers"),
    ],
)
def test_a_wrong_join(wrong: dict[str, Any], message: str) -> None:
    """Every field is checked when the config is made."""
    with pytest.raises(ConfigurationError, match=message):
        JoinConfig(**{"strategy": ALL, "next_state": "end", **wrong})
    with pytest.raises(TypeError, match="time_out"):
        JoinConfig(ALL, "end", time_out=5)  # type: ignore[call-arg]  # that is the point


async def test_wrong_branches(kernel: Kernel) -> None:
    """What is no list of tasks is refused, and says what is wrong."""

    async def work(store: Any) -> None: ...

    for wrong in ("work", {"a": work}, 5, None, [work, 5], [work, None], [object], [work, "work"]):
        with pytest.raises(ConfigurationError, match="branch"):
            split(wrong, ALL)
    not_a_join: Any = ALL
    with pytest.raises(ConfigurationError, match="join must be a JoinConfig"):
        Workflow("split").register_split("split", [work], not_a_join)
