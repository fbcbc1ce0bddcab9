"""The roles that a user may fill: what a class has to offer to be an option of a group.

Runtime objects are positional parameters, configuration values keyword-only ones; launch.py checks
every YAML key and value against the latter before anything starts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor, nn

    from pgolf.clock import Clock
    from pgolf.data.manifest import Manifest
    from pgolf.data.stream import TokenStream
    from pgolf.distributed import World
    from pgolf.eval.scoring import Windows
    from pgolf.events import EventLog
    from pgolf.quant.codes import Codes
    from pgolf.score import Score
    from pgolf.ttt.adapted import Adapted
    from pgolf.ttt.document_ledger import DocumentLedger
    from pgolf.ttt.documents import DocumentOrder
    from pgolf.ttt.ledger import Ledger


class Tokenizer(Protocol):
    """Text to ids and back, with the raw bytes that each id stands for."""

    vocab_size: int
    bos_id: int

    @property
    def fingerprint(self) -> str: ...
    def check(self) -> None: ...
    def cache_key(self) -> dict[str, Any]: ...
    def fit(self, texts: Iterable[str]) -> None: ...
    def save(self, folder: Path) -> None: ...
    def load(self, folder: Path) -> None: ...
    def encode(self, text: str) -> tuple[np.ndarray, np.ndarray]: ...
    def decode(self, ids: Iterable[int]) -> str: ...


class DataSource(Protocol):
    """Where text comes from, in two steps that are cached each by itself.

    `documents` does what needs no tokenizer (read, remove duplicates, divide); `tokenize` fits the
    tokenizer on training text and writes shards, byte sidecar, `tokenizer/` and manifest.
    """

    def check(self) -> None: ...
    def cache_key(self) -> dict[str, Any]: ...
    def documents(self, folder: Path, show: bool) -> object: ...
    def tokenize(
        self, documents: Path, tokenizer: Tokenizer, folder: Path, show: bool
    ) -> Manifest: ...


class Loader(Protocol):
    """Batches of the training split, dealt over the ranks; its position is plain data."""

    def next_batch(self, num_seqs: int, rank: int, world_size: int) -> np.ndarray: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Model(Protocol):
    """A language model with a recurrence that can be switched on without changing parameters.

    Where `document_bos` is an id, attention stays within the documents that begin with it; their
    borders (`pgolf.kernel.documents`) are found in the ids unless they are given.
    """

    document_bos: int | None

    def __call__(
        self, ids_BT: Tensor, targets_BT: Tensor, borders: Tensor | None = None
    ) -> Tensor: ...
    def nll(self, ids_BT: Tensor, targets_BN: Tensor, borders: Tensor | None = None) -> Tensor: ...
    def logits(
        self, ids_BT: Tensor, last_n: int | None = None, borders: Tensor | None = None
    ) -> Tensor: ...
    def recurrence(self, on: bool) -> None: ...
    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...
    def state_dict(self) -> dict[str, Any]: ...


class Optimizer(Protocol):
    """Built as `Optimizer(named_parameters, world, **settings)`.

    `step` receives each rank's own gradients and averages them; `state_dict` is called on all ranks
    and does not depend on their number.
    """

    def step(self, lr_scale: float, step: int) -> None: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class TTT(Protocol):
    """Test-time training before quantization; changes the model in place.

    `source` names the text that `adapt` is given: "validation", or "train" for as much of the
    training split, in which case no validation text is given to it.
    """

    source: str

    def adapt(
        self,
        model: nn.Module,
        stream: TokenStream,
        world: World,
        clock: Clock,
        events: EventLog,
        evaluate: Callable[[nn.Module], Score],
    ) -> Adapted: ...


class AdaptiveTTT(Protocol):
    """Test-time training while evaluating, from the artifact; an option of ttt with `score`.

    It never sees the text: the ledger scores the next part, of `chunk_tokens` tokens, with the
    model as it is, and then gives out that part. It has to score all parts.
    """

    chunk_tokens: int
    compare: bool

    def score(self, model: nn.Module, ledger: Ledger, world: World, clock: Clock) -> Adapted: ...


@runtime_checkable
class DocumentTTT(Protocol):
    """Like `AdaptiveTTT`, but document by document; `documents` says how they are dealt."""

    documents: DocumentOrder
    compare: bool

    def score(
        self, model: nn.Module, ledger: DocumentLedger, world: World, clock: Clock
    ) -> Adapted: ...


class Quantizer(Protocol):
    """A model's weights to integer codes.

    `quantize` is called on all ranks, with the model on the device and its recurrence on, and gives
    the same codes on each. The batches are `calibration_batches` of training text, ids_BT int64 on
    the device, each rank's own share; looking at none is cheap. The model's weights may be changed,
    to try codes out: nobody reads them afterwards. `size_of` tells the bytes of the whole artifact
    folder that these codes would give, encoding them for real: only the main rank may call it, and
    it waits for no other rank, so what depends on it has to be broadcast.
    """

    calibration_batches: int

    def quantize(
        self,
        model: nn.Module,
        batches: Iterable[Tensor],
        world: World,
        size_of: Callable[[Codes], int],
    ) -> Codes: ...


class Codec(Protocol):
    """Bytes to fewer bytes and back; decoding needs no arguments but the class's defaults.

    Decoding is told how many bytes come out, and makes few more where data say otherwise: what a
    stranger's artifact can take is known before.
    """

    name: str

    def encode(self, data: bytes) -> bytes: ...
    def decode(self, data: bytes, num_bytes: int) -> bytes: ...


@runtime_checkable
class ArrayCodec(Protocol):
    """A codec that models what it encodes; an option of codec with `encode_arrays`.

    Arrays are int8 [rows, columns] or fp16 of any shape; the list of ints says how many of the
    bytes each array took, as well as that can be told. Decoding is given shapes and dtypes.
    """

    name: str

    def encode_arrays(self, arrays: list[np.ndarray]) -> tuple[bytes, list[int]]: ...
    def decode_arrays(
        self, data: bytes, specs: list[tuple[tuple[int, ...], type]]
    ) -> tuple[list[np.ndarray], list[int]]: ...


class Evaluator(Protocol):
    """Scores every token of a stream but the first exactly once, through `windows`."""

    def evaluate(self, model: nn.Module, stream: TokenStream, world: World) -> Score: ...
    def windows(self, num_positions: int) -> Windows: ...


class TrackingSink(Protocol):
    """Receives events while a run goes; never blocks, prompts or fails the run."""

    def check(self) -> None: ...
    def start(self, run_id: str, name: str, config: dict[str, Any], run_folder: Path) -> None: ...
    def log(self, event: dict[str, Any]) -> None: ...
    def finish(self, result: dict[str, Any] | None) -> None: ...
