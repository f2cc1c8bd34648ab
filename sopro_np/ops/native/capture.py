"""Capture and replay, as a CUDA graph: a step's kernel calls are kept, and replayed with other numbers and states.

A step that comes again with arrays of the same shapes is the same list of calls. The first time it runs through the
layers, the second time it does so while the list is kept, from then on one native call does the whole step. The
layers stay the only description of the model.

Three things may differ between two replays: *inputs* are copied to where the first ones lay; *states* are arrays that
the step reads and changes in place: every field that pointed into one points into its successor; *numbers* (positions,
lengths) stand in fields as themselves, or times a constant plus a constant.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NoReturn

import numpy as np

from sopro_np import precision
from sopro_np.errors import OpsError
from sopro_np.ops.arrays import NONE, Arrays
from sopro_np.ops.native.arena import Arena
from sopro_np.ops.native.commands import CommandList
from sopro_np.ops.native.launcher import LAUNCHER
from sopro_np.ops.native.threads import threads

Step = Callable[..., np.ndarray]
MOST_GRAPHS = 192  # of one thread, 20 to 60 KB each; the one that was not used for longest goes first


class CapturedArray(np.ndarray):
    """An array inside a captured step: arithmetic that goes around the operations would be lost, so it is refused."""

    def __setitem__(self, key: Any, value: Any) -> None:
        raise OpsError("an assignment inside a captured step: use an operation of sopro_np.ops")

    def copy(self, order: Any = "C") -> Any:
        raise OpsError("a copy inside a captured step: use an operation of sopro_np.ops")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **more: Any) -> Any:
        raise OpsError(f"numpy.{ufunc.__name__} inside a captured step: use an operation of sopro_np.ops")


def _refused(self: Any, *_: Any) -> NoReturn:
    raise OpsError("a captured step must not decide by a number that is another one next time")


class Varying(int):
    """A number of a captured step: factor * numbers[slot] + offset; never more than `most`."""

    slot: int
    most: int
    factor: int
    offset: int

    @classmethod
    def of(cls, value: int, slot: int, most: int, factor: int = 1, offset: int = 0) -> Varying:
        number = cls(value)
        number.slot, number.most, number.factor, number.offset = slot, most, factor, offset
        return number

    def __add__(self, other: int) -> Varying:
        return Varying.of(int(self) + other, self.slot, self.most + other, self.factor, self.offset + other)

    def __mul__(self, other: int) -> Varying:
        return Varying.of(int(self) * other, self.slot, self.most * other, self.factor * other, self.offset * other)

    __radd__, __rmul__ = __add__, __mul__
    __sub__ = __rsub__ = __neg__ = __floordiv__ = __rfloordiv__ = __mod__ = __truediv__ = _refused
    __lt__ = __le__ = __gt__ = __ge__ = __bool__ = _refused


def most_of(number: int) -> int:
    """The largest value that a number of a step may ever have."""
    return number.most if isinstance(number, Varying) else number


class CapturedGraph:
    """One step's command list with the memory it computes in. It belongs to the thread that captured it."""

    def __init__(
        self,
        arena: Arena,
        function: Step,
        inputs: Sequence[np.ndarray],
        state: Arrays,
        numbers: Sequence[tuple[int, int]],
    ) -> None:
        """`arena`: of all captured steps of a thread. One replay is over before another begins, so they share it."""
        self._arena, self._commands = arena, CommandList(1 << 15)
        self._held: list[np.ndarray] = []  # arrays that calls refer to
        self._inputs = [np.array(a, order="C") for a in inputs]
        self._most = [most for _, most in numbers]
        self._varying: list[tuple[int, int, int, int]] = []  # word, slot, factor, offset
        varying = [Varying.of(value, slot, most) for slot, (value, most) in enumerate(numbers)]
        with LAUNCHER.capture_into(self._commands, arena, CapturedArray, self._note, self._held):
            result = function(*(a.view(CapturedArray) for a in self._inputs), *varying)
        ours = {id(a) for a in state.arrays}  # which must not live as long as the graph
        self._held = [a for a in self._held if id(a) not in ours]
        self.result = result.view(np.ndarray)
        table = np.array(self._varying, np.int64).reshape(-1, 4).T
        self._number_words, self._slots, self._factors, self._constants = table
        # A place in a state that depends on a number: its constant part is the pointer.
        self._commands.blocks[self._number_words] = self._constants
        self._words, self._which, self._offsets = _pointers(self._commands, state)
        self._bound: weakref.ref[Arrays] | None = None  # the state that the fields point into now
        self._base = self._constants  # of the fields that depend on numbers, with the pointers of that state

    def _note(self, first: int, fields: tuple[int, ...]) -> None:
        for i, value in enumerate(fields, first + 1):  # the first word of a block counts its pieces
            if isinstance(value, Varying):
                self._varying.append((i, value.slot, value.factor, value.offset))

    def __call__(self, inputs: Sequence[np.ndarray], state: Arrays, numbers: Sequence[tuple[int, int]]) -> np.ndarray:
        """The step once more. Shapes are those of the capture: whoever looks a graph up sees to it."""
        for mine, given in zip(self._inputs, inputs, strict=True):
            mine[...] = given
        if self._bound is None or self._bound() is not state:
            self._bind(state)
        if numbers:
            values = [value for value, _ in numbers]
            if any(not 0 <= value <= most for value, most in zip(values, self._most, strict=True)):
                raise OpsError(f"a captured step got {values}, the most are {self._most}")
            moved = np.array(values, np.int64)[self._slots] * self._factors
            self._commands.blocks[self._number_words] = self._base + moved
        self._commands.run(LAUNCHER.kernels)
        return self.result.copy()

    def _bind(self, state: Arrays) -> None:
        """Let all fields that point into a state point into this one."""
        blocks = self._commands.blocks
        blocks[self._number_words] = self._constants
        blocks[self._words] = state.places[self._which] + self._offsets
        self._base = blocks[self._number_words]
        self._bound = weakref.ref(state)


