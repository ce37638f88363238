"""`Webhooks`: a plugin that sends signed messages about late, failed and parked runs to a URL."""

from __future__ import annotations

import http.client
import json
import logging
import random
from collections.abc import Collection, Iterable
from enum import Enum
from typing import Any

from cano import (
    ConfigurationError,
    Kernel,
    KeyValueStore,
    Run,
    RunStatus,
    TaskConfig,
    Workflow,
    current_step,
    hookimpl,
    sleep_until,
)
from cano.engine.ports import Notice
from cano.options import positive_seconds, text, whole
from cano.safe_text import safe_repr, safe_str

from cano_webhooks.messages import message_of
from cano_webhooks.sending import WebhookError, post, read_address
from cano_webhooks.signing import read_secret, signature

KINDS = ("late", "failed", "parked")
WORKFLOW = "cano.webhooks."
"""The names of the workflows that send webhooks begin so."""
LONGEST = 21_600.0
"""The longest time between two attempts, in seconds."""
GONE = 410
_log = logging.getLogger("cano")


class State(Enum):
    """The states of a run that sends one message: `DROPPED` if the commit was never made that it is about."""

    SEND = "send"
    SENT = "sent"
    DROPPED = "dropped"


class Webhooks:
    """Sends a signed HTTP request for each late, failed and parked run, at least once, also after a crash.

        Kernel(store="postgresql://…", plugins=[Webhooks("https://example.org/hooks", secret="whsec_…")])

    Each message is a run of `flow` in the store, which is stored before the commit that the message is about. If the
    receiver does not answer with a status from 200 to 299, the message is sent again, with exponential backoff. After
    the last attempt its run has failed: resume it to try again.

    Args:
        url: the receiver. It must be https, except on this machine.
        secret: the secret that signs, or several, the newest first: each signs, so that receivers can change theirs.
        on: the kinds of runs: "late", "failed" or "parked".
        name: tells the receivers of several `Webhooks` apart. Runs that send are found by it, so do not change it.
        timeout: seconds, or a timedelta, for one request.
        attempts: maximum number of requests for a message.
        backoff: seconds, or a timedelta, to wait after the first attempt; then twice that, and so on, up to 6 hours.
            Each wait is shortened by up to a half, at random.
        concurrency: maximum number of messages that a kernel sends at once.
        allow_http: whether the URL may be http for other machines, too. Anyone between can then read the messages.

    Attributes:
        flow: the workflow of the runs that send.

    Raises:
        ConfigurationError: an argument is wrong. The message shows neither URL nor secret.
    """

    def __init__(
        self,
        url: str,
        *,
        secret: str | Iterable[str],
        on: Iterable[str] = KINDS,
        name: str = "default",
        timeout: Any = 10.0,
        attempts: int = 15,
        backoff: Any = 5.0,
        concurrency: int = 10,
        allow_http: bool = False,
    ) -> None:
        self._address = read_address(url, allow_http)
        self._keys = [read_secret(each) for each in ([secret] if isinstance(secret, str) else list(secret) or [""])]
        self.kinds: Collection[str] = [on] if isinstance(on, str) else list(on)
        for kind in self.kinds or (None,):
            if kind not in KINDS:
                raise ConfigurationError(f"on must name some of {', '.join(KINDS)}, not {safe_repr(kind)}")
        self.name = text("name", name)
        self._timeout = positive_seconds("timeout", timeout)
        self._attempts = whole("attempts", attempts, 1)
        self._backoff = positive_seconds("backoff", backoff)
        self._concurrency = whole("concurrency", concurrency, 1)
        self.flow: Workflow[State] = Workflow(
            State.SEND, name=WORKFLOW + self.name, default_config=TaskConfig.minimal()
        )
        self.flow.register(State.SEND, self._send).add_exit_states([State.SENT, State.DROPPED])

    def __repr__(self) -> str:
        return f"<Webhooks {self.name!r} to {self._address}>"

    @hookimpl
    async def cano_kernel_started(self, kernel: Kernel) -> None:
        """Send the messages of this kernel's runs, and those that other processes have left."""
        if kernel.backend is None or not kernel.backend.capabilities.durable:
            raise ConfigurationError(f"webhooks need a store that survives its process, not {kernel.store_name}")
        await self.start(kernel)

    async def start(self, kernel: Kernel) -> None:
        """Begin to send. For the plugin itself."""
        if kernel.keeper is not None:
            kernel.keeper.announce(self)
            kernel.spawn(self._recover(kernel))  # not here: the kernel is not open yet

    async def _recover(self, kernel: Kernel) -> None:
        try:
            await kernel.recover(self.flow, concurrency=self._concurrency)
        except Exception as error:  # noqa: BLE001  # closed meanwhile, or the store is away
            _log.warning("webhooks %s do not send what others left: %s", self.name, safe_str(error))

    @hookimpl
    def cano_run_finished(self, run: Run) -> None:
        """Delete the run of a message that was sent: only those that failed are of interest later."""
        backend = run.kernel.backend
        sent = run.plan.flow is self.flow and run.status is RunStatus.SUCCEEDED
        if sent and backend is not None and backend.capabilities.retention:
            run.kernel.spawn(_delete(backend, run.run_id))

    # for the keeper of runs

    def message(self, notice: Notice) -> tuple[str, dict[str, Any]] | None:
        """See `cano.engine.ports.Announcer`. Runs that send webhooks have none of their own."""
        if notice.workflow.startswith(WORKFLOW):
            return None
        about = [notice.id, notice.run_id, notice.created, notice.token]
        data = {"message": message_of(notice), "about": about, "attempts": 0, "looks": 0}
        return f"{WORKFLOW}{self.name}.{notice.id}.{notice.token}", data

    # the task

    async def _send(self, store: KeyValueStore) -> State:
        """Send the message once its run's commit was made; wait and try again if the receiver does not accept it."""
        kernel = current_step().run.kernel
        now, about = kernel.clock.time(), store.get("about", list)
        assert kernel.keeper is not None
        committed = await kernel.keeper.is_committed(*about)
        if committed is None:
            store["looks"] = looks = store.get("looks", int) + 1
            return sleep_until(now + min(0.1 * 2 ** min(looks, 20), 60.0), then=State.SEND)
        if not committed:
            return State.DROPPED
        body = json.dumps(store["message"], separators=(",", ":")).encode()
        problem, status, after = await self._post(kernel, about[0], int(now), body)
        if problem is None:
            return State.SENT
        attempts = store.get("attempts", int) + 1
        if attempts >= self._attempts or status == GONE:
            raise WebhookError(f"{self._address} did not accept the message in {attempts} attempts: {problem}", status)
        store["attempts"] = attempts
        delay = min(self._backoff * 2.0 ** min(attempts - 1, 60), LONGEST) * random.uniform(0.5, 1.0)
        return sleep_until(kernel.clock.time() + max(delay, min(after or 0, LONGEST)), then=State.SEND)

    async def _post(self, kernel: Any, id: str, now: int, body: bytes) -> tuple[str | None, int | None, int | None]:
        """Send the message. Return the problem or None, the HTTP status, and the seconds that the receiver asks for."""
        headers = {
            "content-type": "application/json",
            "user-agent": "cano-webhooks",
            "webhook-id": id,
            "webhook-timestamp": str(now),
            "webhook-signature": " ".join(signature(key, id, now, body) for key in self._keys),
        }
        try:
            answer = await post(self._address, body, headers, self._timeout, kernel.clock)
        except (OSError, http.client.HTTPException) as error:
            return f"{type(error).__name__}: {error}", None, None
        if 200 <= answer.status < 300:
            return None, answer.status, None
        return f"HTTP status {answer.status}", answer.status, answer.retry_after


async def _delete(backend: Any, run_id: str) -> None:
    await backend.delete(run_id)
