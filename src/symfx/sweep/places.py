"""Where the models of a sweep run: processes of this machine, or a Dask cluster."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from symfx._version import __version__
from symfx.errors import SpecError
from symfx.extras import importing
from symfx.sweep.child import kill_all, run_job
from symfx.sweep.jobs import Job

__all__ = ["Cluster", "LocalProcesses", "Place"]

#: The seconds that a cluster may take to answer.
_PATIENCE = 10
#: Called with the result as data, or with an error of the place.
Done = Callable[[dict[str, Any] | None, BaseException | None], None]


class Place(Protocol):
    """Somewhere models can run."""

    @property
    def slots(self) -> int:
        """How many models it takes at a time now; 0 if it is lost."""

    def submit(self, job: Job, done: Done) -> None:
        """Run a job, and call a function from any thread when it has ended."""

    def close(self, *, killed: bool) -> None:
        """Leave the place; `killed` ends what still runs."""


class LocalProcesses:
    """Processes of this machine.

    Args:
        count: how many run at a time.
    """

    def __init__(self, count: int) -> None:
        self.slots = count
        self._threads = max(1, (os.cpu_count() or 1) // count)
        self._pool = ThreadPoolExecutor(count, "symfx sweep")

    def submit(self, job: Job, done: Done) -> None:
        """Run a job; see `Place`."""
        future = self._pool.submit(run_job, job.to_json(), self._threads)
        future.add_done_callback(lambda f: done(*_outcome(f)))

    def close(self, *, killed: bool) -> None:
        """Leave the place; see `Place`."""
        if killed:
            kill_all()
        self._pool.shutdown(wait=not killed, cancel_futures=True)


class Cluster:
    """An existing Dask cluster, used by its own client.

    Args:
        address: of its scheduler, such as ``tcp://host:8786``.

    Raises:
        MissingPackageError: the extra ``dask`` is not installed.
        SpecError: there is no scheduler at the address, or its workers have no symfx.
    """

    def __init__(self, address: str) -> None:
        with importing("dask", "symfx sweep --dask"):
            import distributed
        client: Any = distributed.Client
        try:
            self._client: Any = client(address, timeout=_PATIENCE, set_as_default=False)
        except (OSError, ValueError, TimeoutError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SpecError(
                f"there is no Dask scheduler at {address}: {first:.200}",
                where="--dask",
                fix="start one with `dask scheduler`, and give its address",
            ) from None
        self.address = address
        try:
            self._client.wait_for_workers(1, timeout=_PATIENCE)
            releases = set(self._client.run(own_release).values())
        except Exception as error:  # noqa: BLE001 - a worker may fail in any way
            self._client.close(timeout=5)
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise SpecError(
                f"the workers of the Dask cluster at {address} cannot run models: {first:.200}",
                where="--dask",
                fix="start workers there, with symfx installed for each of them",
            ) from None
        if releases != {own_release()}:
            self._client.close(timeout=5)
            raise SpecError(
                f"the workers at {address} have symfx {', '.join(sorted(releases))}, and this is "
                f"symfx {own_release()}",
                where="--dask",
                fix="install one release of symfx everywhere",
            )

    @property
    def slots(self) -> int:
        """How many models the workers take at a time; see `Place`."""
        if self._client.status != "running":
            return 0
        return sum(self._client.nthreads().values())

    def submit(self, job: Job, done: Done) -> None:
        """Run a job; Dask gives it to another worker if its worker is lost. See `Place`."""
        # Equal jobs of two sweeps are two runs.
        future = self._client.submit(run_job, job.to_json(), pure=False)
        future.add_done_callback(lambda f: done(*_outcome(f)))

    def close(self, *, killed: bool) -> None:
        """Leave the cluster, which goes on; see `Place`."""
        self._client.close(timeout=5)


def own_release() -> str:
    """The release of symfx; a worker of a cluster is asked for its own."""
    return __version__


def _outcome(future: Any) -> tuple[dict[str, Any] | None, BaseException | None]:
    if future.cancelled():
        return None, RuntimeError("the run was canceled, or its cluster was lost")
    error = future.exception()
    return (None, error) if error is not None else (future.result(), None)
