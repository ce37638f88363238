"""An answer belongs to its question: tokens of waits, and waits that take only fresh signals."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

import pytest
from cano import (
    ConfigurationError,
    JoinConfig,
    JoinStrategy,
    Kernel,
    RunHandle,
    RunNotFoundError,
    RunStatus,
    SerializationError,
    Signal,
    Standstill,
    TaskConfig,
    Workflow,
    current_step,
    current_wait,
    wait_for,
)

if TYPE_CHECKING:
    from tests.plugins.durability.conftest import World


class Interview:
    """A workflow that asks as many questions as it is told to, and notes the answers.

    Attributes:
        questions: how many.
        fresh: whether each takes only answers that come after it.
        tokens: the tokens of the questions, once for each attempt to ask.
        asked: set when it has asked a question.
        gate: what each question waits for before it waits for its answer.
    """

    def __init__(self) -> None:
        self.questions = 2
        self.fresh = False
        self.tokens: list[str] = []
        self.asked, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.fails = 0

    async def ask(self, store: Any) -> Any:
        """Send a mail with the token, and wait."""
        self.tokens.append(current_wait().token)
        self.asked.set()
        if self.fails:
            self.fails -= 1
            raise ValueError("the mail could not be sent")
        await self.gate.wait()
        return wait_for("answer", then="note", fresh=self.fresh)

    async def note(self, store: Any) -> str:
        """Note the answer, and ask again."""
        store.append("answers", current_step().payload)
        return "ask" if len(store["answers"]) < self.questions else "end"

    def flow(self) -> Workflow[Any]:
        """Its workflow."""
        flow: Workflow[Any] = Workflow("ask", name="interview", default_config=TaskConfig(retry=Soon()))
        return flow.register("ask", self.ask).register("note", self.note).add_exit_state("end")

    async def start(self, kernel: Kernel, world: World) -> RunHandle:
        """Start the run `r`, and let it come as far as it can."""
        handle = await kernel.start(self.flow(), run_id="r")
        await world.settle()
        return handle


class Soon:
    """Another attempt, at once."""

    def delay(self, attempt: int, error: Exception, elapsed: float) -> float | None:
        """Always."""
        return 0.0


@pytest.fixture
def interview() -> Interview:
    """An interview."""
    return Interview()


async def waiting(kernel: Kernel) -> list[str]:
    """The ends of the ids of the users' signals that the run `r` has not taken."""
    assert kernel.backend is not None
    return [signal.id.split()[-1] for signal in (await kernel.backend.signals("r")).waiting if not signal.own]


# tokens


async def test_a_double_click(kernel: Kernel, world: World, interview: Interview) -> None:
    """The second of two clicks does not answer the next question, and says so; without a token it would."""
    handle = await interview.start(kernel, world)
    (token,) = interview.tokens
    assert await kernel.signal("r", "answer", "yes", wait=token)
    assert not await kernel.signal("r", "answer", "yes", wait=token)
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    assert not await kernel.signal("r", "answer", "yes", wait=token)
    assert len(interview.tokens) == 2
    assert (await world.look("r")).wait_token == interview.tokens[-1]
    assert await kernel.signal("r", "answer", "no", wait=interview.tokens[-1])
    assert (await handle.result()).data == {"answers": ["yes", "no"]}
    assert not await kernel.signal("r", "answer", "no", wait=interview.tokens[-1])


async def test_a_token_is_the_same_in_every_attempt(kernel: Kernel, world: World, interview: Interview) -> None:
    """A mail that was sent by an attempt that failed, or by a process that died, has the token of the wait."""
    interview.fails = 1
    interview.gate.clear()
    await interview.start(kernel, world)
    await world.crash(kernel)
    await world.lapse()
    other = await world.kernel()
    interview.gate.set()
    (handle,) = await other.recover(interview.flow())
    await world.settle()
    first, *others = interview.tokens
    assert others == [first, first]
    record = await world.look("r")
    assert record.wait_token == first
    await other.signal("r", "answer", "yes", wait=first)
    await other.signal("r", "answer", "no")
    assert (await handle.result()).data == {"answers": ["yes", "no"]}
    assert [run.wait_token for run in await other.runs()] == [None]


