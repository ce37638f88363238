"""Every hook of the kernel, in the order in which a run meets them: the map of the engine.

A plugin implements hooks as plain functions or methods with the decorator `hookimpl`, and names its module in an entry
point of the group `cano`. There are three kinds of hook; their names begin with `cano_`:

    kind       called                    hooks
    provider   when a kernel starts      codec, codec_layer, open_store, seal_store, open_executor,
                                         keep_runs
               when it binds a workflow  bind_state, bind_call, default_config, retry_strategy,
                                         watch_lateness
               when it is drawn          draw
    collected  when a kernel starts      add_hookspecs, stores, kernel_started
               when it stops             kernel_stopping
               by the command line       commands
    observer   while a run executes      run_started, step_started, phase_started, step_retrying, step_finished,
                                         step_failed, transition_committed, run_late, run_parked, run_finished

- A **provider** decides: plugins are asked one after the other, and the first answer that is not None is used. An
  exception stops the start of the kernel, or the bind; so does a wrong answer, as a PluginError that names the
  plugin.
- A **collected** hook is called on all plugins that implement it.
- An **observer** is a plain function with one argument. The kernel calls it directly, in the context of the run's
  task. It cannot fail a run: the kernel counts its exceptions and logs the first.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from cano.engine.ports import BoundState, BoundWorkflow, Caller, Host, RunKeeper, Work
    from cano.engine.run import Run
    from cano.engine.run_view import RunView
    from cano.engine.step import Step
    from cano.executors import Executor
    from cano.kernel.kernel import Kernel
    from cano.late_run import LateRun
    from cano.model.config import TaskConfig
    from cano.model.workflow import Workflow
    from cano.protocols import Capabilities, Codec, CodecLayer, ContextLayer, RetryStrategy, StoreBackend
    from cano.records import Transition

HOOK_NAMESPACE = "cano"
API_VERSION = 2
"""The version of this plugin API. A plugin may state the version that it was written for as `CANO_API_VERSION`."""

hookspec = pluggy.HookspecMarker(HOOK_NAMESPACE)
hookimpl = pluggy.HookimplMarker(HOOK_NAMESPACE)


# -------------------------------------------------------------------------
# A kernel starts
# -------------------------------------------------------------------------


@hookspec
def cano_add_hookspecs(pm: pluggy.PluginManager) -> None:
    """Add hookspecs of the plugin's own with `pm.add_hookspecs(module)`.

    Called once, after all plugins are loaded and before any other hook. Not called for plugins that are
    blocked or failed to load.

    Args:
        pm: the kernel's plugin manager.
    """


@hookspec(firstresult=True)
def cano_codec() -> Codec | None:
    """Return a codec, which encodes values as bytes for the stores that keep bytes.

    Called once, when a kernel starts. Without an answer, such stores cannot be opened.
    """


@hookspec(firstresult=True)
def cano_codec_layer(spec: str) -> CodecLayer | None:
    """Return a layer around the codec, or None if another plugin may have a layer of that name.

    Called when a kernel starts, once for each item of `codec=` in its store's URL; no `cano_open_store` gets that
    option. Written values and payloads of signals pass the layers from left to right, read ones from right to left.
    An exception (for a wrong argument, a missing encryption key) stops the start of the kernel.

    Args:
        spec: a name, or a name with arguments: `zstd`, `zstd:9`, `offload:1MiB:/var/lib/blobs`; percent-decoded.
    """


@hookspec(firstresult=True)
def cano_open_store(url: str) -> StoreBackend | None:
    """Return a store for `url`, not yet opened, or None if another plugin may open this scheme.

    Called once, when a kernel starts with a `store=` URL; not called for a store object. An exception (for a wrong
    option in the URL) stops the start of the kernel.

    Args:
        url: such as `memory://?strict=1` or `sqlite:///runs.db`, without the option `codec`.
    """


@hookspec(firstresult=True)
def cano_seal_store(store: StoreBackend, layer: ContextLayer, names: Sequence[str]) -> StoreBackend | None:
    """Return a store that passes values through `layer` with their context, and seals each commit to `store`.

    Called when a kernel starts, only if a layer of the store's URL is a `ContextLayer`. Without an answer, such a store
    cannot be opened. cano-durability answers this hook.

    Args:
        store: the store, not yet opened.
        layer: stands for all layers of the URL from the first one that is a `ContextLayer`.
        names: the names of all layers of the URL, from left to right.
    """


@hookspec
def cano_stores() -> Mapping[str, Capabilities]:
    """Return the stores that this plugin opens: for each URL scheme, what such a store promises by default.

    Called to list the available stores, for example by `cano plugins`. It opens no store and refuses no URL. The
    contract of stores compares the answer with the `capabilities` of a store that is opened without options.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def cano_open_executor(url: str) -> Executor | None:
    """Return an executor for `url`, or None if another plugin may open this scheme.

    Called when a kernel starts, once for each URL in `executor=`. If the executor has methods `open()` and `close()`,
    the kernel awaits them when it starts and when it stops.

    Args:
        url: such as `dask://host:port`.
    """


