"""``python3 -m shop api|worker``."""

import signal
import sys

from shop import api, misbehaviour, settings, worker


def main() -> None:
    """Run one of the two parts until SIGTERM."""
    # Process 1 of a container is not ended by a signal it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    misbehaviour.start()
    part = sys.argv[1] if len(sys.argv) > 1 else "api"
    if part == "worker":
        worker.work(settings.load())
    elif part == "api":
        api.serve(settings.load())
    else:
        sys.exit(f"unknown part: {part}")


if __name__ == "__main__":
    main()