async def test_an_answer_before_the_wait(kernel: Kernel, world: World, interview: Interview) -> None:
    """Who answers a mail before the run waits answers that question; one sent to an earlier one is dropped."""
    handle = await interview.start(kernel, world)
    interview.gate.clear()
    await kernel.signal("r", "answer", "one")
    await world.settle()
    first, second = interview.tokens
    for token in (first, second):
        await world.store(kernel).backend.put_signal("r", Signal(f"x{token}", "answer", to=int(token.split(":")[1])))
    assert await kernel.signal("r", "answer", 2, wait=second) is False  # the question was answered above
    interview.gate.set()
    assert (await handle.result()).data == {"answers": ["one", None]}
    assert await waiting(kernel) == []


async def test_an_answer_to_a_later_question(kernel: Kernel, world: World, interview: Interview) -> None:
    """An answer that comes before its question stays for it; the question before it takes another one."""
    interview.gate.clear()
    handle = await interview.start(kernel, world)
    assert await kernel.signal("r", "answer", "later", wait="r:3")
    interview.gate.set()
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    assert await kernel.signal("r", "answer", "yes")
    assert (await handle.result()).data == {"answers": ["yes", "later"]}


@pytest.mark.parametrize("where", ["at once", "here", "elsewhere"])
async def test_a_wait_that_was_answered_without_a_token(
    kernel: Kernel, world: World, interview: Interview, where: str
) -> None:
    """A signal without a token ends the wait, so that a later answer with the token of that wait is refused."""
    await interview.start(kernel, world)
    interview.gate.clear()
    await kernel.signal("r", "answer", "yes")
    if where != "at once":
        await world.settle()
    asked = await world.kernel() if where == "elsewhere" else kernel
    assert not await asked.signal("r", "answer", "no", wait=interview.tokens[0])
    await world.settle()
    assert await waiting(kernel) == []
    assert await asked.signal("r", "answer", "no", wait=interview.tokens[1])


async def test_a_step_that_did_not_wait(kernel: Kernel, world: World) -> None:
    """A step that has its token, and then does not wait, is over with its step, even in a run without commits."""
    tokens: list[str] = []
    gate = asyncio.Event()

    async def first(store: Any) -> str:
        tokens.append(current_wait().token)
        return "second"

    async def second(store: Any) -> str:
        await gate.wait()
        return "end"

    flow: Workflow[Any] = Workflow("first", name="silent", durability="exit").add_exit_state("end")
    handle = await kernel.start(flow.register("first", first).register("second", second), run_id="r")
    await world.settle()
    assert not await kernel.signal("r", "answer", wait=tokens[0])
    gate.set()
    await handle.result()


async def test_the_later_one_of_two(kernel: Kernel, world: World, interview: Interview) -> None:
    """An answer that another one has overtaken on its way to the store hears that it does not count."""
    await interview.start(kernel, world)
    await world.crash(kernel)
    slow, quick = await world.kernel(), await world.kernel()
    (token,) = interview.tokens
    hold = world.faults(slow).at_call("put_signal").hang()
    late = asyncio.ensure_future(slow.signal("r", "answer", "no", wait=token))
    await hold.reached()
    assert await quick.signal("r", "answer", "yes", wait=token)
    hold.release()
    assert not await late
    await quick.recover(interview.flow())
    await world.settle()
    record = await world.look("r")
    assert (record.status, record.seq) == (RunStatus.PARKED, 3)
    assert await waiting(quick) == []


async def test_an_answer_that_the_timeout_overtakes(kernel: Kernel, world: World) -> None:
    """An answer that reaches the store after its wait has timed out hears that it does not count."""
    gate = asyncio.Event()

    async def ask(store: Any) -> Any:
        return wait_for("answer", then="end", timeout=10, on_timeout="late")

    async def late(store: Any) -> str:
        await gate.wait()
        return "end"

    flow: Workflow[Any] = Workflow("ask", name="asking").add_exit_state("end")
    handle = await kernel.start(flow.register("ask", ask).register("late", late), run_id="r")
    await world.settle()
    slow = await world.kernel()
    hold = world.faults(slow).at_call("put_signal").hang()
    told = asyncio.ensure_future(slow.signal("r", "answer", "yes", wait="r:1"))
    await hold.reached()
    await world.clock.advance(11)
    assert (await world.look("r")).state == "late"
    hold.release()
    assert not await told
    gate.set()
    await handle.result()


