"""What every model here has: a tied embedding as its head, with softcapped logits.

Legend: B batch, T time, N last positions, D model_dim, V vocab_size.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pgolf.kernel.head_loss import soft_cap, softcapped_loss, softcapped_nll
from pgolf.kernel.linear import adapted, observe


class LanguageModel(nn.Module):
    """The ways to ask a model, on top of `last_vectors`; all it needs besides is named here."""

    tok_emb: nn.Embedding
    logit_softcap: float

    @abstractmethod
    def last_vectors(
        self, ids_BT: Tensor, last_n: int | None, borders: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """What the head reads, normed, at the last_n positions (all for None), and its matrix.

        Returns:
            [B, N, D] and [V, D] in the dtype of the residual stream.
        """

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, borders: Tensor | None = None) -> Tensor:
        """Mean loss in nats per token, fp32. ids and targets are int64.

        Args:
            borders: of documents, where they are known already and attention asks for them.
        """
        x_BTD, weight_VD = self.last_vectors(ids_BT, None, borders)
        return softcapped_loss(x_BTD, weight_VD, targets_BT, self.logit_softcap)

    def nll(self, ids_BT: Tensor, targets_BN: Tensor, borders: Tensor | None = None) -> Tensor:
        """Nats of each of the last N targets, fp32 [B, N], without gradient."""
        x_BND, weight_VD = self.last_vectors(ids_BT, targets_BN.size(1), borders)
        return softcapped_nll(x_BND, weight_VD, targets_BN, self.logit_softcap)

    def logits(
        self, ids_BT: Tensor, last_n: int | None = None, borders: Tensor | None = None
    ) -> Tensor:
        """Softcapped logits [B, T, V], or of the last_n positions alone [B, N, V]; fp32 or more.

        Capped in fp32, as the fused loss does it: bf16 would round logits near 20 to eighths.
        """
        x_BND, weight_VD = self.last_vectors(ids_BT, last_n, borders)
        observe(x_BND, self.tok_emb.weight)
        logits_BNV = adapted(F.linear(x_BND, weight_VD), x_BND, self.tok_emb.weight)
        return soft_cap(
            logits_BNV.to(torch.promote_types(logits_BNV.dtype, torch.float32)), self.logit_softcap
        )


def stream_dtype(weight_VD: Tensor) -> torch.dtype:
    """Dtype of the residual stream: autocast's where it is on, else fp32 (fp64 stays fp64)."""
    device_type = weight_VD.device.type
    if torch.is_autocast_enabled(device_type):
        return torch.get_autocast_dtype(device_type)
    return torch.promote_types(weight_VD.dtype, torch.float32)
