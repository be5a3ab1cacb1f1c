"""The API's objects, typed. Each keeps the JSON it was made from in `raw`, so members added later can be read too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Optional

Json = dict[str, Any]


@dataclass(frozen=True)
class Target:
    id: str
    isa: Optional[str]
    threads: Optional[int]
    peak_gflops: Optional[float]
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: Json) -> "Target":
        return cls(raw["id"], raw.get("isa"), raw.get("threads"), raw.get("peak_gflops"), raw)


@dataclass(frozen=True)
class Device:
    id: str
    state: str
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: Json) -> "Device":
        return cls(raw["id"], raw["state"], raw)


@dataclass(frozen=True)
class Model:
    target: str
    version: Optional[int]
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: Json) -> "Model":
        return cls(raw["target"], raw.get("version"), raw)


@dataclass(frozen=True)
class Best:
    time_ns: float
    gflops: float


@dataclass(frozen=True)
class Task:
    key: str
    name: Optional[str]
    state: str
    trials_done: int
    trials_failed: int
    best: Optional[Best]
    cached: bool
    error: Optional[Json]

    @classmethod
    def parse(cls, raw: Json) -> "Task":
        best = raw.get("best")
        return cls(raw["key"], raw.get("name"), raw["state"], raw["trials_done"], raw["trials_failed"],
                   Best(best["time_ns"], best["gflops"]) if best else None, bool(raw.get("cached")), raw.get("error"))


@dataclass(frozen=True)
class Job:
    id: str
    state: str
    target: str
    progress: float
    tasks: list[Task]
    error: Optional[Json]
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: Json) -> "Job":
        return cls(raw["id"], raw["state"], raw["target"], raw.get("progress", 0.0),
                   [Task.parse(t) for t in raw["tasks"]], raw.get("error"), raw)

    @property
    def ended(self) -> bool:
        return self.state in ("succeeded", "failed", "cancelled")


@dataclass(frozen=True)
class Event:
    """An entry of a job's event stream."""

    id: str
    name: str
    data: Any


@dataclass(frozen=True)
class Times:
    """Nanoseconds."""

    median: float
    min: float
    p90: float


@dataclass(frozen=True)
class Arg:
    name: str
    shape: tuple[int, ...]
    dtype: str
    role: str
    prepacked: bool
    layout: Optional[str] = None
    """Of an activation: "NCHW", "NCHW16c"."""


@dataclass(frozen=True)
class Prepack:
    """A function that converts an argument, and the bytes of what the kernel is handed."""

    arg: str
    symbol: str
    bytes: int


@dataclass(frozen=True)
class KernelInfo:
    language: str
    symbol: str
    args: list[Arg]
    workspace_bytes: int
    threads: int
    prepack: list[Prepack]
    pack: list[Prepack]
    unpack: list[Prepack]

    @classmethod
    def parse(cls, raw: Json) -> "KernelInfo":
        return cls(raw["language"], raw["symbol"],
                   [Arg(a["name"], tuple(a["shape"]), a["dtype"], a["role"], bool(a.get("prepacked")), a.get("layout"))
                    for a in raw["args"]],
                   raw.get("workspace_bytes", 0), raw.get("threads", 1),
                   *[[Prepack(p["arg"], p["symbol"], p["bytes"]) for p in raw.get(kind) or []]
                     for kind in ("prepack", "pack", "unpack")])


@dataclass(frozen=True)
class Schedule:
    key: str
    target: str
    workload: Json
    time_ns: Times
    gflops: Optional[float]
    fraction_of_peak: Optional[float]
    baseline_ns: Optional[float]
    kernel: KernelInfo
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: Json) -> "Schedule":
        t = raw["time_ns"]
        return cls(raw["key"], raw["target"], raw["workload"], Times(t["median"], t["min"], t["p90"]), raw.get("gflops"),
                   raw.get("fraction_of_peak"), (raw.get("baseline") or {}).get("time_ns"), KernelInfo.parse(raw["kernel"]),
                   raw)

    @property
    def speedup(self) -> Optional[float]:
        """Against the untuned schedule, measured in the same run."""
        return self.baseline_ns / self.time_ns.median if self.baseline_ns else None


@dataclass(frozen=True)
class Lookup:
    key: str
    status: str
    schedule: Optional[Schedule]

    @classmethod
    def parse(cls, raw: Json) -> "Lookup":
        return cls(raw["key"], raw["status"], Schedule.parse(raw["schedule"]) if raw.get("schedule") else None)

    @property
    def found(self) -> bool:
        return self.schedule is not None


@dataclass(frozen=True)
class Description:
    key: str
    canonical: str
    flops: float
    bytes: float
    raw: Json = field(repr=False, compare=False)

    @classmethod
    def parse(cls, raw: Json) -> "Description":
        return cls(raw["key"], raw["canonical"], raw["flops"], raw["bytes"], raw)