@pytest.mark.parametrize("first", ["answer", "timeout"])
async def test_an_answer_while_the_wait_times_out(kernel: Kernel, world: World, first: str) -> None:
    """Of an answer and the end of its wait, what reaches the store first counts, and the sender is told which."""

    async def ask(store: Any) -> Any:
        return wait_for("answer", then="end", timeout=10, on_timeout="late")

    flow: Workflow[Any] = Workflow("ask", name="asking").add_exit_states(["end", "late"])
    handle = await kernel.start(flow.register("ask", ask), run_id="r")
    await world.settle()
    other = await world.kernel()
    hold = world.faults(kernel).at_call("put_signal" if first == "answer" else "commit").hang()
    await world.clock.advance(11)
    await hold.reached()
    assert await other.signal("r", "answer", "yes", wait="r:1", id="mine") is (first == "answer")
    hold.release()
    assert (await handle.result()).state == ("end" if first == "answer" else "late")
    assert await other.signal("r", "answer", "yes", wait="r:1", id="mine") is (first == "answer")


async def test_a_wait_stays_over(kernel: Kernel, world: World) -> None:
    """A process that is killed while a wait times out, and the next one, agree that no later answer counts."""

    async def ask(store: Any) -> Any:
        return wait_for("answer", then="end", timeout=10, on_timeout="late")

    flow: Workflow[Any] = Workflow("ask", name="asking").add_exit_states(["end", "late"])
    await kernel.start(flow.register("ask", ask), run_id="r")
    await world.settle()
    other = await world.kernel()
    hold = world.faults(kernel).at_call("commit").hang()
    await world.clock.advance(11)
    await hold.reached()
    await world.crash(kernel)
    assert not await other.signal("r", "answer", "yes", wait="r:1")
    await other.signal("r", "answer", "no")
    await world.lapse()
    await other.recover(flow)
    await world.settle()
    assert (await world.look("r")).state == "late"


@pytest.mark.parametrize("clicks", [2, 3])
async def test_clicks_at_once(kernel: Kernel, world: World, interview: Interview, clicks: int) -> None:
    """Of several answers at the same time, from several kernels, one counts, and only that one is told so."""
    interview.questions = 1
    await interview.start(kernel, world)
    (token,) = interview.tokens
    others = [kernel, *[await world.kernel() for _ in range(clicks - 1)]]
    told = await asyncio.gather(
        *(other.signal("r", "answer", number, wait=token) for number, other in enumerate(others))
    )
    assert sorted(told) == [*[False] * (clicks - 1), True]
    await world.clock.advance(2)
    result = await kernel.run(interview.flow(), run_id="r")
    assert result.data == {"answers": [told.index(True)]}


async def test_a_repeated_answer(kernel: Kernel, world: World, interview: Interview) -> None:
    """Who repeats an answer under its id hears that it counts, before and after the run has taken it."""
    await interview.start(kernel, world)
    await world.crash(kernel)
    sender = await world.kernel()
    (token,) = interview.tokens
    for _ in range(2):
        assert await sender.signal("r", "answer", "yes", wait=token, id="mine")
    assert not await sender.signal("r", "answer", "no", wait=token, id="yours")
    await sender.recover(interview.flow())
    await world.settle()
    assert await sender.signal("r", "answer", "yes", wait=token, id="mine")
    assert not await sender.signal("r", "answer", "no", wait=token, id="yours")
    assert dict((await world.look("r")).data).keys() >= {"answers"}
    assert len(interview.tokens) == 2


async def test_a_repeated_answer_after_a_later_wait(kernel: Kernel, world: World, interview: Interview) -> None:
    """It still counts when a later wait has discarded what came too late, and that still does not count."""
    interview.questions = 3
    await interview.start(kernel, world)
    await world.crash(kernel)
    sender, slow = await world.kernel(), await world.kernel()
    hold = world.faults(slow).at_call("put_signal").hang()
    late = asyncio.ensure_future(slow.signal("r", "answer", "no", wait="r:1", id="yours"))
    await hold.reached()
    assert await sender.signal("r", "answer", "yes", wait="r:1", id="mine")
    hold.release()
    assert not await late
    await sender.recover(interview.flow())
    for number in (3, 5):
        await world.settle()
        assert (await world.look("r")).seq == number
        assert await waiting(sender) == []
        assert await sender.signal("r", "answer", "yes", wait="r:1", id="mine")
        assert not await sender.signal("r", "answer", "no", wait="r:1", id="yours")
        assert await sender.signal("r", "answer", number, wait=f"r:{number}")
    await world.settle()
    assert (await world.look("r")).status is RunStatus.SUCCEEDED


