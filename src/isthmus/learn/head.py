"""The small model that a device trains on top of frozen features: layers from a closed list, gradients derived by hand.

    layer_norm   out = gain (x - mean) / sqrt(variance + 1e-5) + offset      parameters: gain, offset
    dense        out = x W + b                                               parameters: W by rows (inputs, outputs), then b
    relu, tanh   of every value
    embedding    the first value is the number of a row (rounded down, kept within the table); it is taken away and the row
                 put at the end                                              parameters: the table by rows
    sigmoid      closes a head with one output; softmax one with two or more

Losses: `bce` of a head that sigmoid closes, labels 0 to 1; `ce` of one that softmax closes, labels 0, 1, 2 ...; `pairwise`, of
one output: log(1 + exp(b - a)) for two examples of a mini-batch, a the value (before a sigmoid) of that with the higher label.
A mini-batch counts the weighted mean of the loss of its examples, a pair weighing the product of its two.

A model is one flat vector of float32, layer after layer; training runs in float64 and rounds at its end. All arrays may have
leading axes, one device a place: `train_many` gives what `train` gives for each of them. Only additions, products, exp, tanh, log
and square roots are used, so that other languages reach the same numbers: tests/vectors/head.json, to 1e-5.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod, sqrt
from typing import Any, Final, Literal, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

from isthmus.base.errors import ConfigError, LocalError
from isthmus.base.randomness import Rng

Floats = NDArray[np.floating[Any]]
Model = NDArray[np.float32]
Written = str | Mapping[str, int | Sequence[int]]
"""A layer as a task file has it: relu, {dense: 64}, {embedding: [100, 8]}."""

LAYERS_MOST: Final = 32
PARAMETERS_MOST: Final = 1_000_000
LOSSES: Final = ("bce", "ce", "pairwise")
_NORM_FLOOR: Final = 1e-5
_ADAGRAD_FLOOR: Final = 1e-8
_HALF_PAGE: Final = 512


@dataclass(frozen=True, slots=True)
class Settings:
    """Of the training on one device. `proximal` pulls towards the model that the training began with."""

    epochs: int = 3
    batch: int = 16
    learning_rate: float = 0.05
    optimiser: Literal["sgd", "adagrad"] = "sgd"
    proximal: float = 0.0


@dataclass(slots=True)
class Course:
    """Where a training stands: enough to go on with it. `squares` is adagrad's; `steps` mini-batches are done."""

    flat: NDArray[np.float64]
    squares: NDArray[np.float64] | None
    steps: int
    steps_in_all: int

    @property
    def finished(self) -> bool:
        return self.steps >= self.steps_in_all

    @property
    def model(self) -> Model:
        return self.flat.astype(np.float32)

    def to_bytes(self) -> bytes:
        parts = [self.flat] if self.squares is None else [self.flat, self.squares]
        return _COURSE.pack(self.steps, self.steps_in_all, len(parts)) + b"".join(
            part.astype("<f8").tobytes() for part in parts
        )

    @classmethod
    def from_bytes(cls, body: bytes) -> Course:
        """Raises LocalError `checkpoint_damaged`."""
        if len(body) >= _COURSE.size:
            steps, in_all, count = _COURSE.unpack_from(body)
            values = body[_COURSE.size :]
            if count in (1, 2) and len(values) % (8 * count) == 0:
                parts = np.frombuffer(values, dtype="<f8").astype(np.float64).reshape(count, -1)
                return cls(parts[0], parts[1] if count == 2 else None, steps, in_all)
        raise LocalError("checkpoint_damaged", path="a training")


_COURSE = struct.Struct("<QQB")


class _Layer(Protocol):
    """`params` are the layer's own, `(..., size)`; values are `(..., rows, inputs)` and `(..., rows, outputs)`."""

    @property
    def size(self) -> int: ...

    @property
    def outputs(self) -> int: ...

    def init(self, rng: Rng, label: str) -> NDArray[np.float64]: ...

    def forward(self, params: Floats, x: Floats) -> tuple[Floats, tuple[Floats, ...]]:
        """The outputs, and what `backward` needs."""

    def backward(
        self, params: Floats, kept: tuple[Floats, ...], above: Floats, gradient: Floats, below: bool
    ) -> Floats | None:
        """Writes the gradient of the parameters; gives that of the inputs, if `below` wants it."""


