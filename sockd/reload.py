"""Reload: read, check, plan, diff, reconcile; all of it, or nothing."""

import os
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, maybeDeferred
from twisted.internet.defer import TimeoutError as TookTooLongError
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.errors import FileWrongError, SockdError
from sockd.control.language import Refused
from sockd.control.listener import Controls
from sockd.control.status import Outcome
from sockd.plan import words
from sockd.plan.changes import Changes
from sockd.plan.diff import diff
from sockd.plan.plan import Plan
from sockd.systemd.reports import Reports
from sockd.tree.endpoint import Endpoint, Surroundings, tell_listening
from sockd.tree.expiry import Expiry
from sockd.tree.moves import without_reload
from sockd.tree.reconcile import Reconciliation
from sockd.tree.supervisor import describe

T = TypeVar("T")


class Turnstile(Generic[T]):
    """Calls `work` for who asks, never twice at a time; however many wait, once more is enough for all."""

    def __init__(self, work: Callable[[], Awaitable[T]]) -> None:
        self._work = work
        self._now: Deferred[T] | None = None
        self._next: list[Deferred[T]] = []
        self.closed = False

    @property
    def busy(self) -> bool:
        return self._now is not None

    def ask(self) -> Deferred[T]:
        """What comes of it; CancelledError after `close`. Who cancels it only doesn't wait any more."""
        waiting: Deferred[T] = Deferred(self._forget)
        if self.closed:
            waiting.errback(CancelledError())
            return waiting
        self._next.append(waiting)
        if self._now is None:
            self._begin()
        return waiting

    def _forget(self, waiting: Deferred[T]) -> None:
        if waiting in self._next:
            self._next.remove(waiting)

    def _begin(self) -> None:
        waiting, self._next = self._next, []
        now = self._now = ensureDeferred(self._work())  # type: ignore[arg-type]
        now.addBoth(self._ended, waiting)

    def _ended(self, result: Any, waiting: list[Deferred[T]]) -> None:
        self._now = None
        if self._next and not self.closed:
            self._begin()
        for each in waiting:
            if not each.called:  # else it was cancelled
                each.callback(result)

    def close(self) -> Deferred[None]:
        """Cancel what is under way, and who waits for a next one; fires when it has ended."""
        self.closed = True
        waiting, self._next = self._next, []
        for each in waiting:
            each.errback(CancelledError())
        ended: Deferred[None] = Deferred()
        if self._now is None:
            ended.callback(None)
        else:
            now = self._now
            now.addBoth(lambda _: ended.callback(None))
            now.cancel()
        return ended


# So long (seconds) reading the file may take: it may be on a disk that doesn't answer.
PATIENCE = 60.0
# So many of the problems are logged for which a reload or an upgrade is refused.
TOLD = 20


class Reloaded(Protocol):
    """What is reloaded: the daemon, as far as this goes."""

    plan: Plan
    around: Surroundings
    by_name: dict[str, Endpoint]
    controls: Controls
    expiry: Expiry
    log: Logger

    def changed_settings(self, old: Plan, new: Plan) -> None: ...
    def see_off(self, endpoint: Endpoint) -> None: ...
    def tell_unclaimed(self) -> None: ...