# signals with and without a token


async def test_a_signal_without_a_token_comes_first(kernel: Kernel, world: World, interview: Interview) -> None:
    """A signal for any wait that a parked run has not taken yet answers its wait, so one with the token does not."""
    await interview.start(kernel, world)
    await world.crash(kernel)
    sender = await world.kernel()
    assert await sender.signal("r", "answer", "any")
    assert not await sender.signal("r", "answer", "ours", wait="r:1", id="a")
    await sender.recover(interview.flow())
    await world.settle()
    assert not await sender.signal("r", "answer", "ours", wait="r:1", id="a")
    assert await sender.signal("r", "answer", "second", wait="r:3")
    assert (await sender.run(interview.flow(), run_id="r")).data == {"answers": ["any", "second"]}


@pytest.mark.parametrize("fresh", [False, True])
async def test_a_signal_with_a_token_comes_early(
    kernel: Kernel, world: World, interview: Interview, fresh: bool
) -> None:
    """Before the run waits, a signal to its wait precedes earlier ones for any wait, which stay for the next one."""
    interview.fresh = fresh
    interview.gate.clear()
    handle = await interview.start(kernel, world)
    other = await world.kernel()
    await other.signal("r", "answer", "any")
    assert await other.signal("r", "answer", "ours", wait="r:1", id="a")
    assert not await other.signal("r", "answer", "theirs", wait="r:1")
    interview.gate.set()
    await world.settle()
    assert await other.signal("r", "answer", "ours", wait="r:1", id="a")
    if fresh:
        assert await other.signal("r", "answer", "second", wait="r:3")
        await world.clock.advance(1)
    assert (await handle.result()).data == {"answers": ["ours", "second" if fresh else "any"]}


@pytest.mark.parametrize("found", [False, True])
async def test_signals_while_a_wait_begins(kernel: Kernel, world: World, interview: Interview, found: bool) -> None:
    """Once the step has looked for an early signal, the order decides, also until its commit has been made."""
    interview.gate.clear()
    handle = await interview.start(kernel, world)
    other = await world.kernel()
    if found:
        await other.signal("r", "answer", "any")
    hold = world.faults(kernel).at_call("commit").hang()
    interview.gate.set()
    await hold.reached()
    if not found:
        await other.signal("r", "answer", "any")
    assert not await other.signal("r", "answer", "ours", wait="r:1")
    hold.release()
    await world.clock.advance(1)
    assert (await world.look("r")).seq == 3
    assert await other.signal("r", "answer", "second", wait="r:3")
    await world.clock.advance(1)
    assert (await handle.result()).data == {"answers": ["any", "second"]}


async def test_a_signal_that_a_fresh_wait_discards(kernel: Kernel, world: World, interview: Interview) -> None:
    """One that the step has found, and discards with its next commit, is not before the answers that follow."""
    interview.fresh, interview.questions = True, 1
    interview.gate.clear()
    handle = await interview.start(kernel, world)
    other = await world.kernel()
    await other.signal("r", "answer", "stale")
    hold = world.faults(kernel).at_call("commit").hang()
    interview.gate.set()
    await hold.reached()
    assert await other.signal("r", "answer", "ours", wait="r:1")
    hold.release()
    await world.clock.advance(1)
    assert (await handle.result()).data == {"answers": ["ours"]}


async def test_an_answer_to_another_question(kernel: Kernel, world: World, interview: Interview) -> None:
    """A signal with a token leaves a wait alone that it was not sent to: it neither ends it nor looks as if it did."""
    handle = await interview.start(kernel, world)
    (token,) = interview.tokens
    backend = world.store(kernel).backend
    for seq in (0, 7):
        await backend.put_signal("r", Signal("late", "answer", to=seq))
    await world.clock.advance(3)
    assert (await world.look("r")).seq == 1
    assert (await kernel.explain("r")).reason is Standstill.WAITING_FOR_SIGNAL
    assert not await kernel.signal("r", "answer", wait="r:7")
    assert await kernel.signal("r", "answer", "yes", wait=token)
    await kernel.signal("r", "answer", "no")
    assert (await handle.result()).data == {"answers": ["yes", "no"]}