@hookspec(firstresult=True)
def cano_keep_runs(kernel: Host) -> RunKeeper | None:
    """Return the keeper of runs, which commits their steps to the kernel's store, parks them and takes them over.

    Called once, when a kernel starts; `kernel.backend` is its open store, or None. Without an answer, runs live in
    memory only: no run can wait or be resumed, and the kernel refuses every store but the default one.
    cano-durability answers this hook.

    Args:
        kernel: the kernel. `cano.engine.ports.Host` names the attributes that a keeper may use.
    """


@hookspec
def cano_kernel_started(kernel: Kernel) -> Awaitable[None] | None:
    """Called when the kernel is ready: its store is open. May be async; the kernel awaits it.

    An exception stops the start: `Kernel.open` closes the store and raises it.

    Args:
        kernel: the kernel that has started.
    """


# -------------------------------------------------------------------------
# The kernel binds a workflow
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def cano_bind_state(state: BoundState, kernel: Host) -> Work | None:
    """Return the work that executes a state in place of its task, or None if the engine is to execute the task.

    Called when a workflow is bound, once for each state with a task. The step loop then awaits `work(run, state)` in
    each step in that state; the result is the next state. The built-in plugin `concurrency` answers it for splits.

    Args:
        state: the state; `state.task` is its task.
        kernel: the kernel that binds the workflow.
    """


@hookspec(firstresult=True)
def cano_bind_call(state: BoundState, executor: Executor, config: TaskConfig, kernel: Host) -> Caller | None:
    """Return the function that executes a task, or the `exec` phase of a node, by calls that leave the process.

    Called when a workflow is bound, once for each task whose executor has `remote = True`. The engine then awaits
    `call(store)`, or `call(prepared)` for a node, in each attempt. A task that cannot be executed in another process is
    refused with ConfigurationError. cano-remote answers this hook.

    Args:
        state: the state, or the branch of a split. `state.node` is the node, or None; `state.function` the function.
        executor: the executor, which gets a `Call` of a function that any process can import, with bytes.
        config: the task's config.
        kernel: the kernel that binds the workflow.
    """


@hookspec(firstresult=True)
def cano_default_config() -> TaskConfig | None:
    """Return the config of tasks that have none, in workflows without a `default_config`.

    Called once for each workflow that is bound. Without an answer: no retries and no timeouts.
    """


@hookspec(firstresult=True)
def cano_retry_strategy(spec: str) -> RetryStrategy | None:
    """Return the retry strategy named `spec`, or None if another plugin may have a strategy of that name.

    Called once for each task whose config names its strategy. Without an answer the bind fails.

    Args:
        spec: such as `fixed` or `exponential`.
    """


@hookspec(firstresult=True)
def cano_watch_lateness(plan: BoundWorkflow, kernel: Host) -> Any:
    """Return an observer of the runs of a workflow that has an `Expect`, which finds the late ones.

    Called when such a workflow is bound. Without an answer the bind fails. The observer has methods `run_started`,
    `step_finished`, `transition_committed`, `run_parked` and `run_finished`, which are called after the hooks of these
    names, for the runs of this workflow only. cano-durability answers it.

    Args:
        plan: the bound workflow.
        kernel: the kernel that binds it.
    """


@hookspec(firstresult=True)
def cano_draw(
    flow: Workflow[Any], run: RunView | None, history: Sequence[Transition], around: str | None
) -> str | None:
    """Return a workflow as SVG. cano-drawing answers it.

    Called by `Workflow.svg`, and for the picture in a notebook. The workflow need not be valid, nor bound.

    Args:
        flow: the workflow.
        run: a run of it, which is drawn over it, or None.
        history: what is known of that run's history, oldest first.
        around: the name of the state around which a large workflow is drawn; None leaves it to the plugin.
    """


# -------------------------------------------------------------------------
# A run executes
# -------------------------------------------------------------------------


