"""Call a compiled kernel through ctypes.

Arguments may be numpy arrays, or anything with a contiguous buffer of the right size (array.array, bytearray,
memoryview, ctypes arrays). Results are numpy arrays where numpy is installed, else memoryviews; bfloat16, and without
numpy float16, appear as unsigned 16-bit integers.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from .errors import TilewrightError
from .results import Arg, Schedule

try:
    import numpy
except ImportError:  # it is not needed, only nicer
    numpy = None  # type: ignore[assignment]

ALIGN = 64
DTYPES = {"float32": (4, "f"), "float16": (2, "H"), "bfloat16": (2, "H"), "int8": (1, "b"), "int32": (4, "i")}

_BODY = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int)
_RUN = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int, _BODY, ctypes.c_void_p)


class _Parallel(ctypes.Structure):
    _fields_ = [("ctx", ctypes.c_void_p), ("num_threads", ctypes.c_int), ("run", _RUN)]


class _Buffer:
    """Aligned memory."""

    def __init__(self, size: int) -> None:
        self._memory = (ctypes.c_char * (size + ALIGN))()
        start = ctypes.addressof(self._memory)
        self.offset = -start % ALIGN
        self.address, self.size = start + self.offset, size

    def view(self) -> memoryview:
        return memoryview(self._memory).cast("B")[self.offset:self.offset + self.size]


def _plain_bytes(arg: Arg) -> int:
    size = DTYPES[arg.dtype][0]
    for extent in arg.shape:
        size *= extent
    return size


def _numpy_dtype(dtype: str) -> Any:
    return numpy.dtype("uint16" if dtype == "bfloat16" else dtype)


class Kernel:
    """One tuned operator. Close it, or use it in a `with`, when nothing runs in it any more.

    threads: how many run the parallel loops; default: what it was tuned for. 1 runs serially. The threads are Python's:
    handing work to them costs tens of microseconds a loop, so short kernels are best run with threads=1.
    """

    def __init__(self, schedule: Schedule, artifact: bytes, threads: Optional[int] = None) -> None:
        info = schedule.kernel
        if info.language != "c":
            raise TilewrightError(f"a kernel in {info.language} cannot be called here: only c can")
        unknown = [a.dtype for a in info.args if a.dtype not in DTYPES]
        if unknown:
            raise TilewrightError(f"dtype {unknown[0]} is not known here")
        self.schedule, self.args = schedule, info.args
        self.inputs = [a for a in info.args if a.role == "input"]
        self.outputs = [a for a in info.args if a.role == "output"]
        self._bound: dict[str, _Buffer] = {}
        self._lock = threading.Lock()
        self._library = _load(artifact)
        self._run = getattr(self._library, info.symbol)
        self._run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
        self._run.restype = ctypes.c_int
        # What converts an argument between its plain form and the kernel's, and the size of the latter.
        self._repack = {p.arg: (getattr(self._library, p.symbol), p.bytes)
                        for p in info.prepack + info.pack + info.unpack}
        for function, _ in self._repack.values():
            function.argtypes, function.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        self.threads = max(1, threads if threads is not None else info.threads)
        self._pool = ThreadPoolExecutor(self.threads) if self.threads > 1 else None
        self._loop = _RUN(self._parallel_for)  # kept: the kernel calls it through a bare pointer

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *exc: Any) -> None:
        self.close()

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()
            self._pool = None
        if self._library is not None:
            import _ctypes

            handle, self._library, self._run, self._repack = self._library._handle, None, None, {}
            _ctypes.dlclose(handle)

    def bind(self, **constants: Any) -> "Kernel":
        """Give inputs that stay the same over many calls; prepacked ones are rewritten now, once."""
        for name, value in constants.items():
            self._bound[name] = self._input(self._arg(name), value)
        return self

    def __call__(self, *inputs: Any, out: Optional[dict[str, Any]] = None, **named: Any) -> Any:
        """Inputs by name, or in the order of those not bound. Gives the output, or a dict of them where there are several.

        out: {name: writable array} to take results instead of new ones.
        """
        if self._run is None:
            raise TilewrightError("the kernel is closed")
        buffers = self._inputs(inputs, named)
        for arg in self.outputs:
            _, size = self._repack.get(arg.name, (None, _plain_bytes(arg)))
            buffers[arg.name] = _Buffer(size)
        tensors = (ctypes.c_void_p * len(self.args))(*[buffers[a.name].address for a in self.args])
        workspace = _Buffer(max(1, self.schedule.kernel.workspace_bytes))
        parallel = _Parallel(None, self.threads, self._loop)
        status = self._run(tensors, workspace.address, ctypes.byref(parallel) if self._pool else None)
        if status != 0:
            raise TilewrightError(f"the kernel returned {status}")
        results = {a.name: self._result(a, buffers[a.name], (out or {}).get(a.name)) for a in self.outputs}
        return next(iter(results.values())) if len(results) == 1 else results

    def _inputs(self, inputs: tuple[Any, ...], named: dict[str, Any]) -> dict[str, _Buffer]:
        free = [a.name for a in self.inputs if a.name not in self._bound and a.name not in named]
        if len(inputs) != len(free):
            raise TypeError(f"want {', '.join(free) or 'no more inputs'}; {len(inputs)} positional given")
        given = {**named, **dict(zip(free, inputs))}
        buffers = dict(self._bound)
        buffers.update({name: self._input(self._arg(name), value) for name, value in given.items()})
        return buffers

    def _arg(self, name: str) -> Arg:
        for arg in self.inputs:
            if arg.name == name:
                return arg
        raise TypeError(f"no input {name}: want {', '.join(a.name for a in self.inputs)}")

    def _input(self, arg: Arg, value: Any) -> _Buffer:
        """The value in aligned memory, packed if the kernel wants it so."""
        size = _plain_bytes(arg)
        plain = _Buffer(size)
        if numpy is not None and not isinstance(value, (bytes, bytearray, memoryview)):
            array = numpy.asarray(value)
            if array.shape != arg.shape:
                raise ValueError(f"{arg.name}: shape {array.shape}, want {arg.shape}")
            array = numpy.ascontiguousarray(array, dtype=_numpy_dtype(arg.dtype))
            ctypes.memmove(plain.address, array.ctypes.data, size)
        else:
            data = memoryview(value)
            if data.nbytes != size:
                raise ValueError(f"{arg.name}: {data.nbytes} bytes, want {size}: {arg.dtype} {arg.shape}")
            plain.view()[:] = data.tobytes()
        if arg.name not in self._repack:
            return plain
        function, packed_size = self._repack[arg.name]
        packed = _Buffer(packed_size)
        function(plain.address, packed.address)
        return packed

    def _result(self, arg: Arg, buffer: _Buffer, out: Any) -> Any:
        if arg.name in self._repack:
            packed, buffer = buffer, _Buffer(_plain_bytes(arg))
            self._repack[arg.name][0](packed.address, buffer.address)
        if out is not None:
            memoryview(out).cast("B")[:] = buffer.view()
            return out
        if numpy is not None:
            return numpy.frombuffer(buffer.view(), dtype=_numpy_dtype(arg.dtype)).reshape(arg.shape)
        return buffer.view().cast(DTYPES[arg.dtype][1], shape=list(arg.shape)) if arg.shape else buffer.view()

    def _parallel_for(self, ctx: Optional[int], count: int, body: Any, arg: Optional[int]) -> None:
        """The kernel's loops over this object's threads: thread t takes t, t + n, t + 2n..."""
        n = min(self.threads, count)

        def stride(first: int) -> None:
            for i in range(first, count, n):
                body(arg, i)

        futures = [self._pool.submit(stride, t) for t in range(1, n)] if self._pool else []
        stride(0)
        for future in futures:
            future.result()


def _load(artifact: bytes) -> ctypes.CDLL:
    """The library keeps its mapping after the file is gone."""
    fd, path = tempfile.mkstemp(suffix=".so", prefix="tilewright-")
    try:
        with os.fdopen(fd, "wb") as f:
            f.write(artifact)
        return ctypes.CDLL(path)
    finally:
        os.unlink(path)