async def test_tokens_that_are_none(kernel: Kernel, world: World, interview: Interview) -> None:
    """A token of another run, or of a fork's origin, is refused, as is another signal's name."""
    await interview.start(kernel, world)
    await kernel.fork("r", 1, "f")
    (token,) = interview.tokens
    for run_id, wrong in [("f", token), ("r", "r"), ("r", "r:"), ("r", "r:x"), ("r", "r:01"), ("r", "r:-1")]:
        with pytest.raises(ConfigurationError, match=f"is not the token of a wait of run {run_id}") as caught:
            await kernel.signal(run_id, "answer", wait=wrong)
        assert caught.value.run_id == run_id
    for empty in ("", 1):
        with pytest.raises(ConfigurationError, match="wait must be a string that is not empty"):
            await kernel.signal("r", "answer", wait=empty)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="run r waits for signal 'answer', not 'approved'") as caught:
        await kernel.signal("r", "approved", wait=token)
    assert (caught.value.run_id, caught.value.state) == ("r", "note")
    with pytest.raises(RunNotFoundError):
        await kernel.signal("missing", "answer", wait="missing:1")
    assert await kernel.signal("f", "answer", wait="f:1")
    assert await waiting(kernel) == []


async def test_a_token_after_the_timeout(kernel: Kernel, world: World) -> None:
    """An answer that comes after the time of its wait is too late, and says so."""
    tokens: list[str] = []

    async def ask(store: Any) -> Any:
        tokens.append(current_wait().token)
        return wait_for("answer", then="end", timeout=10, on_timeout="ask")

    flow: Workflow[Any] = Workflow("ask", name="reminds").register("ask", ask).add_exit_state("end")
    handle = await kernel.start(flow, run_id="r")
    await world.clock.advance(15)
    first, second = tokens
    assert not await kernel.signal("r", "answer", wait=first)
    assert await kernel.signal("r", "answer", wait=second)
    assert (await handle.result()).state == "end"


async def test_a_question_that_waits_again(kernel: Kernel, world: World, interview: Interview) -> None:
    """A run that failed by its timeout while it waited asks no new question: its token stays."""
    interview.questions = 1
    await kernel.start(interview.flow(), run_id="r", timeout=60)
    await world.clock.advance(60)
    assert (await world.look("r")).status is RunStatus.FAILED
    (token,) = interview.tokens
    assert await kernel.signal("r", "answer", "yes", wait=token)
    assert (await kernel.resume(interview.flow(), "r")).data == {"answers": ["yes"]}
    assert interview.tokens == [token]


async def test_no_step_no_wait() -> None:
    """Only a step can begin a wait; a branch of a split cannot."""
    with pytest.raises(ConfigurationError, match="outside a step"):
        current_wait()

    async def branch(store: Any) -> str:
        with pytest.raises(ConfigurationError, match=r"in branch 0:.* of a split, which cannot wait") as caught:
            current_wait()
        assert (caught.value.run_id, caught.value.state) == (current_step().run_id, "split")
        return "tried"

    flow: Workflow[Any] = Workflow("split", name="split").add_exit_state("end")
    flow.register_split("split", [branch], JoinConfig(JoinStrategy.all(), "end"))
    async with Kernel() as kernel:
        assert (await kernel.run(flow)).state == "end"


@pytest.mark.parametrize("early", [False, True])
async def test_a_run_in_memory(interview: Interview, early: bool) -> None:
    """A run that no store keeps until it waits has tokens, too: `memory://` keeps its signals."""
    interview.questions = 1
    interview.gate.clear()
    async with Kernel() as kernel:
        handle = await kernel.start(interview.flow())
        await interview.asked.wait()
        if not early:
            interview.gate.set()
            await handle._run.ended()
            assert (await kernel.runs())[0].wait_token == interview.tokens[0]
        told = [await kernel.signal(handle.run_id, "answer", n, wait=interview.tokens[0]) for n in (1, 2)]
        interview.gate.set()
        assert (await handle.result()).data == {"answers": [1]}
    assert told == [True, False]


# fresh signals


async def test_a_fresh_wait(kernel: Kernel, world: World, interview: Interview) -> None:
    """A fresh wait discards what came before it, and takes what comes after."""
    interview.fresh = True
    interview.gate.clear()
    handle = await interview.start(kernel, world)
    for number in range(3):
        await kernel.signal("r", "answer", number)
    await kernel.signal("r", "another", 7)
    interview.gate.set()
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    assert [signal.name for signal in (await world.store(kernel).backend.signals("r")).waiting] == ["another"]
    await kernel.signal("r", "answer", "yes")
    await world.settle()
    await kernel.signal("r", "answer", "no")
    assert (await handle.result()).data == {"answers": ["yes", "no"]}


