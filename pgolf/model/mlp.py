"""The MLP of recurrent3. Legend: B batch, T time, D model_dim, F hidden."""

from __future__ import annotations

from torch import Tensor, nn

from pgolf.kernel.mlp import leaky_square_mlp


class LeakySquareMLP(nn.Module):
    """proj(leaky_relu(fc(x), 0.5)^2): the square keeps a gradient where relu^2 has none (#1738).

    Args:
        model_dim: width D of input and output.
        mlp_mult: hidden width as a multiple of D, rounded down.
    """

    def __init__(self, *, model_dim: int, mlp_mult: float) -> None:
        super().__init__()
        hidden_dim = int(model_dim * mlp_mult)
        self.fc = nn.Linear(model_dim, hidden_dim, bias=False)
        self.proj = nn.Linear(hidden_dim, model_dim, bias=False)

    def forward(self, x_BTD: Tensor) -> Tensor:
        return leaky_square_mlp(x_BTD, self.fc.weight, self.proj.weight)