@dataclass(frozen=True, slots=True)
class _Norm:
    inputs: int

    @property
    def size(self) -> int:
        return 2 * self.inputs

    @property
    def outputs(self) -> int:
        return self.inputs

    def init(self, rng: Rng, label: str) -> NDArray[np.float64]:
        return np.concatenate([np.ones(self.inputs), np.zeros(self.inputs)])

    def forward(self, params: Floats, x: Floats) -> tuple[Floats, tuple[Floats, ...]]:
        even = x - x.mean(axis=-1, keepdims=True)
        scale = 1 / np.sqrt(np.square(even).mean(axis=-1, keepdims=True) + x.dtype.type(_NORM_FLOOR))
        even *= scale
        gain, offset = params[..., None, : self.inputs], params[..., None, self.inputs :]
        return gain * even + offset, (even, scale)

    def backward(
        self, params: Floats, kept: tuple[Floats, ...], above: Floats, gradient: Floats, below: bool
    ) -> Floats | None:
        even, scale = kept
        gradient[..., : self.inputs] = (above * even).sum(axis=-2)
        gradient[..., self.inputs :] = above.sum(axis=-2)
        if not below:
            return None
        inner = above * params[..., None, : self.inputs]
        inner = (
            inner - inner.mean(axis=-1, keepdims=True) - even * (inner * even).mean(axis=-1, keepdims=True)
        )
        found: Floats = inner * scale
        return found


@dataclass(frozen=True, slots=True)
class _Dense:
    inputs: int
    outputs: int

    @property
    def size(self) -> int:
        return (self.inputs + 1) * self.outputs

    def weights(self, params: Floats) -> Floats:
        return params[..., : -self.outputs].reshape(*params.shape[:-1], self.inputs, self.outputs)

    def init(self, rng: Rng, label: str) -> NDArray[np.float64]:
        reach = sqrt(6 / (self.inputs + self.outputs))
        weights = (2 * rng.uniform(label, self.inputs * self.outputs) - 1) * reach
        return np.concatenate([weights, np.zeros(self.outputs)])

    def forward(self, params: Floats, x: Floats) -> tuple[Floats, tuple[Floats, ...]]:
        out = x @ self.weights(params)
        out += params[..., None, -self.outputs :]
        return out, (x,)

    def backward(
        self, params: Floats, kept: tuple[Floats, ...], above: Floats, gradient: Floats, below: bool
    ) -> Floats | None:
        (x,) = kept
        product = x.swapaxes(-1, -2) @ above
        gradient[..., : -self.outputs] = product.reshape(*product.shape[:-2], -1)
        gradient[..., -self.outputs :] = (np.ones((1, above.shape[-2]), above.dtype) @ above)[..., 0, :]
        return above @ self.weights(params).swapaxes(-1, -2) if below else None


@dataclass(frozen=True, slots=True)
class _Table:
    inputs: int
    rows: int
    columns: int

    @property
    def size(self) -> int:
        return self.rows * self.columns

    @property
    def outputs(self) -> int:
        return self.inputs - 1 + self.columns

    def init(self, rng: Rng, label: str) -> NDArray[np.float64]:
        return (2 * rng.uniform(label, self.size) - 1) * 0.05

    def forward(self, params: Floats, x: Floats) -> tuple[Floats, tuple[Floats, ...]]:
        chosen = np.clip(np.floor(x[..., 0]), 0, self.rows - 1)
        table = params.reshape(*params.shape[:-1], self.rows, self.columns)
        rows = np.take_along_axis(table, chosen.astype(np.int64)[..., None], axis=-2)
        return np.concatenate([x[..., 1:], rows], axis=-1), (chosen,)

    def backward(
        self, params: Floats, kept: tuple[Floats, ...], above: Floats, gradient: Floats, below: bool
    ) -> Floats | None:
        (chosen,) = kept
        is_row = (chosen[..., None, :] == np.arange(self.rows)[:, None]).astype(above.dtype)
        product = is_row @ above[..., self.inputs - 1 :]
        gradient[...] = product.reshape(*product.shape[:-2], -1)
        if not below:
            return None
        return np.concatenate([np.zeros_like(above[..., :1]), above[..., : self.inputs - 1]], axis=-1)


@dataclass(frozen=True, slots=True)
class _Each:
    """relu or tanh."""

    inputs: int
    tanh: bool
    size: int = 0

    @property
    def outputs(self) -> int:
        return self.inputs

    def init(self, rng: Rng, label: str) -> NDArray[np.float64]:
        return np.zeros(0)

    def forward(self, params: Floats, x: Floats) -> tuple[Floats, tuple[Floats, ...]]:
        out = np.tanh(x) if self.tanh else np.maximum(x, 0)
        return out, (out,)

    def backward(
        self, params: Floats, kept: tuple[Floats, ...], above: Floats, gradient: Floats, below: bool
    ) -> Floats | None:
        (out,) = kept
        return np.multiply(above, (1 - out * out) if self.tanh else (out > 0)) if below else None


