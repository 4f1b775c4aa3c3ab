"""A copy of an operator for arithmetic in bfloat16, rounded once a step instead of at every use."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Rounded:
    """An operator's twin that computes losses: its linear maps hold the bfloat16 that autocast would make of them.

    Autocast rounds the weights of each linear map whenever it is used, and widens each gradient: two small kernels for
    every matrix and bias, a fifth of all in a small operator's step. Here the twin's weights lie side by side in
    memory and are rounded together. Weights that are optimised, averaged and saved remain those of the operator, in
    float32.

    An operator says by `rounds = True` that all its linear maps compute under autocast, but those inside modules
    that have `full_precision = True`.

    Args:
        operator: whose weights are optimised.
    """

    def __init__(self, operator: nn.Module) -> None:
        self.module = copy.deepcopy(operator)
        exact = {
            id(inner)
            for part in self.module.modules()
            if getattr(part, "full_precision", False)
            for inner in part.modules()
        }
        maps = [part for part in self.module.modules() if isinstance(part, nn.Linear) and id(part) not in exact]
        rounded = {id(parameter) for part in maps for parameter in part.parameters()}
        pairs = list(zip(operator.parameters(), self.module.parameters(), strict=True))
        low = [pair for pair in pairs if id(pair[1]) in rounded]
        full = [pair for pair in pairs if id(pair[1]) not in rounded]
        self.groups = [_Group(part, dtype) for part, dtype in ((low, torch.bfloat16), (full, torch.float32)) if part]
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the operator's weights."""
        for group in self.groups:
            group.flat.copy_(torch.cat([wide.flatten() for wide in group.wide]))

    @torch.no_grad()
    def hand_over(self) -> None:
        """Add the gradients to those of the operator's weights, in float32, and forget them."""
        for group in self.groups:
            pairs = [pair for pair in zip(group.wide, group.own, strict=True) if pair[1].grad is not None]
            if not pairs:
                continue
            gradients = torch.cat([own.grad.flatten() for _, own in pairs]).float()  # type: ignore[union-attr]
            parts = gradients.split([own.numel() for _, own in pairs])
            for (wide, own), part in zip(pairs, parts, strict=True):
                gradient = part.view_as(wide)
                wide.grad = gradient if wide.grad is None else wide.grad + gradient
                own.grad = None


class _Group:
    """Weights of the twin in one precision, side by side in memory."""

    def __init__(self, pairs: Sequence[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
        self.wide, self.own = [wide for wide, _ in pairs], [own for _, own in pairs]
        sizes = [own.numel() for own in self.own]
        self.flat = torch.empty(sum(sizes), dtype=dtype, device=self.own[0].device)
        for own, part in zip(self.own, self.flat.split(sizes), strict=True):
            own.data = part.view_as(own)
