"""Sends calls of tasks to an executor, and takes back their results."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from cano import (
    Call,
    Codec,
    ConfigurationError,
    Executor,
    Step,
    StoreView,
    TaskConfig,
    WorkerLostError,
    current_step,
)
from cano.engine.ports import BoundState, Host, call_of

from cano_remote.elsewhere import described
from cano_remote.executing import execute
from cano_remote.naming import class_name, class_names, target_of
from cano_remote.packing import Header, packed_error, packed_outcome, unpacked
from cano_remote.reports import Receiver

LOSSES = 3
"""Workers that one attempt may lose. The task may be what kills them, so that another one does not help."""


class Sender:
    """Executes the function of one bound state in other processes.

    Args:
        state: the state, or the branch of a split.
        executor: the executor.
        config: the task's config.
        kernel: the kernel.

    Raises:
        ConfigurationError: the function cannot be sent, or the executor does not have a resource.
    """

    def __init__(self, state: BoundState, executor: Executor, config: TaskConfig, kernel: Host) -> None:
        codec: Codec | None = kernel.ask("cano_codec")
        if codec is None:
            problem = f"the plugin 'msgspec', whose codec packs calls to executors, is {kernel.inactive('msgspec')}"
            raise ConfigurationError(problem)
        there = getattr(executor, "resources", None)
        if there is not None and (missing := sorted(config.resources.keys() - {*there})):
            known = ", ".join(sorted(there)) or "none"
            raise ConfigurationError(f"the executor has no resource {missing[0]!r}; it has {known}")
        types = [*state.plan.types()]
        codec.register(*types)
        self._codec, self._executor, self._config, self._kernel = codec, executor, config, kernel
        self._whole = state.node is None
        target = target_of(state.function if state.node is None else state.node.exec, codec)
        attributes = {name: class_name(kind) for name, kind in state.plan.flow.attributes.items()}
        self._header = Header(target, class_names(types), self._whole, attributes).packed(codec)
        self._hold: Callable[[], AbstractContextManager[Any]] = getattr(kernel.clock, "hold", nullcontext)

    async def __call__(self, argument: Any) -> Any:
        """Execute the function with a store, or with what `prep` returned, and return its result."""
        step = current_step()
        if self._whole and not isinstance(argument, StoreView):
            raise ConfigurationError(
                f"task {step.task!r} cannot be executed in another process: its run works on an object of the "
                "program's own; start the run with data instead",
                run_id=step.run_id, state=step.state,
            )  # fmt: skip
        value = {key: argument.peek(key) for key in argument} if self._whole else argument
        contexts = self._kernel.hook.cano_send_context(step=step)
        context = {key: text for each in reversed(contexts) for key, text in each.items()}
        # the values apart, since the other process first learns from the header which classes they may have
        values = self._codec.encode([self._described(step), value])
        request = self._codec.encode([self._header, context, values])
        receiver = Receiver(self._codec, step)
        call = call_of(step, self._config, execute, request)._replace(report=receiver.report)
        answer = unpacked(await self._submitted(call, receiver), self._codec)
        if isinstance(answer, Exception):
            raise answer
        receiver.finish(answer.reported)
        if self._whole:
            if answer.changes is not None:
                argument.merge(answer.changes)
            if argument.reads is not None:
                argument.reads.update(answer.reads)
        return answer.result

    def _described(self, step: Step) -> dict[str, Any]:
        known = described(step)
        if (outcome := known["outcome"]) is not None:
            known["outcome"] = packed_outcome(outcome, self._codec)
        if (error := known["error"]) is not None:
            known["error"] = packed_error(error, self._codec)
        return known

    async def _submitted(self, call: Call, receiver: Receiver) -> bytes:
        """Return the packed answer. A lost worker does not count as an attempt: another one gets the call."""
        losses = 0
        while True:
            try:
                with self._hold():  # virtual time must not pass while another process works
                    answer: bytes = await self._executor.submit(call)
                    return answer
            except WorkerLostError as error:
                losses += error.losses
                if losses >= LOSSES:
                    message = f"{losses} worker processes were lost in this attempt; the last one: {error}"
                    raise WorkerLostError(message, losses=losses) from error
                receiver.begin_again()