class Reloading:
    """`read()` gives the plan of the file as it is now, or a Deferred of it."""

    def __init__(self, daemon: Reloaded, read: Callable[[], Any], reports: Reports) -> None:
        self._daemon = daemon
        self._read_file = read
        self._reports = reports
        self._turnstile = Turnstile(self._reload)
        self._reads = Turnstile(self._plan)
        self.last: Outcome | None = None

    @property
    def busy(self) -> bool:
        return self._turnstile.busy

    def reload(self) -> Deferred[dict[str, Any]]:
        """What has changed; Refused where nothing has because something was wrong."""
        return self._turnstile.ask().addErrback(_not_any_more)

    def by_signal(self) -> None:
        """The same; what comes of it is in the log."""
        self.reload().addErrback(lambda _: None)

    def close(self) -> Deferred[None]:
        """Undo a reload that is under way; begin none any more."""
        return self._turnstile.close()

    async def diff(self) -> dict[str, Any]:
        """What a reload would change."""
        plan = await self._read()
        return _as_json(self._compare(plan))

    async def unchanged(self) -> bool:
        """Whether the file still says what it said when it was loaded; Refused where it is wrong by now."""
        return self._compare(await self._read()).none

    def _compare(self, plan: Plan) -> Changes:
        return diff(self._daemon.plan, plan, without_reload(self._daemon.by_name))

    async def _plan(self) -> Plan:
        plan: Plan = await maybeDeferred(self._read_file)
        return plan

    async def _read(self) -> Plan:
        try:
            # Who finds it being read for somebody else has it read once more: it may have changed since.
            return await self._reads.ask().addTimeout(PATIENCE, self._daemon.around.reactor)
        except TookTooLongError:
            raise Refused(
                os.EX_TEMPFAIL, f"reading the file takes longer than {PATIENCE:g}s; it goes on"
            ) from None
        except FileWrongError as error:
            raise Refused(os.EX_CONFIG, *map(str, error.problems)) from None
        except SockdError as error:
            raise Refused(os.EX_CONFIG, str(error)) from None

    async def _reload(self) -> dict[str, Any]:
        daemon = self._daemon
        self._reports.reloading()
        try:
            plan = await self._read()
            done = await self._reconcile(self._compare(plan))
        except BaseException as error:
            refused = self._refusal(error)
            self.last = Outcome.refused(refused.problems)
            tell_refused(daemon.log, "reload", refused)
            raise refused from error
        finally:
            self._reports.went_on()
        summary = words.summary(done)
        self.last = Outcome(True, summary)
        for warning in plan.warnings:
            daemon.log.warn("{warning}", warning=str(warning), event="file")  # noqa: G010
        daemon.log.info("reloaded: {summary}", summary=summary, event="reloaded")
        return _as_json(done)

    def _refusal(self, error: BaseException) -> Refused:
        if self._turnstile.closed:
            return _stops()  # whatever was cancelled says of it
        if isinstance(error, Refused):
            return error
        if isinstance(error, SockdError):
            return Refused(os.EX_TEMPFAIL, str(error))
        self._daemon.log.failure("the reload failed", Failure(error, type(error), error.__traceback__))
        return Refused(os.EX_SOFTWARE, f"the reload failed: {describe(error)}")

    async def _reconcile(self, changes: Changes) -> Changes:
        """Make the changes; what was done."""
        daemon, plan = self._daemon, changes.new
        reconciliation = Reconciliation(daemon.by_name, changes, daemon.around)
        await reconciliation.prepare()
        try:
            daemon.controls.prepare(daemon.plan, plan)
        except BaseException:
            await reconciliation.undo()
            raise
        old, daemon.plan = daemon.plan, plan
        reconciliation.commit(plan.drain)
        daemon.by_name = reconciliation.endpoints
        for endpoint, listener in reconciliation.opened:
            tell_listening(daemon.log.info, endpoint, listener)
        for endpoint in reconciliation.gone:
            daemon.see_off(endpoint)
        daemon.controls.commit(plan)
        daemon.changed_settings(old, plan)
        daemon.expiry.follow(plan)
        daemon.tell_unclaimed()
        return reconciliation.done


def tell_refused(log: Logger, what: str, refused: Refused) -> None:
    """Log why something, a reload say, wasn't done."""
    for problem in refused.problems[:TOLD]:
        log.error("{what} refused: {problem}", what=what, problem=problem, event=f"{what} refused")


def _stops() -> Refused:
    return Refused(os.EX_UNAVAILABLE, "the daemon is stopping")


def _not_any_more(failure: Failure) -> Failure:
    """Of who waited for a reload that was never begun."""
    return Failure(_stops()) if failure.check(CancelledError) else failure


def _as_json(changes: Changes) -> dict[str, Any]:
    return {
        "changes": words.as_json(changes),
        "warnings": [str(warning) for warning in changes.new.warnings],
    }