async def test_a_double_click_before_a_fresh_wait(kernel: Kernel, world: World, interview: Interview) -> None:
    """The second click, which comes while the first one is worked on, does not answer the next question."""
    interview.fresh = True
    await interview.start(kernel, world)
    interview.gate.clear()
    await kernel.signal("r", "answer", "yes")
    await kernel.signal("r", "answer", "yes")
    await world.settle()
    interview.gate.set()
    await world.clock.advance(2)
    record = await world.look("r")
    assert (record.status, record.seq, len(interview.tokens)) == (RunStatus.PARKED, 3, 2)


async def test_an_early_answer_to_a_fresh_wait(kernel: Kernel, world: World, interview: Interview) -> None:
    """A signal that was sent to the wait itself is fresh, even if it comes before the run waits."""
    interview.fresh, interview.questions = True, 1
    interview.gate.clear()
    handle = await interview.start(kernel, world)
    await kernel.signal("r", "answer", "stale")
    await kernel.signal("r", "answer", "yes", wait=interview.tokens[0])
    interview.gate.set()
    assert (await handle.result()).data == {"answers": ["yes"]}
    assert RunStatus.PARKED not in {entry.status for entry in await kernel.history("r")}


async def test_a_signal_while_a_fresh_wait_begins(kernel: Kernel, world: World, interview: Interview) -> None:
    """A signal that comes while the run is being parked came after the wait began."""
    interview.fresh, interview.questions = True, 1
    fault = world.faults(kernel).at_call("commit").hang()
    handle = await kernel.start(interview.flow(), run_id="r")
    await fault.reached()
    await kernel.signal("r", "answer", "yes")
    fault.release()
    assert (await handle.result()).data == {"answers": ["yes"]}


async def test_discarding_is_part_of_the_commit(kernel: Kernel, world: World, interview: Interview) -> None:
    """A process that dies before the run is parked discards nothing; the next one, which asks again, does."""
    interview.fresh = True
    interview.gate.clear()
    await interview.start(kernel, world)
    await kernel.signal("r", "answer", "stale")
    world.faults(kernel).at_call("commit").hang()
    interview.gate.set()
    await world.settle()
    await world.crash(kernel)
    other = await world.kernel()
    assert len(await waiting(other)) == 1
    await world.lapse()
    await other.recover(interview.flow())
    await world.settle()
    assert (await world.look("r")).status is RunStatus.PARKED
    assert await waiting(other) == []


def test_fresh_is_a_switch() -> None:
    """What is neither True nor False is refused."""
    with pytest.raises(ConfigurationError, match="fresh must be True or False, not 1"):
        wait_for("answer", then="x", fresh=1)  # type: ignore[call-overload]


# answers and failures


@pytest.mark.parametrize("durability", ["step", "exit"])
@pytest.mark.parametrize("fresh", [False, True])
async def test_a_transition_that_cannot_be_stored(
    kernel: Kernel, world: World, durability: Literal["step", "exit"], fresh: bool
) -> None:
    """A step whose data cannot be stored takes no signal and discards none; the repaired program finds them."""
    damage = True
    gate = asyncio.Event()
    payloads: list[Any] = []

    async def before(store: Any) -> str:
        store["items"] = []
        return "ask"

    async def ask(store: Any) -> Any:
        await gate.wait()
        if damage:
            store["items"].append(object())
        return wait_for("answer", then="note", fresh=fresh and damage)

    async def note(store: Any) -> str:
        payloads.append(current_step().payload)
        return "end"

    flow: Workflow[Any] = Workflow("before", name="damages", durability=durability).add_exit_state("end")
    flow.register("before", before).register("ask", ask).register("note", note)
    handle = await kernel.start(flow, run_id="r")
    await world.settle()
    await kernel.signal("r", "answer", "yes")
    gate.set()
    with pytest.raises(SerializationError):
        await handle.result()
    record = await world.look("r")
    assert (record.status, record.state, record.payload) == (RunStatus.FAILED, "ask", None)
    assert record.own.keys() == {"traceback"}
    damage = False
    assert (await kernel.resume(flow, "r")).state == "end"
    assert payloads == ["yes"]
