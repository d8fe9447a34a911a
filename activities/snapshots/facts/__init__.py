"""Facts about what a dump holds, read from its stream: what a restored snapshot is proved by.

facts = observer_of(store, part.key)
await seal_into(..., observed(output, facts), ...)       # while a snapshot is taken
recorded = await asyncio.to_thread(facts.facts)

await facts_of(opened(...), observer_of(...))            # an archive that is in the store
await facts_of(output, observer_of(...))                 # a dump of what was restored
"""

from activities.snapshots.facts.observer import Observer
from activities.snapshots.facts.streams import facts_of, observed, observer_of, readable
from activities.snapshots.reading import ContentBroken

__all__ = ["ContentBroken", "Observer", "facts_of", "observed", "observer_of", "readable"]