def _pointers(commands: CommandList, state: Arrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fields that point into a state's arrays -> (word of the blocks, which array, offset in it)."""
    words = commands.blocks[: commands.used // 8]
    starts = state.places
    order = np.argsort(starts)
    if not len(order):
        return (np.zeros(0, np.int64),) * 3
    which = order[np.searchsorted(starts[order], words, side="right") - 1]
    sizes = np.array([a.nbytes for a in state.arrays], np.int64)
    offsets = words - starts[which]
    found = np.flatnonzero((offsets >= 0) & (offsets < sizes[which]))
    return found, which[found], offsets[found]


class ThreadGraphs:
    """Of one thread. known: key -> (what must live as long as the key does, the graph once there is one)."""

    def __init__(self) -> None:
        self.arena = Arena()
        self.known: OrderedDict[Any, tuple[Any, CapturedGraph | None]] = OrderedDict()


class Graphs:
    """Captured steps, each thread's own."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Give back all captured steps, of every thread."""
        self._local = threading.local()

    @property
    def mine(self) -> ThreadGraphs:
        """Of this thread."""
        if not hasattr(self._local, "graphs"):
            self._local.graphs = ThreadGraphs()
        return self._local.graphs


_graphs: ContextVar[Graphs | None] = ContextVar("sopro_np_graphs", default=None)


@contextmanager
def capturing(graphs: Graphs) -> Iterator[None]:
    """Steps inside this block are captured there."""
    token = _graphs.set(graphs)
    try:
        yield
    finally:
        _graphs.reset(token)


def replay(
    owner: Any,
    name: str,
    function: Step,
    inputs: Sequence[np.ndarray],
    state: Arrays = NONE,
    numbers: Sequence[tuple[int, int]] = (),
) -> np.ndarray:
    """function(*inputs, *numbers): run, captured or replayed, as it comes the first, second or a later time."""
    graphs = _graphs.get()
    if graphs is None or LAUNCHER.capturing:
        return function(*inputs, *(value for value, _ in numbers))
    mine = graphs.mine
    known = mine.known
    shapes = tuple((a.shape, a.dtype.char) for a in inputs)
    key = id(owner), name, shapes, state.kind, tuple(most for _, most in numbers), threads(), precision.current()
    if key not in known:
        known[key] = owner, None
        if len(known) > MOST_GRAPHS:
            known.popitem(last=False)
        return function(*inputs, *(value for value, _ in numbers))
    known.move_to_end(key)
    graph = known[key][1]
    if graph is None:
        graph = CapturedGraph(mine.arena, function, inputs, state, numbers)
        known[key] = owner, graph
        return graph.result.copy()
    return graph(inputs, state, numbers)