@hookspec
def cano_run_started(run: Run) -> None:
    """Called when a run begins, or continues after it was parked or interrupted.

    Args:
        run: the run, read-only. `run.resumed` is true if it continues; `run.carried` has the texts of observers.
    """


@hookspec
def cano_step_started(step: Step) -> None:
    """Called when a step begins, before the first attempt of its state's task.

    Exactly one of `cano_step_finished` and `cano_step_failed` follows. The hooks of steps are also called for each
    branch of a split, between those of the split's own step; `step.branch` is then the branch's name.

    Args:
        step: the step, read-only. `run_id`, `workflow`, `state`, `task`, `seq` and `attempt` are set. So are `payload`
            after a signal, `outcome` after a split, and `error` in a state reached by `on_exhausted`. One object serves
            all steps of a run: keep its values rather than the object.
    """


@hookspec
def cano_phase_started(step: Step) -> None:
    """Called when a phase of a node begins, in any attempt. It ends when the next one begins, or the attempt ends.

    Not called for other tasks.

    Args:
        step: the step, read-only. `step.phase` is the phase; `deadline` is set if a timeout applies.
    """


@hookspec
def cano_step_retrying(step: Step) -> None:
    """Called after an attempt has failed, before the wait for the next attempt.

    Args:
        step: the step, read-only. `step.attempt` has failed with `step.error`, in a node in `step.phase`. The next
            attempt is in `step.delay` seconds.
    """


@hookspec
def cano_step_finished(step: Step) -> None:
    """Called after a task has returned, before anything of its step is committed.

    Args:
        step: the step, read-only. `step.next_state` is the state that the task returned, or the `then` of its wait;
            it is None in a branch. `step.attempt` is the attempt that succeeded. If the run is parked until a child has
            ended, `step.next_state` is the step's own state: no commit of a transition follows, and it starts again.
    """


@hookspec
def cano_step_failed(step: Step) -> None:
    """Called after a step has failed or was cancelled, when no attempt will follow. Its writes are discarded.

    Also called if the run is parked until the next attempt; the step then starts again when the run is resumed.

    Args:
        step: the step, read-only. `step.error` is the exception; `step.attempt` is the last attempt. `step.delay` is
            set only if the run is parked until the next attempt. `step.next_state` is None.
    """


@hookspec
def cano_transition_committed(step: Step) -> None:
    """Called after a step's writes and transition are committed, as durably as the store and the workflow promise.

    Not called for branches. A step that parks its run has the state without a timeout as `next_state`. A wake-up does
    not call this, even if a timeout leads to `on_timeout`: `cano_run_started` follows, and then `cano_run_finished` if
    `on_timeout` is an exit state.

    Args:
        step: the step, read-only. `step.next_state` is the next state; `step.error` is set if `on_exhausted` led to it.
    """


@hookspec
def cano_run_late(late: LateRun) -> bool | None:
    """Called when a run, or its visit of a state, is late: it takes longer than its workflow's `Expect` says.

    One process calls it, once for a run and once for a visit, after it has stored that. The run continues; it may also
    be parked, or wait for a worker. Not called if that process dies at this moment: `kernel.get` tells all the same.

    Args:
        late: the run, the state, and the expected duration. `late.step` is true if the visit of the state is late.

    Returns:
        True if the plugin logs late runs; then the kernel writes no warning. Otherwise None.
    """


@hookspec
def cano_run_parked(run: Run) -> None:
    """Called after a run is parked: its wait is committed, its lease released.

    Not called if the signal or time has already come.

    Args:
        run: the run, read-only; `run.wait` is its wait, and `run.wait.child` the child that it waits for, if any.
    """


@hookspec
def cano_run_finished(run: Run) -> None:
    """Called after a run has ended or was interrupted. Not called when it is parked.

    Args:
        run: the run, read-only. `run.status` is its status, `run.error` the error or None, `run.state` its last state.
    """


# -------------------------------------------------------------------------
# The kernel stops
# -------------------------------------------------------------------------


@hookspec
def cano_kernel_stopping(kernel: Kernel) -> Awaitable[None] | None:
    """Called when the kernel closes: it executes no run any more, and its store is still open. May be async.

    `Kernel.close` raises an exception of this hook after it has closed everything.

    Args:
        kernel: the kernel that closes.
    """


# -------------------------------------------------------------------------
# The command line
# -------------------------------------------------------------------------


@hookspec
def cano_commands(app: Any) -> None:
    """Add commands to the command `cano`.

    Called only by cano-cli, before it parses its arguments.

    Args:
        app: the `click.Group` of the command.
    """
