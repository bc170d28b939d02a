"""Reads the file again, on SIGHUP or `sockd reload`, and makes the daemon what it says: all or nothing.

A reload reads and checks the file, compares its plan with the one that runs, and has the tree make the
changes (`sockd.tree.reconcile`). `sockd diff` ends after the comparison. One reload runs at a time.
"""

import os
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as TookTooLongError
from twisted.logger import Logger
from twisted.python.failure import Failure

from sockd.base.errors import FileWrongError, SockdError, SystemLacksError
from sockd.control.language import Json, Refused
from sockd.control.listener import ControlListener
from sockd.control.status import Outcome
from sockd.plan import words
from sockd.plan.changes import Changes
from sockd.plan.diff import diff
from sockd.plan.plan import Plan
from sockd.process.replaced import ReplacedError
from sockd.sinks.thread import ThreadError
from sockd.systemd.reports import Reports
from sockd.tree.certificate_expiry import Expiry
from sockd.tree.endpoint import Endpoint, Surroundings, log_listening
from sockd.tree.moves import without_reload
from sockd.tree.reconcile import Reconciliation
from sockd.tree.supervisor import describe

T = TypeVar("T")

# A command's answer, as the control socket sends it.
Report = dict[str, Json]


class Turnstile(Generic[T]):
    """Runs `work` for each caller, one run at a time.

    All who ask while it runs share the next run: it begins after the last of them has asked, and so sees all
    that they want it to see.
    """

    # Any: Twisted's own type of a coroutine that awaits Deferreds.
    def __init__(self, work: Callable[[], Coroutine[Deferred[Any], Any, T]]) -> None:
        self._work = work
        self._now: Deferred[T] | None = None
        self._next: list[Deferred[T]] = []
        self.closed = False

    @property
    def busy(self) -> bool:
        return self._now is not None

    def ask(self) -> Deferred[T]:
        """The result of the next run; CancelledError after `close`. Cancelling ends the wait, not the run."""
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
        now = self._now = ensureDeferred(self._work())
        now.addBoth(self._ended, waiting)

    def _ended(self, result: T | Failure, waiting: list[Deferred[T]]) -> None:
        self._now = None
        if self._next and not self.closed:
            self._begin()
        for each in waiting:
            if each.called:
                continue  # it was cancelled
            if isinstance(result, Failure):
                each.errback(result)
            else:
                each.callback(result)

    def close(self) -> Deferred[None]:
        """Cancel the run that is under way, and the wait for the next one; fires when the run has ended."""
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


# Seconds that reading the file may take: it may be on a disk that doesn't answer.
READ_TIMEOUT = 60.0
# How many of the problems are logged for which a reload or an upgrade is refused; the caller gets all.
MAX_LOGGED_PROBLEMS = 20


class Reloaded(Protocol):
    """What a reload needs of the daemon."""

    plan: Plan
    around: Surroundings
    by_name: dict[str, Endpoint]
    controls: ControlListener
    expiry: Expiry
    log: Logger

    def changed_settings(self, changes: Changes) -> None: ...
    def see_off(self, endpoint: Endpoint) -> None: ...
    def log_unclaimed(self) -> None: ...


