"""The same work on many recordings, in order, on as many processors as it is worth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any


def in_parallel(
    work: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]], jobs: int = 2, worth: int = 200
) -> Iterator[Any]:
    """Yield the results of calls, in order, as they come.

    Parameters
    ----------
    work : sequence of (function, arguments)
        Picklable; none may depend on another.
    jobs : int
        Processes; with one, everything happens in this one.
    worth : int
        Fewer calls are done sooner than other processes have imported what they need.
    """
    if jobs == 1 or len(work) < worth:
        yield from (function(*arguments) for function, arguments in work)
        return
    from joblib import Parallel, delayed

    parallel = Parallel(n_jobs=jobs, return_as="generator")
    yield from parallel(delayed(function)(*arguments) for function, arguments in work)
