"""Runs a graph of steps: each starts the moment its own dependencies hold, the first failure ends all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from temporalio import workflow

from workflows.domain.operations import PlannedStep

RunStep = Callable[[PlannedStep], Awaitable[None]]


async def _stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel what still runs and wait for it. In order: it is the order of commands in history."""
    for task in tasks:
        if not task.done():
            task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def run_graph(steps: Sequence[PlannedStep], run: RunStep) -> None:
    """Run every step of `steps` by `run`, in the order that `depends_on` demands and no stricter.

    `steps` must be in topological order. When one raises, the others are cancelled and awaited before its
    exception is raised, so that nothing runs any more when this returns. A cancel does the same.
    """
    tasks: dict[str, asyncio.Task[None]] = {}

    async def after_dependencies(step: PlannedStep) -> None:
        for name in step.depends_on:
            # Shielded: a dependant that is cancelled must not cancel what others wait for too.
            await asyncio.shield(tasks[name])
        await run(step)

    for step in steps:
        tasks[step.name] = asyncio.create_task(after_dependencies(step), name=step.name)
    pending = list(tasks.values())
    try:
        await workflow.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
    except asyncio.CancelledError:
        await _stop(pending)
        raise
    await _stop(pending)
    for task in pending:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
