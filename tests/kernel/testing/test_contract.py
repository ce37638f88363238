"""The store contract itself: each of its clauses fails on a store that breaks it."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import math
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cano import (
    CanoError,
    ConfigurationError,
    ConflictError,
    Retention,
    RunFilter,
    RunRecord,
    RunStatus,
    SerializationError,
    StoreBackend,
    StoreUnavailableError,
    Transition,
)
from cano.testing import StoreBackendContract
from cano.testing.contract_appends import AppendClauses
from cano.testing.contract_audit import AuditClauses
from cano.testing.contract_connections import ConnectionClauses
from cano.testing.contract_slots import SlotClauses
from cano.testing.contract_streams import StreamClauses
from cano.testing.contract_transactions import TransactionClauses
from cano_memory import MemoryBackend

CLAUSES = sorted(name for name in dir(StoreBackendContract) if name.startswith("test_"))
Methods = dict[str, Callable[..., Any]]
NO_MAIL = SimpleNamespace(waiting={}, seen=set())
NEW = RunRecord(run_id="", workflow="flow", version="1", fingerprint="f1", state="S0")


def broken(base: type[MemoryBackend] = MemoryBackend, /, **methods: Callable[..., Any]) -> Callable[[], MemoryBackend]:
    """A store like `base`, but for these methods. Each takes the store, its honest method, the arguments."""

    def bind(name: str, lie: Callable[..., Any]) -> Callable[..., Any]:
        if name in ("scoped", "_in_turn"):  # the methods that are not async
            return lambda self, *args: lie(self, getattr(super(mutant, self), name), *args)

        async def method(self: MemoryBackend, *args: Any) -> Any:
            answer = lie(self, getattr(super(mutant, self), name), *args)
            return await answer if inspect.isawaitable(answer) else answer

        return method

    mutant: type[MemoryBackend] = type("Broken", (base,), {})
    for name, lie in methods.items():
        setattr(mutant, name, bind(name, lie))
    return mutant


async def then(call: Awaitable[Any], change: Callable[[Any], Any]) -> Any:
    """What `change` makes of an answer."""
    return change(await call)


async def before(call: Awaitable[Any], next: Callable[[], Awaitable[Any]]) -> Any:
    """One call, then the next, whose answer counts."""
    await call
    return await next()


async def nothing(done: Any) -> None:
    """What was done meanwhile is done."""


def keep(store: Any, run_id: str, **fields: Any) -> Any:
    """Change what the store keeps of a run, behind its back. None, to be part of an expression."""
    if run_id in store._runs:
        store._runs[run_id] = store._runs[run_id]._replace(**fields)


def known(store: Any, run_id: str) -> Any:
    """What the store keeps of a run; of one that it does not have, what can do no harm."""
    return store._runs.get(run_id, NEW)


async def counting_first(store: Any, honest: Any, run_id: str, signal: Any, most: int, *audit: Any) -> bool:
    """Count the signals, wait, and then store one more."""
    room = len(store._mail.get(run_id, NO_MAIL).waiting) < most
    await asyncio.sleep(0)
    if room:
        await store.put_signal(run_id, signal, *audit)
    return room


def sharing(store: Any, part: Any, what: str) -> Any:
    """A part of a store that has something in common with it."""
    setattr(part, what, getattr(store, what))
    return part


def mapped(change: Callable[[str, Any], tuple[str, Any]]) -> Methods:
    """A store that changes the keys and values it is given."""

    def changed(data: Mapping[str, Any]) -> dict[str, Any]:
        return dict(itertools.starmap(change, data.items()))

    return {
        "create": lambda s, honest, run: honest(run._replace(data=changed(run.data))),
        "commit": lambda s, honest, c: honest(c._replace(changed=changed(c.changed))),
    }


def altered(**fields: Any) -> Methods:
    """A store that alters fields of a commit; a callable computes one from the store and the commit."""
    return {
        "commit": lambda s, honest, c: honest(
            c._replace(**{name: to(s, c) if callable(to) else to for name, to in fields.items()})
        )
    }


def listed(method: str, change: Callable[[Any, Any], Any]) -> Methods:
    """A store that changes the answer of one method."""
    return {method: lambda s, honest, *args: then(honest(*args), lambda answer: change(s, answer))}


def refusing(when: Callable[[Any, Any], bool]) -> Methods:
    """A store that refuses some commits on a whim."""

    async def commit(store: Any, honest: Any, commit: Any) -> None:
        if when(known(store, commit.run_id), commit):
            raise ConflictError(f"no commit to {commit.run_id}", run_id=commit.run_id)
        await honest(commit)

    return {"commit": commit}


async def limited_first(store: Any, honest: Any, filter: RunFilter) -> Any:
    """Select the newest runs, and then those of the parent."""
    found = await honest(filter._replace(parent=None))
    return [run for run in found if filter.parent in (None, run.parent)]


async def outdated(store: Any, honest: Any, *args: Any) -> Any:
    """Look at the runs, wait, and then work on what was seen."""
    seen = dict(store._runs)
    await asyncio.sleep(0)
    store._runs = seen
    return await honest(*args)


async def halved(store: Any, honest: Any, commit: Any) -> None:
    """Commit the half of the keys, then the rest."""
    half = dict(list(commit.changed.items())[:1])
    await honest(commit._replace(seq=commit.expected_seq, changed=half, consumed=(), release=False))
    await asyncio.sleep(0)
    await honest(commit)


async def late(store: Any, honest: Any, *args: Any) -> Any:
    """Make the call in a task of its own, which continues if the caller is cancelled."""

    async def later() -> Any:
        for _ in range(10):
            await asyncio.sleep(0)
        with suppress(CanoError):
            return await honest(*args)

    return await asyncio.shield(asyncio.ensure_future(later()))


async def leaking(store: Any, honest: Any, run_id: str) -> Any:
    """Load with one of four connections, which a cancelled caller never gives back."""
    store.free = getattr(store, "free", 4)
    if not store.free:
        raise StoreUnavailableError("all connections are busy")
    store.free -= 1
    await asyncio.sleep(0)
    answer = await honest(run_id)
    store.free += 1
    return answer


async def mixed_up(store: Any, honest: Any, commit: Any) -> None:
    """Commit what the latest caller wants changed."""
    store.latest = commit
    await asyncio.sleep(0)
    await honest(commit._replace(changed=store.latest.changed))


async def hasty(store: Any, honest: Any, commit: Any) -> None:
    """Write the line of the history, then look whether the commit is stale."""
    try:
        await honest(commit)
    except ConflictError:
        store._history.setdefault(commit.run_id, []).append(line_of(commit))
        raise


async def expectant(store: Any, honest: Any, commit: Any) -> None:
    """Take the ids that a commit consumes for known, whether or not they came."""
    await honest(commit)
    store._mail.setdefault(commit.run_id, SimpleNamespace(waiting={}, seen=set())).seen.update(
        (False, None, id) for id in commit.consumed
    )


async def half_refused(store: Any, honest: Any, commit: Any) -> None:
    """Refuse text that is not Unicode, after the rest is committed."""
    odd = [key for key in commit.changed if not key.isprintable()]
    await honest(commit._replace(changed={key: v for key, v in commit.changed.items() if key not in odd}))
    if odd:
        raise SerializationError(f"{odd!r} cannot be stored")


async def nameless(store: Any, honest: Any, commit: Any) -> None:
    """Refuse without saying whom."""
    try:
        await honest(commit)
    except ConflictError:
        raise ConflictError("stale") from None


async def talkative(store: Any, honest: Any, commit: Any) -> None:
    """Write a line for every commit."""
    await honest(commit)
    if commit.seq == commit.expected_seq:
        store._history[commit.run_id].append(line_of(commit))


def line_of(commit: Any) -> Transition:
    """A line of a history."""
    return Transition(seq=commit.seq, state=commit.state, status=commit.status, at=commit.at)


FINISHED = (RunStatus.SUCCEEDED, RunStatus.FAILED, RunStatus.CANCELLED)
NO_HOLDER: dict[str, Any] = {"holder": None, "expires": None}
PARKED = RunStatus.PARKED

# what is wrong with a store: how it is done, and the clauses that see it
# fmt: off
MUTANTS: dict[str, tuple[Methods, str]] = {
    # creating
    "overwrites runs": (
        {"create": lambda s, honest, run: before(s.delete(run.run_id), lambda: honest(run))},
        "an_existing_run_comes_back_unchanged twenty_creates_at_once_make_one_run"),
    "creates in a race": ({"create": outdated}, "twenty_creates_at_once_make_one_run"),
    "forgets the lease of a new run": (
        {"create": lambda s, honest, run: honest(run._replace(**NO_HOLDER))},
        "a_new_run_comes_back_as_it_was_given a_held_run_cannot_be_claimed"),
    "folds the case of ids": (
        {name: lambda s, honest, run_id: honest(run_id.lower()) for name in ("load", "history")}
        | {"create": lambda s, honest, run: honest(run._replace(run_id=run.run_id.lower()))},
        "runs_are_apart any_text_is_an_id deleting_leaves_other_runs"),
    "has a history of unknown runs": (
        {"history": lambda s, honest, run_id: honest(run_id) if run_id in s._runs else [NEW]},
        "an_unknown_run_is_none"),
    # values
    "rounds times": (
        {"create": lambda s, honest, run: honest(run._replace(created=round(run.created, 6)))},
        "every_field_survives"),
    "has only later times": (
        altered(at=lambda s, c: max(c.at, known(s, c.run_id).updated)), "every_field_survives"),
    "has no word for cancelled": (
        altered(status=lambda s, c: RunStatus.FAILED if c.status is RunStatus.CANCELLED else c.status),
        "every_status_survives"),
    "loses empty parts of a wait": (
        altered(wait=lambda s, c: c.wait and c.wait._replace(signal=c.wait.signal or None)),
        "every_kind_of_wait_survives"),
    "keeps old errors": (
        altered(error=lambda s, c: c.error or known(s, c.run_id).error),
        "a_commit_without_error_wait_or_payload_clears_them"),
    "trims keys": (mapped(lambda key, v: (key.strip(), v)), "any_text_is_a_key"),
    "drops the empty key of a commit": (
        altered(changed=lambda s, c: {key: v for key, v in c.changed.items() if key}), "any_text_is_a_key"),
    "cannot remove the empty key": (altered(removed=lambda s, c: [*filter(None, c.removed)]), "any_text_is_a_key"),
    "cuts off long keys": (mapped(lambda key, v: (key[:10_000], v)), "any_text_is_a_key"),
    "normalises keys": (mapped(lambda key, v: (unicodedata.normalize("NFC", key), v)), "any_text_is_a_key"),
    "has no empty state": (altered(state=lambda s, c: c.state or "none"), "any_text_is_a_state"),
    "has no empty state in a wait": (
        altered(wait=lambda s, c: c.wait and c.wait._replace(on_timeout=c.wait.on_timeout or None)),
        "any_text_is_a_state"),
    "lets the driver's error out": (
        {"commit": lambda s, honest, c: ("".join(c.changed).encode(), honest(c))[1]}, "text_that_is_not_unicode"),
    "refuses half of a commit": ({"commit": half_refused}, "text_that_is_not_unicode"),
    "has only one kind of number": (
        altered(error=lambda s, c: c.error and {k: v + 0 if isinstance(v, bool) else v for k, v in c.error.items()}),
        "errors_keep_their_types"),
    "has no tuples": (mapped(lambda key, v: (key, [*v] if isinstance(v, tuple) else v)), "values_keep_their_types"),
    "has no negative zero": (
        mapped(lambda key, v: (key, [n or n + 0.0 for n in v] if key == "numbers" else v)),
        "values_keep_their_types"),
    "ends keys at NUL": (mapped(lambda key, v: (key.partition("\0")[0], v)), "any_text_is_a_key"),
    "cannot tell empty from missing": (altered(payload=lambda s, c: c.payload or None), "empty_is_not_missing"),
    "takes values for text": (
        mapped(lambda key, v: (key, v.decode(errors="replace").encode() if isinstance(v, bytes) else v)),
        "every_byte_survives"),
    "cuts off long values": (
        mapped(lambda key, v: (key, v[: 2**20] if isinstance(v, bytes) else v)), "ten_megabytes_survive"),
    "sorts keys": (
        {"load": lambda s, honest, run_id: then(
            honest(run_id), lambda run: run and run._replace(data=dict(sorted(run.data.items()))))},
        "keys_keep_their_order"),
    "keeps what it is given": (
        {"create": lambda s, honest, run: before(
            honest(run), lambda: (keep(s, run.run_id, data=run.data), s.load(run.run_id))[1])},
        "what_was_passed_in_stays_the_callers"),
    "hands out what it keeps": (
        {"load": lambda s, honest, run_id: s._runs.get(run_id)}, "what_is_handed_out_is_the_callers"),
    # commits
    "forgets removed keys": (
        altered(removed=()), "a_commit_makes_the_transition_and_the_changes keys_that_are_not_named_stay"),
    "replaces all data": (
        altered(removed=lambda s, c: tuple(known(s, c.run_id).data)), "keys_that_are_not_named_stay"),
    "removes last": (
        altered(changed=lambda s, c: {key: v for key, v in c.changed.items() if key not in c.removed}),
        "removed_comes_before_changed"),
    "insists on what is to be removed": (
        refusing(lambda run, c: not run.data.keys() >= set(c.removed)), "removing_what_is_not_there_is_harmless"),
    "ignores the seq": (
        altered(expected_seq=lambda s, c: known(s, c.run_id).seq),
        "a_stale_seq_is_refused of_twenty_commits_at_once_one_wins a_refused_commit_makes_no_line"),
    "takes a seq of the future": (
        altered(expected_seq=lambda s, c: min(c.expected_seq, known(s, c.run_id).seq)), "a_stale_seq_is_refused"),
    "ignores the token": (
        altered(token=lambda s, c: known(s, c.run_id).token),
        "a_stale_token_is_refused the_token_decides_and_not_the_clock a_refused_commit_consumes_nothing"),
    "takes a token of the future": (
        altered(token=lambda s, c: min(c.token, known(s, c.run_id).token)), "a_stale_token_is_refused"),
    "makes the run that a commit is for": (
        {"commit": lambda s, honest, c: before(
            s.create(NEW._replace(run_id=c.run_id, seq=c.expected_seq, token=c.token)), lambda: honest(c))},
        "a_run_that_is_gone_is_refused"),
    "refuses without a name": ({"commit": nameless}, "a_refusal_names_the_run"),
    "keeps the state without a transition": (
        altered(state=lambda s, c: c.state if c.seq != c.expected_seq else known(s, c.run_id).state),
        "a_commit_without_a_transition_changes_the_record"),
    "refuses whoever has no lease": (
        refusing(lambda run, c: run.holder is None), "a_freed_run_commits_until_it_is_claimed"),
    "takes the lease with a commit": (
        {"commit": lambda s, honest, c: before(
            honest(c), lambda: nothing(c.release or keep(s, c.run_id, holder="me", expires=c.at)))},
        "a_freed_run_commits_until_it_is_claimed"),
    "changes a thousand keys at most": (
        altered(changed=lambda s, c: dict(itertools.islice(c.changed.items(), 1000))), "a_commit_may_be_large"),
    "consumes a thousand signals at most": (
        altered(consumed=lambda s, c: c.consumed[:1000]), "a_commit_may_be_large"),
    "looks at the clock": (
        refusing(lambda run, c: run.expires is not None and run.expires < c.at), "the_token_decides_and_not_the_clock"),
    "ignores commits without a transition": (
        {"commit": lambda s, honest, c: honest(c) if c.seq != c.expected_seq else None},
        "a_commit_without_a_transition_changes_the_record"),
    "releases finished runs": (
        altered(release=lambda s, c: c.release or c.status.finished), "a_commit_keeps_the_lease"),
    "ignores the release": (
        altered(release=False), "a_commit_can_release_the_lease a_running_run_is_ready_when_nobody_holds_it"),
    "commits in a race": ({"commit": outdated}, "of_twenty_commits_at_once_one_wins"),
    # history
    "fills the gaps of the history": (
        listed("history", lambda s, lines: [
            line._replace(seq=seq) for last, line in zip([lines[0], *lines], lines, strict=False)
            for seq in range(min(last.seq + 1, line.seq), line.seq + 1)] if lines else lines),
        "the_seq_may_skip"),
    "keeps the last change of several": (
        altered(changed=lambda s, c: dict([*c.changed.items()][-1:]) if c.seq > c.expected_seq + 1 else c.changed),
        "the_seq_may_skip"),
    "has no line for several transitions": (
        listed("history", lambda s, lines: [
            line for last, line in zip([None, *lines], lines, strict=False)
            if last is None or line.seq == last.seq + 1]),
        "the_seq_may_skip"),
    "has no line for the creation": (listed("history", lambda s, lines: lines[1:]), "history_begins_with_the_creation"),
    "has the newest line first": (
        listed("history", lambda s, lines: lines[::-1]), "history_is_every_transition_in_order"),
    "numbers the lines itself": (
        listed("history", lambda s, lines: [line._replace(seq=n) for n, line in enumerate(lines)]),
        "the_seq_may_skip history_begins_with_the_creation"),
    "writes a line for every commit": ({"commit": talkative}, "a_commit_without_a_transition_makes_no_line"),
    "writes a line for a release": (
        {"release": lambda s, honest, run_id, token: before(
            honest(run_id, token), lambda: nothing(s._history[run_id].append(s._history[run_id][0])))},
        "leases_and_signals_make_no_line"),
    "writes lines of refused commits": (
        {"commit": hasty},
        "a_refused_commit_makes_no_line a_run_that_is_gone_is_refused a_stale_seq_is_refused"),
    # leases
    "claims without a new token": (
        {"claim": lambda s, honest, run_id, *args: then(
            honest(run_id, *args), lambda token: token and (keep(s, run_id, token=token - 1), token - 1)[1])},
        "a_free_run_can_be_claimed the_token_grows_by_one_with_each_claim"),
    "claims what is held": (
        {"claim": lambda s, honest, run_id, *args: (keep(s, run_id, **NO_HOLDER), honest(run_id, *args))[1]},
        "a_held_run_cannot_be_claimed a_lease_ends_after_its_last_moment"),
    "takes a holder for a lease": (
        {"claim": lambda s, honest, run_id, *args: None if (
            (run := s._runs.get(run_id)) and run.holder and run.expires is None) else honest(run_id, *args)},
        "half_a_lease_is_none"),
    "takes an expiry for a lease": (
        {"claim": lambda s, honest, run_id, holder, now, end: None if (
            (run := s._runs.get(run_id)) and run.expires and run.expires >= now) else honest(run_id, holder, now, end)},
        "half_a_lease_is_none"),
    "claims at the last moment": (
        {"claim": lambda s, honest, run_id, holder, now, end: honest(run_id, holder, now + 1e-6, end)},
        "a_lease_ends_after_its_last_moment"),
    "makes the run that a claim is for": (
        {"claim": lambda s, honest, run_id, *args: before(
            s.create(NEW._replace(run_id=run_id)), lambda: honest(run_id, *args))},
        "an_unknown_run_cannot_be_claimed a_deleted_run_is_gone"),
    "never claims finished runs": (
        {"claim": lambda s, honest, run_id, *args: (
            None if known(s, run_id).status.finished else honest(run_id, *args))},
        "a_run_can_be_claimed_in_any_status"),
    "claims in a race": ({"claim": outdated}, "of_twenty_claims_at_once_one_wins"),
    "renews nothing": ({"renew": lambda s, honest, *args: []}, "renewing_extends_the_leases"),
    "renews whatever the holder": (
        {"renew": lambda s, honest, holder, tokens, end: [
            i for i, t in tokens.items() if i not in s._runs or s._runs[i].token != t or keep(s, i, expires=end)]},
        "renewing_reports_what_is_lost"),
    "reports no lost leases": (
        {"renew": lambda s, honest, *args: then(honest(*args), lambda lost: [])}, "renewing_reports_what_is_lost"),
    "renews a thousand at most": (
        {"renew": lambda s, honest, h, tokens, end: honest(h, dict(itertools.islice(tokens.items(), 1000)), end)},
        "many_leases_are_renewed_at_once"),
    "loses leases that ran out": (
        {"renew": lambda s, honest, h, tokens, end: [
            i for i in tokens if i in s._runs and s._runs[i].expires < end - 30] or honest(h, tokens, end)},
        "renewing_saves_a_lease_that_nobody_took"),
    "frees nothing": ({"release": lambda s, honest, *args: None}, "releasing_frees_the_lease"),
    "frees for any token": (
        {"release": lambda s, honest, run_id, token: keep(s, run_id, **NO_HOLDER)},
        "releasing_with_a_stale_token_is_harmless"),
    "starts tokens anew": (
        {"release": lambda s, honest, run_id, token: keep(s, run_id, token=0, **NO_HOLDER)},
        "the_token_grows_by_one_with_each_claim"),
    # signals
    "takes signals for good": (
        {"next_signal": lambda s, honest, run_id, *name: then(
            honest(run_id, *name), lambda signal: signal and s._mail[run_id].waiting.pop((False, None, signal.id)))},
        "taking_a_signal_leaves_it"),
    "drops signals to runs that are not parked": (
        {"put_signal": lambda s, honest, run_id, signal: (
            honest(run_id, signal) if known(s, run_id).status is PARKED else None)},
        "an_early_signal_is_kept a_late_signal_is_kept"),
    "forgets early ids": (
        {"create": lambda s, honest, run: (s._mail.get(run.run_id, NO_MAIL).seen.clear(), honest(run))[1]},
        "an_early_signal_counts_once"),
    "remembers ids that never came": ({"commit": expectant}, "consuming_what_never_came_is_forgotten"),
    "counts every signal": (
        {"put_signal": lambda s, honest, run_id, signal: honest(
            run_id, signal._replace(id=f"{signal.id} {len(s._mail.get(run_id, NO_MAIL).seen)}"))},
        "a_signal_sent_twice_counts_once"),
    "keeps the last signal of an id": (
        {"put_signal": lambda s, honest, run_id, signal: (s._mail.pop(run_id, None), honest(run_id, signal))[1]},
        "a_signal_sent_twice_counts_once"),
    "forgets consumed ids": (
        {"put_signal": lambda s, honest, run_id, signal: (
            (False, None, signal.id) not in s._mail.get(run_id, NO_MAIL).waiting
            and s._mail.get(run_id, NO_MAIL).seen.clear(),
            honest(run_id, signal))[1]},
        "a_consumed_signal_does_not_come_back"),
    "orders signals by id": (
        {"next_signal": lambda s, honest, run_id, name, own=False: min(
            (x for x in s._mail.get(run_id, NO_MAIL).waiting.values() if x.name == name),
            key=lambda x: x.id, default=None)},
        "signals_of_one_name_come_in_order"),
    "joins a run's id and a signal's name": (
        {"next_signal": lambda s, honest, run_id, name, own=False: next(
            (signal for other, mail in s._mail.items() for signal in mail.waiting.values()
             if f"{other}:{signal.name}" == f"{run_id}:{name}"), None)},
        "no_two_queues_are_one"),
    "has one signal of an id in all": (
        {"put_signal": lambda s, honest, run_id, signal: (
            None if any(signal.key in mail.seen for mail in s._mail.values()) else honest(run_id, signal))},
        "signals_are_apart"),
    "consumes all of a name": (
        altered(consumed=lambda s, c: [
            x.id for x in s._mail.get(c.run_id, NO_MAIL).waiting.values()
            if x.name in {y.name for y in s._mail[c.run_id].waiting.values() if y.id in c.consumed}]),
        "a_commit_consumes_exactly_what_it_names"),
    "consumes before it commits": (
        {"commit": lambda s, honest, c: (
            [s._mail.get(c.run_id, NO_MAIL).waiting.pop((False, None, i), None) for i in c.consumed], honest(c))[1]},
        "a_refused_commit_consumes_nothing a_stale_seq_is_refused a_stale_token_is_refused"),
    # the engine's own
    "keeps the engine's values in the data": (
        {"create": lambda s, honest, run: honest(run._replace(data={**run.data, **run.own}))},
        "the_engines_values_are_apart"),
    "drops the engine's values with its transitions": (
        altered(own_removed=lambda s, c: [*c.own_removed, *known(s, c.run_id).own]),
        "the_engines_values_are_apart"),
    "changes the engine's values with transitions only": (
        altered(own=lambda s, c: c.own if c.seq > c.expected_seq else {}),
        "the_engines_values_change_with_their_commit"),
    "removes none of the engine's values": (
        altered(own_removed=()), "the_engines_values_change_with_their_commit"),
    "has a history of the data alone": (
        listed("history", lambda s, lines: [line._replace(own={}, own_removed=()) for line in lines]),
        "history_has_the_engines_values_apart"),
    "keeps a thousand of the engine's values": (
        {"create": lambda s, honest, run: honest(run._replace(own=dict(itertools.islice(run.own.items(), 1000))))},
        "many_values_of_the_engine_survive"),
    "lists the engine's values": (
        listed("runs", lambda s, runs: [run._replace(own=s._runs[run.run_id].own) for run in runs]),
        "lists_come_without_the_engines_values"),
    "takes the engine's signals for those of users": (
        {"put_signal": lambda s, honest, run_id, signal: honest(run_id, signal._replace(own=False))},
        "the_engines_signals_are_apart"),
    "finds signals of either kind": (
        {"next_signal": lambda s, honest, run_id, name, own=False: then(
            honest(run_id, name, own), lambda signal: signal or s._oldest_signal(run_id, name, not own))},
        "the_engines_signals_are_apart"),
    "consumes signals of either kind": (
        altered(**dict.fromkeys(("consumed", "own_consumed"), lambda s, c: [*c.consumed, *c.own_consumed])),
        "the_engines_signals_are_consumed_apart"),
    "drops the addressee": (
        {"put_signal": lambda s, honest, run_id, signal: honest(run_id, signal._replace(to=None))},
        "signals_to_a_wait_are_apart signals_to_a_wait_are_consumed_apart"),
    "consumes signals of an id to any wait": (
        altered(answered=lambda s, c: [(to, id) for _, to, id in s._mail.get(c.run_id, NO_MAIL).waiting
                                       if to is not None and id in {id for _, id in c.answered}]),
        "signals_to_a_wait_are_consumed_apart"),
    "consumes a signal for any wait with that to one": (
        altered(consumed=lambda s, c: [*c.consumed, *(id for _, id in c.answered)]),
        "signals_to_a_wait_are_consumed_apart"),
    "reads an addressee from an id": (
        {"put_signal": lambda s, honest, run_id, signal: honest(
            run_id, signal._replace(id=signal.id[8:], to=int(signal.id[6]))
            if signal.id.startswith("\0wait") else signal)},
        "signals_to_a_wait_are_apart"),
    "finds no signals to a wait": (
        {"next_signal": lambda s, honest, run_id, name, own=False: next(
            (x for x in s._mail.get(run_id, NO_MAIL).waiting.values()
             if (x.name, x.own, x.to) == (name, own, None)), None)},
        "signals_to_a_wait_wake_a_run"),
    "wakes runs for signals of users only": (
        altered(wait=lambda s, c: c.wait and c.wait._replace(own=False)), "only_its_kind_of_signal_wakes_a_run"),
    "counts no recipients of the engine's signals": (
        listed("missing_recipients", lambda s, ids: [
            i for i in ids if not all(own for own, *_ in s._mail[i].seen)]),
        "early_signals_of_the_engine_wake_a_run"),
    "deletes no signal of the engine": (
        {"delete": lambda s, honest, run_id: [mail := s._mail.get(run_id), then(honest(run_id), lambda there: (
            mail and s._mail.update({run_id: mail}), there)[1])][1]},
        "deleting_forgets_what_is_the_engines"),
    "pages a history from its beginning": (
        {"history_page": lambda s, honest, run_id, after, limit: honest(run_id, None, limit)}, "a_history_has_pages"),
    "pages a history from the entry itself": (
        {"history_page": lambda s, honest, run_id, after, limit: honest(run_id, after and after - 1, limit)},
        "a_history_has_pages"),
    "takes the limit of a page for a seq": (
        {"history_page": lambda s, honest, run_id, after, limit: then(honest(run_id, after, limit), lambda page: [
            entry for entry in page if limit is None or entry.seq < (after or 0) + limit])},
        "a_history_has_pages"),
    "pages a history without a limit": (
        {"history_page": lambda s, honest, run_id, after, limit: honest(run_id, after, None)}, "a_history_has_pages"),
    "discards too much of a history": (
        {"discard_history": lambda s, honest, run_id, before: honest(run_id, before + 1)},
        "old_history_can_be_discarded"),
    "discards no history": (
        {"discard_history": lambda s, honest, run_id, before: nothing(None)}, "old_history_can_be_discarded"),
    "discards the middle of a history": (
        {"discard_history": lambda s, honest, run_id, before: s._history.get(run_id, []).__delitem__(
            slice(1, max(before, 2)))},
        "old_history_can_be_discarded"),
    "discards the history of all": (
        {"discard_history": lambda s, honest, run_id, before: before and [
            each.clear() for i, each in s._history.items() if i != run_id] and honest(run_id, before)},
        "old_history_can_be_discarded"),
    # lists
    "lists what was updated last first": (
        listed("runs", lambda s, runs: sorted(runs, key=lambda run: -run.updated)), "runs_are_listed_newest_first"),
    "lists data": (
        listed("runs", lambda s, runs: [s._runs[run.run_id] for run in runs]), "runs_are_listed_without_their_data"),
    "takes an empty filter for none": (
        {"runs": lambda s, honest, f: honest(f._replace(parent=f.parent or None))}, "runs_are_filtered"),
    "filters by workflow alone": (
        {"runs": lambda s, honest, f: honest(RunFilter(workflow=f.workflow, limit=f.limit))}, "runs_are_filtered"),
    "filters by no state": (
        {"runs": lambda s, honest, f: honest(f._replace(state=None))}, "runs_are_filtered_by_more"),
    "includes the bound of a time": (
        {"runs": lambda s, honest, f: honest(f._replace(
            updated_after=f.updated_after and math.nextafter(f.updated_after, 0)))},
        "runs_are_filtered_by_more"),
    "filters by state after the limit": (
        {"runs": lambda s, honest, f: then(honest(f._replace(state=None)), lambda runs: [
            run for run in runs if f.state in (None, run.state)])},
        "runs_are_filtered_by_more"),
    "derives a status": (
        listed("runs", lambda s, runs: [
            run._replace(status=RunStatus.INTERRUPTED) if run.holder is None else run for run in runs]),
        "the_status_is_the_stored_one"),
    "limits before it filters by parent": (
        {"runs": limited_first}, "runs_are_limited"),
    "takes a limit of 0 for none": (
        {"runs": lambda s, honest, f: honest(f._replace(limit=f.limit or None))}, "runs_are_limited"),
    "is ready too late": (
        {"ready": lambda s, honest, now, *names: honest(math.nextafter(now, 0), *names)},
        "a_parked_run_is_ready_when_its_time_has_come"),
    "is ready without regard to signals": (
        {"ready": lambda s, honest, now, *names: then(honest(now, *names), lambda runs: [
            run for run in runs if run.wait is None or (run.wait.until is not None and run.wait.until <= now)])},
        "a_parked_run_is_ready_when_its_signal_is_there"),
    "is ready for any signal": (
        listed("ready", lambda s, runs: [*runs, *(
            run for i, run in s._runs.items() if run.status is PARKED and i in s._mail and run not in runs)]),
        "a_parked_run_is_ready_when_its_signal_is_there"),
    "takes an empty name for none": (
        listed("ready", lambda s, runs: [run for run in runs if run.wait is None or run.wait.signal or run.wait.until]),
        "a_signal_without_a_name_wakes_its_run"),
    "sorts runs of the same time as it likes": (
        listed("runs", lambda s, runs: sorted(runs, key=lambda run: (-run.created, run.run_id))),
        "pages_of_a_list_leave_out_no_run"),
    "repeats runs of the same time": (
        {"runs": lambda s, honest, f: honest(f if f.after is None else f._replace(
            after=(f.after[0], chr(0x10FFFF))))},
        "pages_of_a_list_leave_out_no_run"),
    "leaves out runs of the same time": (
        {"runs": lambda s, honest, f: honest(f if f.after is None else f._replace(
            after=(f.after[0], "")))},
        "pages_of_a_list_leave_out_no_run"),
    "knows one order": (
        {"runs": lambda s, honest, f: honest(f._replace(order="-created"))}, "runs_are_ordered"),
    "sorts by the creation only": (
        {"runs": lambda s, honest, f: honest(f._replace(order="created" if f.ascending else "-created"))},
        "runs_are_ordered"),
    "begins each page of an ascending list at its place, again": (
        {"runs": lambda s, honest, f: honest(f if f.after is None or not f.ascending else f._replace(
            after=(f.after[0], "")))},
        "runs_are_ordered"),
    "finds by no error": (
        {"runs": lambda s, honest, f: honest(f._replace(error=None))}, "runs_are_found_by_their_outcome"),
    "counts by no error": (
        {"count": lambda s, honest, f: honest(f._replace(error=None))}, "runs_are_found_by_their_outcome"),
    "finds by the error and not by its cause": (
        {"runs": lambda s, honest, f: then(honest(f), lambda runs: [
            run for run in runs if f.error is None or (run.error or {}).get("type") == f.error])},
        "runs_are_found_by_their_outcome"),
    "finds by the state that a run began in": (
        {"runs": lambda s, honest, f: then(honest(f._replace(state=None)), lambda runs: [
            run for run in runs if f.state in (None, s._history[run.run_id][0].state)])},
        "runs_are_found_by_their_outcome runs_are_filtered_by_more"),
    "finds by no attribute": (
        {"runs": lambda s, honest, f: honest(f._replace(attributes=None))},
        "runs_are_found_by_attributes attributes_and_fields_are_found_together"),
    "counts by no attribute": (
        {"count": lambda s, honest, f: honest(f._replace(attributes=None))},
        "runs_are_found_by_attributes attributes_and_fields_are_found_together"),
    "counts by no state": (
        {"count": lambda s, honest, f: honest(f._replace(state=None))}, "runs_are_counted"),
    "finds the end of a range": (
        {"runs": lambda s, honest, f: honest(f if f.attributes is None else f._replace(attributes={
            name: [(low, high + b"\0") for low, high in ranges] for name, ranges in f.attributes.items()}))},
        "runs_are_found_by_attributes"),
    "compares values as text": (
        {"runs": lambda s, honest, f: honest(f if f.attributes is None else f._replace(attributes={
            name: [(low.lower(), high.lower()) for low, high in ranges] for name, ranges in f.attributes.items()}))},
        "runs_are_found_by_attributes"),
    "finds by one attribute": (
        {"runs": lambda s, honest, f: honest(f if f.attributes is None else f._replace(
            attributes=dict(list(f.attributes.items())[:1])))},
        "attributes_and_fields_are_found_together"),
    "finds by attributes after the limit": (
        {"runs": lambda s, honest, f: then(honest(f._replace(attributes=None)), lambda runs: [
            run for run in runs if f._replace(after=None).matches(s._runs[run.run_id])])},
        "attributes_and_fields_are_found_together"),
    "never changes attributes": (
        {"commit": lambda s, honest, commit, *audit: honest(commit._replace(attributes=None), *audit)},
        "attributes_change_with_the_commit names_of_attributes"),
    "forgets attributes at each commit": (
        {"commit": lambda s, honest, commit, *audit: honest(commit._replace(
            attributes=commit.attributes or {}), *audit)},
        "attributes_change_with_the_commit"),
    "adds attributes to those that were there": (
        {"commit": lambda s, honest, commit, *audit: honest(commit._replace(
            attributes=None if commit.attributes is None else {
                **s._runs[commit.run_id].attributes, **commit.attributes}), *audit)},
        "attributes_change_with_the_commit"),
    "returns attributes": (
        {"load": lambda s, honest, run_id: then(honest(run_id), lambda run: run and run._replace(
            attributes=s._runs[run_id].attributes))},
        "attributes_change_with_the_commit"),
    "names an attribute once": (
        {"attribute_names": lambda s, honest: then(honest(), lambda found: list(dict(found).items()))},
        "names_of_attributes"),
    "keeps attributes of deleted runs": (
        {"delete": lambda s, honest, run_id, *audit: (
            s.__dict__.setdefault("left", {}).update({run_id: s._runs.get(run_id)}), honest(run_id, *audit))[1],
         "attribute_names": lambda s, honest: then(honest(), lambda found: sorted({*found, *(
             (name, value[:1]) for run in s.__dict__.get("left", {}).values() if run
             for name, value in run.attributes.items())}))},
        "attributes_go_with_their_run"),
    "claims every definition": (
        {"claim_ready": lambda s, honest, given, *rest: honest(
            [(run.workflow, run.version, run.fingerprint) for run in s._runs.values()], *rest)},
        "what_is_ready_is_claimed_together a_claim_of_many_has_a_limit"),
    "claims workflows by their names": (
        {"claim_ready": lambda s, honest, given, *rest: honest(
            [(run.workflow, run.version, run.fingerprint) for run in s._runs.values() for name, *_ in given
             if name == run.workflow], *rest)},
        "what_is_ready_is_claimed_together"),
    "claims many beyond the limit": (
        {"claim_ready": lambda s, honest, given, limit, *rest: honest(given, limit + 1, *rest)},
        "a_claim_of_many_has_a_limit"),
    "claims what is to be skipped": (
        {"claim_ready": lambda s, honest, *given: honest(*given[:5])}, "a_claim_of_many_has_a_limit"),
    "claims many with expired leases": (
        {"claim_ready": lambda s, honest, *given: [
            keep(s, run.run_id, holder=None) for run in [*s._runs.values()] if run.expires and run.expires < given[3]]
            and honest(*given)},
        "what_is_ready_is_claimed_together"),
    "claims many that are not ready": (
        {"claim_ready": lambda s, honest, given, limit, holder, now, *rest: honest(
            given, limit, holder, now + 60, *rest)},
        "what_is_ready_is_claimed_together"),
    "claims many without their leases": (
        {"claim_ready": lambda s, honest, *given: then(honest(*given), lambda claimed: [
            *claimed, *(keep(s, each.run_id, holder=None, expires=None) for each in claimed)][:len(claimed)])},
        "what_is_ready_is_claimed_together claims_of_many_at_once_share"),
    "claims many without their data": (
        listed("claim_ready", lambda s, claimed: [
            each._replace(record=each.record._replace(data={})) for each in claimed]),
        "what_is_ready_is_claimed_together a_claim_of_many_has_all_data"),
    "claims many and counts consumed signals": (
        listed("claim_ready", lambda s, claimed: [
            each._replace(signals=each.run_id in s._mail) for each in claimed]),
        "a_claim_of_many_has_all_data"),
    "claims many and sees no signals": (
        listed("claim_ready", lambda s, claimed: [each._replace(signals=False) for each in claimed]),
        "what_is_ready_is_claimed_together"),
    "claims many for another holder": (
        {"claim_ready": lambda s, honest, given, limit, holder, *rest: honest(given, limit, "me", *rest)},
        "claims_of_many_at_once_share claims_from_queues_at_once_share"),
    "forgets lanes": (
        {"create": lambda s, honest, run, *audit: honest(run._replace(lane=None), *audit)}, "a_run_keeps_its_lane"),
    "begins by age alone": (
        {"_in_turn": lambda s, honest, queued, limit: queued},
        "runs_begin_by_priority_and_age keys_take_turns many_keys_take_turns definitions_and_queues_take_turns"),
    "begins each time with the same key": (
        {"_in_turn": lambda s, honest, *given: (s._turns.clear(), honest(*given))[1]},
        "keys_take_turns many_keys_take_turns"),
    "remembers one turn for all priorities": (
        {"_in_turn": lambda s, honest, *given: (
            s._turns.update(dict.fromkeys(range(-9, 9), max(s._turns.values(), default=()))), honest(*given))[1]},
        "many_keys_take_turns"),
    "begins new runs first": (
        {"claim_ready": lambda s, honest, given, limit, holder, now, expires, *rest: before(
            honest(given, min(limit, 1), holder, now, expires, [i for i, run in s._runs.items() if not run.in_queue]),
            lambda: honest(given, limit - 1, holder, now, expires, *rest))},
        "runs_begin_by_priority_and_age"),
    "serves every queue": (
        {"claim_ready": lambda s, honest, *given: honest(*given[:6])},
        "queues_are_those_of_all_runs definitions_and_queues_take_turns"),
    "begins delayed runs at once": (
        {"claim_ready": lambda s, honest, given, limit, holder, now, *rest: honest(
            given, limit, holder, now + 60, *rest)},
        "a_delayed_run_enters_its_queue"),
    "counts what has begun": (
        {"queue_sizes": lambda s, honest, *given: {"default": len(s._runs)}},
        "a_claimed_run_leaves_its_queue queues_have_sizes a_run_that_is_released_unclaimed_enters_its_queue"),
    "begins what is released": (
        {"release": lambda s, honest, run_id, token: before(
            honest(run_id, token), lambda: nothing(keep(s, run_id, token=1)))},
        "a_run_that_is_released_unclaimed_enters_its_queue"),
    "keeps runs that are put back out of their queue": (
        {"commit": lambda s, honest, commit, *audit: honest(commit._replace(
            at=max(commit.at, known(s, commit.run_id).created)), *audit)},
        "a_run_that_is_put_back_has_its_place_again"),
    "lists whole queues": (
        {"ready": lambda s, honest, now, workflows=None: [
            run._replace(data={}) for run in s._runs.values()
            if s._is_ready(run, now) and (workflows is None or run.workflow in workflows)]},
        "few_runs_of_a_queue_are_ready"),
    "lists no queues": (
        listed("ready", lambda s, runs: [run for run in runs if not run.in_queue]), "few_runs_of_a_queue_are_ready"),
    "counts too many before": (
        {"queued_before": lambda s, honest, run, most: honest(run, most + 1)}, "runs_before_a_queued_one_are_counted"),
    "lists runs that are not held": (
        {"runs": lambda s, honest, wanted: honest(wanted._replace(held=None))}, "held_runs_are_listed"),
    "expires unfinished runs": (
        listed("expired", lambda s, runs: [*runs, *(r for r in s._runs.values() if not r.status.finished)]),
        "expired_runs_are_found"),
    "expires the newest first": (
        listed("expired", lambda s, runs: runs[::-1]), "expired_runs_are_found"),
    "expires the same runs on every page": (
        {"expired": lambda s, honest, retention, now, limit, after=None: honest(retention, now, limit)},
        "expired_runs_are_found"),
    "counts the runs of all workflows": (
        {"expired": lambda s, honest, retention, now, limit, after=None: honest(
            retention if retention.keep_last is None else Retention(keep_last=retention.keep_last // 2), now, limit,
            after)},
        "expired_runs_are_found"),
    "deletes held runs": (
        {"delete_finished": lambda s, honest, ids, now, audit=None: (
            [keep(s, i, **NO_HOLDER) for i in ids], honest(ids, now, audit))[1]},
        "finished_runs_are_deleted_together"),
    "deletes unfinished runs": (
        {"delete_finished": lambda s, honest, ids, now, audit=None: [i for i in ids if s._delete(i)]},
        "finished_runs_are_deleted_together"),
    "deletes the records alone": (
        {"delete_finished": lambda s, honest, ids, now, audit=None: [
            i for i in ids if i in s._finished and s._runs[i].holder is None and s._runs.pop(i, None)]},
        "finished_runs_are_deleted_together"),
    "rewrites without a fence": (
        {"rewrite": lambda s, honest, commit, entries: then(
            honest(commit, entries), lambda _: keep(s, commit.run_id, token=known(s, commit.run_id).token - 1))},
        "a_history_is_rewritten"),
    "rewrites no history": (
        {"rewrite": lambda s, honest, commit, entries: honest(commit, [])}, "a_history_is_rewritten"),
    "rewrites histories without their commit": (
        {"rewrite": lambda s, honest, commit, entries: honest(commit._replace(own={}), entries)},
        "a_history_is_rewritten"),
    "rewrites the data": (
        {"rewrite": lambda s, honest, commit, entries: honest(commit._replace(changed={
            **{k: v for entry in entries for k, v in entry.changed.items() if k == "a"}, **commit.changed}), entries)},
        "a_history_is_rewritten"),
    "rewrites by position": (
        {"rewrite": lambda s, honest, commit, entries: honest(commit, [
            entry._replace(seq=at) for at, entry in enumerate(entries)])},
        "a_history_is_rewritten"),
    "rewrites before it commits": (
        {"rewrite": lambda s, honest, commit, entries: honest(commit._replace(
            token=known(s, commit.run_id).token, expected_seq=known(s, commit.run_id).seq,
            seq=known(s, commit.run_id).seq) if commit.run_id in s._runs else commit, entries)},
        "a_stale_rewriting_changes_nothing"),
    "rewrites streams by their place": (
        {"rewrite_stream": lambda s, honest, run_id, chunks: honest(run_id, [
            each._replace(last=at) for at, each in enumerate(chunks, 1)])},
        "streams_are_rewritten"),
    "adds chunks that it rewrites": (
        {"rewrite_stream": lambda s, honest, run_id, chunks: then(
            honest(run_id, chunks), lambda _: s._add_chunks(run_id, chunks))},
        "streams_are_rewritten"),
    "rewrites the streams of all": (
        {"rewrite_stream": lambda s, honest, run_id, chunks: then(
            honest("other", chunks), lambda _: None)},
        "streams_are_rewritten"),
    "rewrites signals that are gone": (
        {"rewrite_signals": lambda s, honest, run_id, signals: [
            s._mail[run_id].waiting.setdefault((each.own, each.id), each) for each in signals] and honest(
                run_id, signals)},
        "waiting_signals_are_rewritten"),
    "rewrites no signals": (
        {"rewrite_signals": lambda s, honest, run_id, signals: nothing(None)}, "waiting_signals_are_rewritten"),
    "rewrites signals in another order": (
        {"rewrite_signals": lambda s, honest, run_id, signals: [
            s._mail[run_id].waiting.update({key: s._mail[run_id].waiting.pop(key)}) for key in [
                (each.own, each.id) for each in signals] if key in s._mail[run_id].waiting]
            and honest(run_id, signals)},
        "waiting_signals_are_rewritten"),
    "rewrites signals of one kind": (
        {"rewrite_signals": lambda s, honest, run_id, signals: honest(
            run_id, [each._replace(own=False) for each in signals])},
        "waiting_signals_are_rewritten"),
    "limits no signals": (
        {"put_signal_within": lambda s, honest, run_id, signal, most, *audit: honest(run_id, signal, 10**9, *audit)},
        "waiting_signals_have_a_limit the_limit_holds_for_calls_at_once"),
    "accepts one signal more": (
        {"put_signal_within": lambda s, honest, run_id, signal, most, *audit: honest(run_id, signal, most + 1, *audit)},
        "waiting_signals_have_a_limit the_limit_holds_for_calls_at_once"),
    "refuses known signals": (
        {"put_signal_within": lambda s, honest, run_id, signal, most, *audit: (
            False if len(s._mail.get(run_id, NO_MAIL).waiting) >= most else honest(run_id, signal, most, *audit))},
        "waiting_signals_have_a_limit"),
    "stores refused signals": (
        {"put_signal_within": lambda s, honest, run_id, signal, *rest: then(
            honest(run_id, signal, *rest), lambda stored: (s._put_signal(run_id, signal, None), stored)[1])},
        "waiting_signals_have_a_limit the_limit_holds_for_calls_at_once"),
    "counts first and stores later": (
        {"put_signal_within": counting_first}, "the_limit_holds_for_calls_at_once"),
    "has one namespace": ({"scoped": lambda s, honest, name: honest("one")},
        "namespaces_share_nothing similar_names_are_different_namespaces"),
    "has no namespaces": ({"scoped": lambda s, honest, name: s}, "namespaces_share_nothing"),
    "has namespaces by case": (
        {"scoped": lambda s, honest, name: honest(name.lower())}, "similar_names_are_different_namespaces"),
    "cuts the names of namespaces": (
        {"scoped": lambda s, honest, name: honest(name[:1])}, "similar_names_are_different_namespaces"),
    "has new namespaces each time": (
        {"scoped": lambda s, honest, name: MemoryBackend()}, "a_namespace_is_the_same_everywhere"),
    **{f"shares {what} of namespaces": (
        {"scoped": lambda s, honest, name, what=what: sharing(s, honest(name), what)}, "namespaces_share_nothing")
       for what in ("_runs", "_history", "_mail")},
    "forgets what came before a run": (
        {"create": lambda s, honest, run: (s._mail.pop(run.run_id, None), honest(run))[1]},
        "a_run_created_parked_is_ready_when_its_signal_came_first"),
    "is ready for consumed signals": (
        listed("ready", lambda s, runs: [*runs, *(
            s._runs[i] for i, mail in s._mail.items() if i in s._runs and mail.seen - mail.waiting.keys()
            and s._runs[i].status is RunStatus.PARKED and s._runs[i] not in runs)]),
        "a_run_that_is_parked_again_is_ready_for_another_signal"),
    "misses signals to runs that are being parked": (
        {"put_signal": lambda s, honest, run_id, signal: (
            honest(run_id, signal) if known(s, run_id).status is RunStatus.PARKED else nothing(None))},
        "no_signal_is_missed_while_its_run_is_parked"),
    "is ready though held": (
        {"ready": lambda s, honest, *given: ([keep(s, i, **NO_HOLDER) for i in s._runs], honest(*given))[1]},
        "a_running_run_is_ready_when_nobody_holds_it a_held_parked_run_is_not_ready a_run_that_went_on_is_not_ready"),
    "is ready though finished": (
        {"ready": lambda s, honest, *given: (
            [keep(s, i, status=PARKED) for i, run in s._runs.items() if run.status in FINISHED], honest(*given))[1]},
        "a_finished_run_is_not_ready"),
    "lists the queues of all workflows": (
        {"ready": lambda s, honest, now, *names: honest(now)}, "ready_runs_of_other_workflows_are_left_out"),
    "lists workflows by the start of their names": (
        {"ready": lambda s, honest, now, *names: then(honest(now), lambda runs: [
            run for run in runs if not names or any(run.workflow.startswith(name) for name in names[0])])},
        "ready_runs_of_other_workflows_are_left_out"),
    "is ready with data": (
        listed("ready", lambda s, runs: [s._runs[run.run_id] for run in runs]), "ready_runs_come_without_their_data"),
    "is ready once for each signal": (
        listed("ready", lambda s, runs: [run for run in runs for _ in s._mail.get(run.run_id, NO_MAIL).waiting]),
        "ready_runs_come_without_their_data"),
    # deleting
    "always says deleted": (
        {"delete": lambda s, honest, run_id: then(honest(run_id), lambda there: True)},
        "deleting_tells_whether_there_was_one"),
    "deletes no held runs": (
        {"delete": lambda s, honest, run_id: (
            False if known(s, run_id).holder else honest(run_id))},
        "deleting_tells_whether_there_was_one"),
    "deletes the record alone": (
        {"delete": lambda s, honest, run_id: s._runs.pop(run_id, None) is not None},
        "a_deleted_run_is_gone a_deleted_id_can_be_used_anew deleting_forgets_signals_that_came_early"),
    "deletes children": (
        {"delete": lambda s, honest, run_id: (
            [s._delete(i) for i, run in list(s._runs.items()) if run.parent == run_id], honest(run_id))[1]},
        "deleting_leaves_other_runs"),
    "tells of consumed signals": (
        listed("signals", lambda s, mail: mail._replace(consumed=())), "all_signals_are_told"),
    "sorts signals": (
        listed("signals", lambda s, mail: mail._replace(waiting=sorted(mail.waiting))), "all_signals_are_told"),
    "takes everybody for a stranger": (
        {"missing_recipients": lambda s, honest: list(s._mail)}, "recipients_without_a_run_are_told"),
    # living
    "mixes up commits": ({"commit": mixed_up}, "many_runs_commit_at_once"),
    "renews what it saw earlier": ({"renew": outdated}, "different_calls_at_once_undo_nothing"),
    "commits on what it saw earlier": (
        {"commit": outdated}, "a_claim_and_a_commit_at_once different_calls_at_once_undo_nothing"),
    "opens again": ({"open": lambda s, honest: None}, "after_closing_every_call_is_refused"),
    "commits by halves": ({"commit": halved}, "a_cancelled_commit_happens_whole_or_not_at_all"),
    "commits behind one's back": ({"commit": late}, "a_cancelled_commit_happens_whole_or_not_at_all"),
    "creates behind one's back": ({"create": late}, "a_cancelled_create_or_claim_shows_at_once"),
    "claims behind one's back": ({"claim": late}, "a_cancelled_create_or_claim_shows_at_once"),
    "rounds the ends of leases": (
        {"claim": lambda s, honest, run_id, holder, now, expires: honest(run_id, holder, now, round(expires, 6))},
        "a_cancelled_create_or_claim_shows_at_once"),
    "loses what a cancelled call uses": ({"load": leaking}, "a_storm_of_cancellations_breaks_nothing"),
    "stays open": ({"close": lambda s, honest: None}, "after_closing_every_call_is_refused"),
    "closes only once": (
        {"close": lambda s, honest: s.load("any") if s._closed else honest()}, "closing_twice_is_harmless"),
}
# fmt: on


class OnStore(StoreBackendContract):
    """The contract, for a store that is given to it."""

    def __init__(self, make: Callable[[], StoreBackend]) -> None:
        self.make = make

    def make_url(self, tmp_path: Path) -> str:
        """It has no URL."""
        return "none"

    def open_backend(self, url: str) -> StoreBackend:
        """The store."""
        return self.make()


OTHERS = AppendClauses, AuditClauses, ConnectionClauses, SlotClauses, StreamClauses, TransactionClauses
PAIRS = [(name, f"test_{clause}") for name, (_, clauses) in MUTANTS.items() for clause in clauses.split()]


@pytest.mark.parametrize(("mutant", "clause"), PAIRS)
def test_a_broken_store_fails_its_clause(mutant: str, clause: str, tmp_path: Path) -> None:
    """A store that breaks one clause fails the test of that clause, and not by accident; the failure says why."""
    contract = OnStore(broken(**MUTANTS[mutant][0]))

    with pytest.raises((AssertionError, CanoError)) as failed:
        getattr(contract, clause)(tmp_path)
    assert str(failed.value)  # pytest explains the asserts of the kit as if they were the user's own


def test_a_store_without_capabilities_is_refused(tmp_path: Path) -> None:
    """A store must declare its capabilities."""

    class Silent(MemoryBackend):
        capabilities: Any = None

        def __init__(self) -> None:
            super().__init__()
            self.capabilities = None

    with pytest.raises(AssertionError):
        OnStore(Silent).test_capabilities_are_declared(tmp_path)


@pytest.mark.parametrize("clause", CLAUSES)
def test_an_honest_store_keeps_every_clause(clause: str, tmp_path: Path) -> None:
    """The store that the broken ones are made of keeps the clause, so that it is their own fault."""
    getattr(OnStore(broken()), clause)(tmp_path)


def test_every_clause_has_a_store_that_fails_it() -> None:
    """No clause is in the contract that nothing is known to fail."""
    of_others = {  # see the other modules
        *(name for some in OTHERS for name in dir(some) if name.startswith("test_")),
        "test_capabilities_are_declared", "test_its_plugin_declares_the_same", "test_an_unknown_option_is_refused",
        "test_a_password_is_never_shown",
    }  # fmt: skip
    assert sorted({clause for _, clause in PAIRS} | of_others) == CLAUSES


def test_every_clause_is_stated() -> None:
    """Each test of the contract says in a docstring what a store must do, and takes nothing but a folder."""
    for clause in CLAUSES:
        test = getattr(StoreBackendContract, clause)
        assert inspect.getdoc(test)
        assert list(inspect.signature(test).parameters) == ["self", "tmp_path"]
        assert not inspect.iscoroutinefunction(test)


def test_a_store_that_hangs_has_failed(tmp_path: Path) -> None:
    """A clause does not wait for ever: a store that does not answer fails it."""
    contract = OnStore(broken(create=lambda s, honest, run: asyncio.Event().wait()))
    contract.patience = 0.01

    with pytest.raises(TimeoutError):
        contract.test_runs_are_apart(tmp_path)


def test_the_store_to_test_must_be_given(tmp_path: Path) -> None:
    """A subclass that gives no URL, or one that no plugin opens, is told what to do."""

    class Unknown(StoreBackendContract):
        def make_url(self, tmp_path: Path) -> str:
            return "nosuch://store"

    with pytest.raises(NotImplementedError, match="make_url"):
        StoreBackendContract().test_runs_are_apart(tmp_path)
    with pytest.raises(ConfigurationError, match=r"(?s)nosuch://store.*override open_backend"):
        Unknown().test_runs_are_apart(tmp_path)
