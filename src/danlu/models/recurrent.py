"""What recurrent families share: tokens are read in one direction, and what is remembered has a fixed size.

A family says how its layers read (mamba.py, mamba2.py, rwkv.py). B rows, T tokens, D width.
"""

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from danlu.models.base import CausalLM
from danlu.models.config import ModelConfig
from danlu.nn.mask import Sight
from danlu.nn.state import RecurrentState, State


class RecurrentConfig(ModelConfig):
    """Base of the settings of recurrent families."""

    @property
    def attention_width(self) -> int:
        return 0


class RecurrentLM(CausalLM):
    """Decodes in constant memory; a document of a packed row begins with an empty memory. No gradient flows through a memory."""

    one_way = True

    def hidden(
        self,
        ids_BT: Tensor,
        *,
        documents_BT: Tensor | None = None,
        prefix_BT: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        if prefix_BT is not None:
            raise ValueError(f"{self.config.name} reads in one direction only: no part of a text can be seen both ways")
        sight = Sight(ids_BT.size(1), state.length if state else 0, documents_BT)
        memories = state.layers if state else [None] * self.config.depth
        x = self.read(ids_BT, sight, memories)  # type: ignore[arg-type]  # new_state makes nothing else
        if state:
            state.length += ids_BT.size(1)
        return x

    @abstractmethod
    def read(self, ids_BT: Tensor, sight: Sight, memories: Sequence[RecurrentState | None]) -> Tensor:
        """Vectors after the final norm, (B, T, D); `memories`, one a layer, are brought up to date."""

    @abstractmethod
    def new_memory(self, batch: int) -> RecurrentState:
        """What one layer remembers before the first token, in float32."""

    def new_state(self, batch: int, capacity: int) -> State:
        return State([self.new_memory(batch) for _ in range(self.config.depth)])

    @abstractmethod
    def scan_flops(self) -> float:
        """Arithmetic of one token's recurrences in all layers, forward."""

    def flops_per_token(self, row_tokens: int) -> float:
        """Arithmetic of one training token, whatever the length of its row: 6 a matmul weight, 3 times the recurrences."""
        return 6.0 * self.matmul_parameters() + 3.0 * self.scan_flops()
