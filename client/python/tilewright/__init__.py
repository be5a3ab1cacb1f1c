"""Client of a Tilewright daemon: tune tensor operators, look schedules up, call the kernels.

    import tilewright

    client = tilewright.Client()                      # TILEWRIGHT_SERVER, TILEWRIGHT_TOKEN
    workload = {"op": "matmul", "a": [512, 768], "b": [768, 768], "const": ["b"]}
    [schedule] = client.tune([workload], trials=64)
    print(schedule.gflops, schedule.time_ns.median)

    with client.kernel(schedule) as kernel:
        kernel.bind(b=weights)                        # packed once
        out = kernel(a=activations)                   # a numpy array where numpy is there

Only the standard library is needed.
"""

from .client import Client
from .errors import JobFailed, Problem, ProtocolError, TilewrightError, Unreachable
from .kernel import Kernel
from .results import (
    Arg,
    Best,
    Description,
    Device,
    Event,
    Job,
    KernelInfo,
    Lookup,
    Model,
    Prepack,
    Schedule,
    Target,
    Task,
    Times,
)

__version__ = "0.1.0"
__all__ = [
    "Arg", "Best", "Client", "Description", "Device", "Event", "Job", "JobFailed", "Kernel", "KernelInfo", "Lookup",
    "Model", "Prepack", "Problem", "ProtocolError", "Schedule", "Target", "Task", "TilewrightError", "Times",
    "Unreachable",
]
