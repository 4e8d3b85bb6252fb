"""How long a call takes: by the host's clock, or by events on a GPU."""

import gc
import time


class HostClock:
    """For calls that are done when they return."""

    def seconds(self, call, calls):
        """Seconds per call, over so many calls; what they overwrite stays in the caches."""
        gc.disable()
        try:
            start = time.perf_counter()
            for _ in range(calls):
                call()
            return (time.perf_counter() - start) / calls
        finally:
            gc.enable()


class EventClock:
    """For calls that only enqueue work on a GPU.

    Before each call a large block of memory is written, so that every call finds the second-level cache without its
    operands, as between the layers of a network. It takes the GPU longer than the host needs to enqueue a call:
    what is measured is the work on the GPU, not the launch.

    Args:
        event: Makes an event, which has record().
        milliseconds: Function of two events that have happened: the time between them.
        flush: Enqueues writing of the large block.
        synchronize: Waits for all that is enqueued.
    """

    def __init__(self, event, milliseconds, flush, synchronize):
        self._event, self._milliseconds = event, milliseconds
        self._flush, self._synchronize = flush, synchronize

    def seconds(self, call, calls):
        """Seconds per call, over so many calls, each with a cold cache."""
        pairs = [(self._event(), self._event()) for _ in range(calls)]
        for start, end in pairs:
            self._flush()
            start.record()
            call()
            end.record()
        self._synchronize()
        return sum(self._milliseconds(start, end) for start, end in pairs) / 1e3 / calls
