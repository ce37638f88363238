"""Every hook of the kernel, in the order in which a run meets them: the map of the engine.

A plugin implements any of these as plain functions (or methods) marked with `hookimpl`, and names its
module in an entry point of group `cano`. Three kinds of hook:

- **Composition hooks** are asked when a kernel starts or a workflow is bound; the first answer that is not
  None wins. They are deciders: what they raise stops the kernel or the bind, loudly.
- **Collected hooks** are called on every plugin that implements them.
- **Lifecycle hooks** observe runs. They are synchronous, take exactly one argument, and are called directly
  in the running task's own context. What they raise never breaks a run: it is reported once and counted.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from cano.engine.ports import BoundState, Host, RunKeeper, Work
    from cano.engine.run import Run
    from cano.engine.step import Step
    from cano.kernel.kernel import Kernel
    from cano.model.config import TaskConfig
    from cano.protocols import Capabilities, Codec, CodecLayer, Executor, RetryStrategy, StoreBackend

HOOK_NAMESPACE = "cano"
API_VERSION = 2
"""The version of this contract. A plugin may state the one it was written for as `CANO_API_VERSION`."""

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

    :param pm: the kernel's plugin manager.
    """


@hookspec(firstresult=True)
def cano_codec() -> Codec | None:
    """A codec that turns values into bytes, for stores that keep bytes.

    Called once, when a kernel starts. With no answer, such stores cannot be opened.
    """


@hookspec(firstresult=True)
def cano_codec_layer(spec: str) -> CodecLayer | None:
    """A layer around the codec, or None where the name is another plugin's.

    Called when a kernel starts, once for each item of `codec=` in its store's URL, which no `cano_open_store` sees.
    Values, and the payloads of signals, pass the layers from left to right when they are written, and backwards
    when they are read. What it raises (a wrong argument, a missing key) stops the kernel.

    :param spec: a name, or a name with arguments: `zstd`, `zstd:9`, `offload:1MiB:/var/lib/blobs`; percent-decoded.
    """


@hookspec(firstresult=True)
def cano_open_store(url: str) -> StoreBackend | None:
    """A store for `url`, not yet opened, or None where the scheme is another plugin's.

    Called once, when a kernel starts, with its `store=` URL without `codec=`; not called where that is a store object.
    What it raises (a wrong option in the URL, say) stops the kernel.

    :param url: such as `memory://?strict=1` or `sqlite:///runs.db`.
    """


@hookspec
def cano_stores() -> Mapping[str, Capabilities]:
    """The stores that this plugin opens: each URL scheme, and what such a store promises by default.

    Collected to be shown, by `cano plugins` say; nothing is opened for it, and no URL is refused because of it. The
    contract of stores compares it with the `capabilities` of the store of a URL without options.
    """
    raise NotImplementedError


@hookspec(firstresult=True)
def cano_open_executor(url: str) -> Executor | None:
    """An executor for `url`, or None where the scheme is another plugin's.

    Called once, when a kernel starts with an `executor=` URL. The kernel awaits the executor's
    `open()` then and its `close()` when it stops, where it has such methods.

    :param url: such as `dask://host:port`.
    """


@hookspec(firstresult=True)
def cano_keep_runs(kernel: Host) -> RunKeeper | None:
    """The keeper of runs: it commits the steps of runs to the kernel's store, parks runs and takes them over.

    Called once, when a kernel with a store starts; `kernel.backend` is open. With no answer, runs live in memory only:
    no run can wait or be resumed, and any store but the default one is refused. cano-durability answers it.

    :param kernel: the kernel, of which `cano.engine.ports.Host` names the parts that a keeper may use.
    """


@hookspec
def cano_kernel_started(kernel: Kernel) -> Awaitable[None] | None:
    """The kernel is ready: its store is open. May be async; the kernel awaits it.

    What it raises stops the kernel again.

    :param kernel: the kernel that has started.
    """


# -------------------------------------------------------------------------
# A workflow is bound to it
# -------------------------------------------------------------------------


@hookspec(firstresult=True)
def cano_bind_state(state: BoundState, kernel: Host) -> Work | None:
    """The work that executes a state in place of its task, or None for a task that the engine executes itself.

    Called when a workflow is bound, once for each state with a task. The step loop then awaits `work(run, state)` for
    each step in that state; the result is the next state. The built-in plugin `concurrency` answers it for splits.

    :param state: the state; `state.task` is its task.
    :param kernel: the kernel that binds the workflow.
    """


@hookspec(firstresult=True)
def cano_default_config() -> TaskConfig | None:
    """The config of tasks that have none, in workflows that have no `default_config`.

    Called once for each workflow bound. With no answer: no retries and no limits.
    """


@hookspec(firstresult=True)
def cano_retry_strategy(spec: str) -> RetryStrategy | None:
    """The retry strategy named `spec`, or None where the name is another plugin's.

    Called once for each task whose config names its strategy. With no answer the bind fails.

    :param spec: such as `fixed` or `exponential`.
    """


# -------------------------------------------------------------------------
# A run
# -------------------------------------------------------------------------


@hookspec
def cano_run_started(run: Run) -> None:
    """A run begins, or goes on after it was parked or interrupted (then `run.resumed` is true).

    :param run: the run, for reading.
    """


@hookspec
def cano_step_started(step: Step) -> None:
    """A step begins: its state's task is about to be attempted for the first time.

    Exactly one of `cano_step_finished` and `cano_step_failed` follows.

    :param step: the step, for reading. The same object serves all steps of a run: keep values, not it.
    """


@hookspec
def cano_phase_started(step: Step) -> None:
    """A phase of a node begins, in any attempt; `step.phase` says which. It ends with the next one, or the attempt.

    Not called for other tasks.

    :param step: the step.
    """


@hookspec
def cano_step_retrying(step: Step) -> None:
    """An attempt has failed and another will follow. Called before the wait.

    :param step: the step; `step.attempt` has failed with `step.error`, the next comes in `step.delay` seconds.
    """


@hookspec
def cano_step_finished(step: Step) -> None:
    """A task has returned `step.next_state`. Nothing of it is committed yet.

    :param step: the step.
    """


@hookspec
def cano_step_failed(step: Step) -> None:
    """A step has failed for good, or was cancelled. Nothing of it is kept.

    :param step: the step; `step.error` is a `WorkflowError`, or the cancellation.
    """


@hookspec
def cano_transition_committed(step: Step) -> None:
    """What the step wrote and the transition to `step.next_state` are visible, and as durable as the store is.

    :param step: the step.
    """


@hookspec
def cano_run_parked(run: Run) -> None:
    """A run waits for a signal or a time in the store, and holds no memory.

    :param run: the run; `run.wait` says what for.
    """


@hookspec
def cano_run_finished(run: Run) -> None:
    """A run has ended, or was interrupted. Not called when it was parked.

    :param run: the run; `run.status` says how, `run.error` why.
    """


# -------------------------------------------------------------------------
# The kernel stops
# -------------------------------------------------------------------------


@hookspec
def cano_kernel_stopping(kernel: Kernel) -> Awaitable[None] | None:
    """The kernel closes: no run is active any more, its store is still open. May be async.

    :param kernel: the kernel that stops.
    """


# -------------------------------------------------------------------------
# The command line
# -------------------------------------------------------------------------


@hookspec
def cano_commands(app: Any) -> None:
    """Add commands to the `cano` command.

    Called by cano-cli before it reads its arguments, and by nothing else.

    :param app: the `click.Group` of the command.
    """