class Reloading:
    """The reloads of one daemon. `read()` returns the plan of the file as it is now, or a Deferred of it."""

    def __init__(self, daemon: Reloaded, read: Callable[[], Plan | Deferred[Plan]], reports: Reports) -> None:
        self._daemon = daemon
        self._read_file = read
        self._reports = reports
        self._turnstile = Turnstile(self._reload)
        self._reads = Turnstile(self._plan)
        self.last: Outcome | None = None

    @property
    def busy(self) -> bool:
        return self._turnstile.busy

    def reload(self) -> Deferred[Report]:
        """Reload, and report what was done; Refused where the file is wrong or something can't be had."""
        return self._turnstile.ask().addErrback(_refused_by_stop)

    def by_signal(self) -> None:
        """Reload, and leave the report to the log."""
        self.reload().addErrback(lambda _: None)

    def close(self) -> Deferred[None]:
        """Undo a reload that is under way, and begin no other."""
        return self._turnstile.close()

    async def diff(self) -> Report:
        """Report what a reload would do."""
        plan = await self._read()
        return _as_json(self._compare(plan))

    async def unchanged(self) -> bool:
        """Whether the file still says what runs; Refused where it has become wrong."""
        return self._compare(await self._read()).none

    def _compare(self, plan: Plan) -> Changes:
        return diff(self._daemon.plan, plan, without_reload(self._daemon.by_name))

    async def _plan(self) -> Plan:
        plan = self._read_file()
        return await plan if isinstance(plan, Deferred) else plan

    async def _read(self) -> Plan:
        try:
            # A read that has begun may have missed what the caller has written: the turnstile reads again.
            return await self._reads.ask().addTimeout(READ_TIMEOUT, self._daemon.around.reactor)
        except TookTooLongError:
            raise Refused(
                os.EX_TEMPFAIL,
                f"reading the file takes longer than {READ_TIMEOUT:g}s, and goes on; try again later",
            ) from None
        except ThreadError as error:
            raise Refused(os.EX_TEMPFAIL, f"the file can't be read: {error}; try again later") from None
        except FileWrongError as error:
            raise Refused(os.EX_CONFIG, *map(str, error.problems)) from None
        except (ReplacedError, SystemLacksError) as error:
            raise Refused(os.EX_TEMPFAIL, str(error)) from None
        except SockdError as error:
            raise Refused(os.EX_CONFIG, str(error)) from None

    async def _reload(self) -> Report:
        daemon = self._daemon
        self._reports.reloading()
        try:
            plan = await self._read()
            done = await self._reconcile(self._compare(plan))
        except BaseException as error:
            refused = self._refusal(error)
            self.last = Outcome.refused(refused.problems)
            log_refused(daemon.log, "reload", refused)
            raise refused from error
        finally:
            self._reports.went_on()
        summary = words.summary(done)
        self.last = Outcome(True, summary)
        for warning in plan.warnings:
            daemon.log.warn("{warning}", warning=str(warning.without_severity()), event="file")  # noqa: G010
        daemon.log.info(
            "reloaded: {summary}",
            summary=summary, endpoints=words.counts(done), settings=bool(done.settings), event="reloaded",
        )  # fmt: skip
        return _as_json(done)

    def _refusal(self, error: BaseException) -> Refused:
        if self._turnstile.closed:
            return _stops()  # which is the reason, whatever the cancelled step says
        if isinstance(error, Refused):
            return error
        if isinstance(error, SockdError):
            return Refused(os.EX_TEMPFAIL, str(error))
        self._daemon.log.failure("the reload failed", Failure(error, type(error), error.__traceback__))
        return Refused(os.EX_SOFTWARE, f"the reload failed: {describe(error)}")

    async def _reconcile(self, changes: Changes) -> Changes:
        """Make the changes, and return them as they were made."""
        daemon, plan = self._daemon, changes.new
        reconciliation = Reconciliation(
            daemon.by_name, changes, daemon.around, stopping=lambda: self._turnstile.closed
        )
        await reconciliation.prepare()
        try:
            daemon.controls.prepare(changes)
        except BaseException:
            await reconciliation.undo()
            raise
        daemon.plan = plan
        reconciliation.commit(plan.drain)
        daemon.by_name = reconciliation.endpoints
        for endpoint, listener in reconciliation.opened:
            log_listening(daemon.log.info, endpoint, listener)
        for endpoint in reconciliation.gone:
            daemon.see_off(endpoint)
        daemon.controls.commit(plan)
        daemon.changed_settings(changes)
        daemon.expiry.follow(plan)
        daemon.log_unclaimed()
        return reconciliation.done


def log_refused(log: Logger, what: str, refused: Refused) -> None:
    """Log why something that was asked for, like a reload, wasn't done."""
    for problem in refused.problems[:MAX_LOGGED_PROBLEMS]:
        log.error("{what} refused: {problem}", what=what, problem=problem, event=f"{what} refused")


def _stops() -> Refused:
    return Refused(os.EX_UNAVAILABLE, "the daemon is stopping")


def _refused_by_stop(failure: Failure) -> Failure:
    """The reason for a caller whose reload was never begun."""
    return Failure(_stops()) if failure.check(CancelledError) else failure


def _as_json(changes: Changes) -> Report:
    return {
        "changes": words.as_json(changes),
        "warnings": [str(warning) for warning in changes.new.warnings],
    }
