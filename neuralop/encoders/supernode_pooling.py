"""Points of a geometry to tokens: supernodes gather their neighbourhoods."""

import warnings
from dataclasses import replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import gelu, linear

from neuralop.encodings.fourier import FourierEncoding
from neuralop.functional.radius import radius as neighbours_within
from neuralop.functional.radius import radius_padded
from neuralop.points import Points

with warnings.catch_warnings():
    # torch-geometric scripts some of its classes at import, which torch 2.13 announces to deprecate.
    warnings.simplefilter("ignore", DeprecationWarning)
    from torch_geometric.nn import MessagePassing

Message = Literal["relative", "absolute"]

# Devices on which neighbours that are found here fill `max_neighbours` slots a supernode, empty ones with no share in
# the mean: its sums then need no scatter, sizes do not depend on the places, and nothing waits for the device.
PADDED = ("cuda",)


class SupernodePooling(MessagePassing):
    """Mean over each supernode's neighbourhood of an MLP of where the neighbours lie, joined with where it lies itself.

    The first points of each sample are its supernodes; points are taken to be in random order, as a store keeps them.
    A neighbour j sends `MLP(encode([x_i − x_j, |x_i − x_j|]))` (`relative`) or `MLP([encode(x_j), encode(x_i)])`
    (`absolute`), with its features appended. Neighbours count by their measure where they have one. A linear map then
    takes `[mean message, encode(x_i)]` to the token.

    The MLP's second map is applied to the mean of its hidden features, which is the same and costs a neighbourhood's
    worth less.

    Args:
        space: number of axes.
        width: features of a token.
        supernodes: how many of the first points of each sample; `None` takes all.
        radius: of a neighbourhood, in the unit of the positions.
        max_neighbours: the nearest within the radius that are kept.
        message: `relative` or `absolute`.
        features: number of features that each point carries.
        shortest: shortest wavelength of the position encoding.
        base: ratio of its longest to its shortest.
        measure: whether neighbours count by measure; else all alike.

    Source:
        Alkin et al. 2024, UPT (arXiv 2402.12365) and 2025, AB-UPT (arXiv 2502.09692). The published code keeps the
        first neighbours found; the nearest are kept here, so the order of points does not matter.
    """

    # Worth compiling by itself: some twenty operations on all features of all neighbours, which one kernel does.
    regions = ("_pool_padded",)

    def __init__(
        self,
        *,
        space: int,
        width: int,
        supernodes: int | None,
        radius: float,
        max_neighbours: int,
        message: Message = "relative",
        features: int = 0,
        shortest: float,
        base: float,
        measure: bool = False,
    ) -> None:
        super().__init__()
        if message not in ("relative", "absolute"):
            raise ValueError(f"message must be relative or absolute, got {message!r}")
        self.supernodes, self.radius, self.max_neighbours = supernodes, radius, max_neighbours
        self.relative, self.measure = message == "relative", measure
        self.encode = FourierEncoding(space, width, shortest=shortest, base=base)
        self.encode_difference = (
            FourierEncoding(space + 1, width, shortest=shortest, base=base) if self.relative else None
        )
        self.enter = nn.Linear((1 if self.relative else 2) * width + features, width)
        self.leave = nn.Linear(width, width)
        self.project = nn.Linear(2 * width, width)

    def forward(
        self,
        geometry: Points,
        neighbours: tuple[Int[Tensor, " supernode_plus_one"], Int[Tensor, " neighbour"]] | None = None,
    ) -> tuple[Float[Tensor, "batch supernode width"], Points]:
        """Pool a geometry.

        Args:
            geometry: its points, stacked or packed.
            neighbours: `offsets` and `indices` for the supernodes of all samples one after the other, indices counting
                the points of all samples one after the other; found here where they are not given.

        Returns:
            The tokens, and the supernodes as points without features; packed only where all points of packed samples
            are supernodes.

        Raises:
            ValueError: a sample has fewer points than supernodes, or the neighbours are of another number of them.
        """
        points = geometry.position.flatten(0, 1)
        index, supernodes = self._supernodes(geometry)
        centres = points[index]
        own = self.encode(centres[None])[0]
        place = (points, centres)
        if not self.relative:
            # The map of [encode(x_j), encode(x_i)] is a sum of two, each computed once a point instead of once an edge.
            sender, receiver = self.enter.weight[:, : 2 * own.shape[-1]].chunk(2, -1)
            place = (linear(self.encode(points[None])[0], sender), linear(own, receiver, self.enter.bias))
        features = points[:, :0] if geometry.features is None else geometry.features.flatten(0, 1)
        within = (points, centres, self.radius, self.max_neighbours, _starts(geometry), _starts(supernodes))
        if neighbours is None and points.device.type in PADDED:
            hidden = self._pool_padded(geometry, *radius_padded(*within), place, features)
        else:
            hidden = self._pool(geometry, *(neighbours or neighbours_within(*within)), place, features)
        tokens = self.project(torch.cat((self.leave(hidden), own.to(hidden.dtype)), -1))
        return tokens.unflatten(0, (len(supernodes.position), -1)), supernodes

    # torch-geometric reads this signature, and knows neither shapes nor unions.
    def message(self, place_i: Tensor, place_j: Tensor, features_j: Tensor, share: Tensor) -> Tensor:
        """Hidden features that each neighbour j sends to its supernode i, times its share in the mean."""
        sent = self.enter.weight.shape[1] - features_j.shape[-1]
        if self.encode_difference is not None:
            difference = place_i - place_j
            relative = torch.cat((difference, difference.norm(dim=-1, keepdim=True)), -1)
            encoded = self.encode_difference(relative.flatten(0, -2)[None])[0].unflatten(0, relative.shape[:-1])
            hidden = linear(encoded, self.enter.weight[:, :sent], self.enter.bias)
        else:
            hidden = place_i + place_j
        if features_j.shape[-1]:
            hidden = hidden + linear(features_j, self.enter.weight[:, sent:])
        return gelu(hidden) * share

    def aggregate(self, inputs: Tensor, index: Tensor, dim_size: int) -> Tensor:
        """Sum what each supernode was sent; on CPU `index_add_` is twice as fast as torch-geometric's own sum."""
        return inputs.new_zeros(dim_size, inputs.shape[-1]).index_add_(0, index, inputs)

    def _supernodes(self, geometry: Points) -> tuple[Int[Tensor, " supernode"], Points]:
        """Which points, counted over all samples, are supernodes, and the supernodes themselves."""
        batch, tokens, device = *geometry.position.shape[:2], geometry.position.device
        bare = replace(geometry, features=None)
        if self.supernodes is None:
            return torch.arange(batch * tokens, device=device), bare
        first = torch.arange(batch, device=device) * tokens if geometry.offsets is None else geometry.offsets[:-1]
        fewest = tokens if geometry.offsets is None else int(geometry.offsets.diff().min())
        if fewest < self.supernodes:
            raise ValueError(
                f"a geometry of {fewest} points cannot have {self.supernodes} supernodes: give it more points, or set "
                "fewer supernodes"
            )
        index = (first[:, None] + torch.arange(self.supernodes, device=device)).flatten()
        position = geometry.position.flatten(0, 1)[index].unflatten(0, (-1, self.supernodes))
        measure = geometry.measure
        if measure is not None:
            measure = measure.flatten()[index].unflatten(0, (-1, self.supernodes))
        return index, Points(position, measure)

    def _pool(
        self, geometry: Points, offsets: Tensor, indices: Tensor, place: tuple[Tensor, Tensor], features: Tensor
    ) -> Float[Tensor, "supernode width"]:
        """Take the mean of what the neighbours send."""
        supernodes = len(place[1])
        if len(offsets) != supernodes + 1:
            raise ValueError(f"expected neighbours of {supernodes} supernodes, got those of {len(offsets) - 1}")
        counts = offsets.diff()
        target = torch.arange(supernodes, device=offsets.device).repeat_interleave(counts, output_size=len(indices))
        return self.propagate(
            torch.stack((indices, target)),
            size=(len(place[0]), supernodes),
            place=place,
            features=(features, None),
            share=self._shares(geometry, indices, target, counts),
        )

    def _pool_padded(
        self, geometry: Points, indices: Tensor, counts: Tensor, place: tuple[Tensor, Tensor], features: Tensor
    ) -> Float[Tensor, "supernode width"]:
        """Take the mean of what the neighbours in the first `counts` slots send."""

        def gather(values: Tensor) -> Tensor:  # whose derivative adds up, where that of indexing sorts
            return values.index_select(0, indices.flatten()).unflatten(0, indices.shape)

        dtype = torch.promote_types(geometry.position.dtype, torch.float32)
        weight = (torch.arange(indices.shape[1], device=counts.device) < counts[:, None]).to(dtype)
        if geometry.measure is not None and self.measure:
            weight = weight * gather(geometry.measure.flatten()).to(dtype)
        share = weight / weight.sum(1, keepdim=True).clamp(min=torch.finfo(dtype).tiny)
        return self.message(place[1][:, None], gather(place[0]), gather(features), share[..., None]).sum(1)

    def _shares(
        self, geometry: Points, indices: Tensor, target: Tensor, counts: Tensor
    ) -> Float[Tensor, "neighbour 1"]:
        """Weight of each neighbour in the mean of its supernode; these sum to one."""
        dtype = torch.promote_types(geometry.position.dtype, torch.float32)
        if geometry.measure is None or not self.measure:
            return counts.to(dtype).reciprocal()[target, None]
        measure = geometry.measure.flatten()[indices].to(dtype)
        total = torch.zeros(len(counts), dtype=dtype, device=measure.device).index_add_(0, target, measure)
        # A neighbourhood without measure is padding: whatever its token is, nothing reads it.
        return (measure / total.clamp(min=torch.finfo(dtype).tiny)[target])[:, None]


def _starts(points: Points) -> Int[Tensor, " sample_plus_one"]:
    """Where each sample begins."""
    if points.offsets is not None:
        return points.offsets
    batch, tokens = points.position.shape[:2]
    return torch.arange(batch + 1, device=points.position.device) * tokens