@dataclass(frozen=True, slots=True)
class Head:
    """Made by `from_layers`. `size` counts its parameters, `outputs` its values for one example."""

    inputs: int
    outputs: int
    size: int
    loss: str
    closing: str
    """sigmoid, softmax or nothing."""
    _layers: tuple[tuple[int, _Layer], ...] = field(repr=False)

    # --- what it is made of ---

    @classmethod
    def from_layers(cls, layers: Sequence[Written], inputs: int, loss: str = "bce") -> Head:
        """A head over `inputs` values an example. Raises ConfigError `out_of_bounds` that names the layer."""
        if not 1 <= inputs <= PARAMETERS_MOST:
            raise _wrong("example.features", inputs, f"1 to {PARAMETERS_MOST} values")
        if not 1 <= len(layers) <= LAYERS_MOST:
            raise _wrong("model.layers", len(layers), f"1 to {LAYERS_MOST} layers")
        made: list[tuple[int, _Layer]] = []
        size, width, closing = 0, inputs, ""
        for i, layer in enumerate(layers):
            where = f"model.layers[{i}]"
            kind, sizes = _read(where, layer)
            if closing:
                raise _wrong(where, kind, f"nothing after {closing}")
            if kind in ("sigmoid", "softmax"):
                if (width == 1) != (kind == "sigmoid"):
                    raise _wrong(where, kind, "sigmoid after one output, softmax after two or more")
                closing = kind
                continue
            unit = _make(where, kind, sizes, width, all(isinstance(each, _Table) for _, each in made))
            made.append((size, unit))
            size, width = size + unit.size, unit.outputs
            if not size <= PARAMETERS_MOST:
                raise _wrong(where, size, f"at most {PARAMETERS_MOST} parameters in all")
        if size == 0:
            raise _wrong("model.layers", "no parameters", "at least one layer that learns")
        fits = {"bce": closing == "sigmoid", "ce": closing == "softmax", "pairwise": width == 1}
        if not fits.get(loss, False):
            raise _wrong("model.loss", loss, "bce after sigmoid, ce after softmax, pairwise after one output")
        return cls(inputs, width, size, loss, closing, tuple(made))

    def init(self, seed: bytes) -> Model:
        """The first model: uniform weights that follow from the seed (at least 16 bytes); biases are 0."""
        rng = Rng(seed, "head/init/")
        parts = [unit.init(rng, str(i)) for i, (_, unit) in enumerate(self._layers)]
        return np.concatenate(parts).astype(np.float32)

    # --- what it says ---

    def values(self, flat: Floats, x: Floats) -> Floats:
        """`(..., rows, outputs)` before the closing sigmoid or softmax."""
        return self._forward(flat, x)[0]

    def forward(self, flat: Floats, x: Floats) -> Floats:
        """`(..., rows, outputs)`: chances, or plain values where nothing closes the head."""
        return self.closed(self.values(flat, x))

    def closed(self, values: Floats) -> Floats:
        """Chances from values."""
        if self.closing == "softmax":
            return _softmax(values)
        return _sigmoid(values) if self.closing else values

    def hidden(self, flat: Floats, x: Floats) -> Floats:
        """What goes into the last layer, `(..., rows, width)`."""
        for at, unit in self._layers[:-1]:
            x, _ = unit.forward(flat[..., at : at + unit.size], x)
        return x

    @property
    def last(self) -> tuple[int, int]:
        """Where the parameters of the last layer begin, and how many values go into it. Raises ConfigError unless it is dense."""
        at, unit = self._layers[-1]
        if not isinstance(unit, _Dense):
            raise _wrong("model.layers", "no dense layer at the end", "dense before sigmoid or softmax")
        return at, unit.inputs

    def _forward(self, flat: Floats, x: Floats) -> tuple[Floats, list[tuple[Floats, ...]]]:
        kept = []
        for at, unit in self._layers:
            x, needed = unit.forward(flat[..., at : at + unit.size], x)
            kept.append(needed)
        return x, kept

    # --- how it learns ---

    def gradient(self, flat: Floats, x: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
        """Loss `(...)` and its gradient `(..., size)` of one mini-batch: x `(..., rows, inputs)`, y and weight `(..., rows)`."""
        values, kept = self._forward(flat, x)
        loss, above = self._loss(values, y, weight)
        gradient = np.empty((*above.shape[:-2], self.size), dtype=above.dtype)
        below: Floats | None = above
        for i in range(len(self._layers) - 1, -1, -1):
            at, unit = self._layers[i]
            assert below is not None
            place = slice(at, at + unit.size)
            below = unit.backward(flat[..., place], kept[i], below, gradient[..., place], i > 0)
        return loss, gradient

    def _loss(self, values: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
        if self.loss == "pairwise":
            return _pairwise(values[..., 0], y, weight)
        total = weight.sum(axis=-1, keepdims=True)
        share = weight / np.where(total > 0, total, 1)
        if self.loss == "ce":
            is_label = y[..., None] == np.arange(self.outputs, dtype=values.dtype)
            chances = _softmax(values)
            of_label = np.einsum("...c,...c->...", chances, is_label)
            logs = np.log(np.maximum(of_label, np.finfo(values.dtype).tiny))
            chances -= is_label
            chances *= share[..., None]
            return -(share * logs).sum(axis=-1), chances
        logit = values[..., 0]
        each = np.logaddexp(0, logit) - y * logit
        return (share * each).sum(axis=-1), ((_sigmoid(logit) - y) * share)[..., None]

    def train(
        self,
        flat: Floats,
        x: Floats,
        y: Floats,
        weight: Floats,
        settings: Settings,
        seed: bytes,
        correction: Floats | None = None,
        course: Course | None = None,
        stop: Callable[[Course], bool] = lambda course: False,
    ) -> Course:
        """Trains one device on its rows, in an order that follows from the seed; `stop` is asked after every mini-batch.

        `correction` is added to every gradient (SCAFFOLD: the server's control variate less the device's own). With `course`
        of an earlier call with the same arguments it goes on from there and ends with the same numbers.
        """
        start = np.asarray(flat, dtype=np.float64)
        x, y, weight = (np.asarray(each, dtype=np.float64) for each in (x, y, weight))
        per_epoch = -(-len(x) // settings.batch)
        in_all = settings.epochs * per_epoch
        if course is None:
            squares = np.zeros(self.size) if settings.optimiser == "adagrad" else None
            course = Course(start.copy(), squares, 0, in_all)
        if course.steps_in_all != in_all or course.flat.shape != start.shape:
            raise LocalError("checkpoint_damaged", path="a training")
        order, of_epoch = np.zeros(0, dtype=np.int64), -1
        while not course.finished:
            epoch, part = divmod(course.steps, per_epoch)
            if epoch != of_epoch:
                order, of_epoch = epoch_order(seed, epoch, len(x)), epoch
            rows = order[part * settings.batch : (part + 1) * settings.batch]
            _, gradient = self.gradient(course.flat, x[rows], y[rows], weight[rows])
            _move(course.flat, course.squares, gradient, start, correction, settings)
            course.steps += 1
            if stop(course):
                break
        return course

    def train_many(
        self,
        flat: Floats,
        x: Floats,
        y: Floats,
        weight: Floats,
        settings: Settings,
        orders: NDArray[np.int64] | None = None,
        correction: Floats | None = None,
        dtype: DTypeLike = np.float32,
    ) -> Floats:
        """Trains many devices at once and gives their models `(devices, size)`.

        x is `(devices, rows, inputs)`, y and weight `(devices, rows)`; a device with fewer rows has weight 0 after its last.
        `flat` is one model for all, or one each. `orders` `(epochs, devices, rows)` says in which order the rows come
        (`epoch_order`; padding last); without, as they stand.
        """
        x, y, weight = (np.asarray(each, dtype=dtype) for each in (x, y, weight))
        devices, rows = y.shape
        start = np.asarray(flat, dtype=dtype)
        # Half a page away from where large arrays begin: side by side with a gradient, stores would hold up loads (4K aliasing).
        now = np.empty(devices * self.size + _HALF_PAGE, dtype)[_HALF_PAGE:].reshape(devices, self.size)
        now[:] = start
        squares = np.zeros_like(now) if settings.optimiser == "adagrad" else None
        for epoch in range(settings.epochs):
            for first in range(0, rows, settings.batch):
                part: tuple[Any, ...] = (slice(None), slice(first, first + settings.batch))
                if orders is not None:
                    part = (np.arange(devices)[:, None], orders[epoch][part])
                some = weight[part]
                _, gradient = self.gradient(now, x[part], y[part], some)
                idle = ~(some > 0).any(axis=-1)
                _move(now, squares, gradient, start, correction, settings, idle if idle.any() else None)
        return now


def epoch_order(seed: bytes, epoch: int, rows: int) -> NDArray[np.int64]:
    """In which order a device takes its rows in an epoch (0, 1, ...)."""
    return Rng(seed, "head/order/").permutation(str(epoch), rows)


def control_after(
    own: Floats, server: Floats, before: Floats, after: Floats, steps: int, settings: Settings
) -> Floats:
    """The device's next control variate (SCAFFOLD, option II): own - server + (before - after) / (steps x rate)."""
    return own - server + (before - after) / (steps * settings.learning_rate)


def _move(
    flat: Floats,
    squares: Floats | None,
    gradient: Floats,
    start: Floats,
    correction: Floats | None,
    settings: Settings,
    idle: NDArray[np.bool_] | None = None,
) -> None:
    """One step of the optimiser, in place; idle devices stay where they are."""
    if correction is not None:
        gradient += correction
    if settings.proximal:
        gradient += settings.proximal * (flat - start)
    if idle is not None:
        gradient[idle] = 0
    if squares is not None:
        squares += gradient * gradient
        gradient /= np.sqrt(squares) + _ADAGRAD_FLOOR
    gradient *= settings.learning_rate
    flat -= gradient


def _sigmoid(values: Floats) -> Floats:
    found: Floats = 0.5 * (1 + np.tanh(0.5 * values))
    return found


def _softmax(values: Floats) -> Floats:
    # Few outputs and many rows: several times faster with the rows along the last axis.
    turned = np.ascontiguousarray(values.reshape(-1, values.shape[-1]).T)
    turned -= turned.max(axis=0)
    np.exp(turned, out=turned)
    turned /= turned.sum(axis=0)
    return np.ascontiguousarray(turned.T).reshape(values.shape)


def _pairwise(logit: Floats, y: Floats, weight: Floats) -> tuple[Floats, Floats]:
    pairs = (y[..., :, None] > y[..., None, :]) * (weight[..., :, None] * weight[..., None, :])
    total = pairs.sum(axis=(-1, -2), keepdims=True)
    pairs /= np.where(total > 0, total, 1)
    gap = logit[..., :, None] - logit[..., None, :]
    pull = pairs * _sigmoid(-gap)
    return (pairs * np.logaddexp(0, -gap)).sum(axis=(-1, -2)), (pull.sum(axis=-2) - pull.sum(axis=-1))[
        ..., None
    ]


def _read(where: str, layer: Written) -> tuple[str, tuple[int, ...]]:
    if isinstance(layer, str):
        return layer, ()
    if not isinstance(layer, Mapping) or len(layer) != 1:
        raise _wrong(where, layer, "one name, with its size where it has one")
    ((kind, sizes),) = layer.items()
    return kind, (sizes,) if isinstance(sizes, int) else tuple(sizes)


def _make(where: str, kind: str, sizes: tuple[int, ...], inputs: int, first: bool) -> _Layer:
    wanted = {"layer_norm": 1, "dense": 1, "embedding": 2, "relu": 0, "tanh": 0}.get(kind)
    if wanted is None:
        raise _wrong(where, kind, "layer_norm, dense, relu, tanh, embedding, sigmoid, softmax")
    if len(sizes) != wanted or not all(type(each) is int and each >= 1 for each in sizes):
        raise _wrong(where, f"{kind} {list(sizes)}", f"{kind} with {wanted} whole numbers above 0")
    if prod(sizes) * (inputs if kind == "dense" else 1) > PARAMETERS_MOST:
        raise _wrong(where, f"{kind} {list(sizes)}", f"at most {PARAMETERS_MOST} parameters")
    if kind == "dense":
        return _Dense(inputs, sizes[0])
    if kind == "layer_norm":
        if sizes[0] != inputs:
            raise _wrong(where, f"layer_norm [{sizes[0]}]", f"{inputs}, as many as go in")
        return _Norm(inputs)
    if kind == "embedding":
        if not first:
            raise _wrong(where, kind, "an embedding before every other layer")
        return _Table(inputs, *sizes)
    return _Each(inputs, kind == "tanh")


def _wrong(field: str, value: object, allowed: str) -> ConfigError:
    return ConfigError("out_of_bounds", field=field, value=str(value)[:80], allowed=allowed)
