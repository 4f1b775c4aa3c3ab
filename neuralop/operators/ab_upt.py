"""AB-UPT: anchored neural fields around a geometry, for meshes of any size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import pi
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from neuralop.decoders.field_heads import FieldHeads
from neuralop.encodings.condition import ConditionEncoding
from neuralop.encodings.fourier import FourierEncoding
from neuralop.encodings.rotary import RotaryEncoding
from neuralop.functional.beside import beside
from neuralop.layers.blocks import Modulations, PerceiverBlock, TransformerBlock
from neuralop.layers.initialisation import SMALL, Initialisation, draw, initialise
from neuralop.layers.mlp import MLP, Activation
from neuralop.layers.normalisation import Modulation, Normalisation, spread
from neuralop.mixers.anchor_attention import AnchorAttention
from neuralop.mixers.attention import CrossAttention, Memory, Place, SelfAttention, remember
from neuralop.mixers.geometry_attention import GeometryAttention
from neuralop.mixers.streams import Streams
from neuralop.operators.ensemble import Ensemble
from neuralop.points import Points

Layer = Literal["perceiver", "self", "cross", "joint"]
Share = Literal["branches", "none"]

# What `encode` keeps: dictionaries and lists of tensors, nothing else.
Context = dict[str, Any]


@dataclass(frozen=True)
class Branch:
    """A stream of anchors and queries: a kind of place, and what is predicted there.

    Attributes:
        fields: number of components of each predicted field.
        depth: blocks of the branch's own after the trunk.
        features: number of components of each feature that its points carry, in the order in which
            `Points.features` concatenates them.
    """

    fields: Mapping[str, int]
    depth: int = 6
    features: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ABUPTConfig:
    """Settings of AB-UPT. Lengths are in units of the positions: in body lengths, as `pipelines` scales them.

    Attributes:
        kind: which operator this is.
        width: features of a token.
        heads: attention heads that share them.
        trunk: layers whose anchors of all branches pass together: `perceiver` reads the geometry, `self` the own
            branch, `cross` the other branches, `joint` all branches.
        depth: blocks of each branch's own after the trunk.
        geometry_depth: blocks among the geometry's tokens.
        supernodes: tokens of the geometry, at most as many as it has points; null takes all points.
        radius: of a supernode's neighbourhood.
        max_neighbours: points of a neighbourhood, the nearest.
        message: what a neighbour sends: where it lies `relative` to the supernode, or both `absolute` places.
        qk_norm: normalise queries and keys, which keeps low precision and high learning rates stable.
        final_norm: normalise before the heads.
        norm: `layer` or `rms`, in all blocks.
        activation: `gelu` or `swiglu`, in the blocks.
        share: whether trunk layers have one set of weights for all `branches`, or each branch its own (`none`).
        measure: weigh tokens in attention, and neighbours in pooling, by the measure that their points carry.
        shortest: shortest wavelength of positions; detail below it is left to features.
        base: ratio of the longest to the shortest wavelength of positions.
        rotary_shortest: shortest wavelength by which attention tells distances.
        rotary_base: ratio of the longest to the shortest wavelength of attention.
        members: operators that are trained side by side from other weights, and averaged.

    The wavelengths were chosen on exact flows past 36 ellipsoids, width 64, 250 steps: with the rotary ones a quarter
    to 25 body lengths, validation scored 0.20, with half to 16 it scored 0.12. Positions from a tenth instead of half a
    body length cost another tenth.
    """

    kind: Literal["ab_upt"] = "ab_upt"
    width: int = 192
    heads: int = 3
    trunk: tuple[Layer, ...] = ("perceiver", "self", "cross", "self", "cross", "self")
    depth: int = 6
    geometry_depth: int = 1
    supernodes: int | None = 2048
    radius: float = 0.05
    max_neighbours: int = 32
    message: Literal["relative", "absolute"] = "relative"
    qk_norm: bool = True
    final_norm: bool = True
    norm: Normalisation = "layer"
    activation: Activation = "swiglu"
    share: Share = "branches"
    measure: bool = False
    shortest: float = 0.5
    base: float = 32.0
    rotary_shortest: float = 0.5
    rotary_base: float = 32.0
    members: int = 1

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        for name in ("width", "heads", "max_neighbours", "members"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("depth", "geometry_depth"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if self.width % self.heads or self.width // self.heads % 2:
            raise ValueError(
                f"width must be an even multiple of heads, got width={self.width} and heads={self.heads}; "
                f"{2 * self.heads * round(self.width / self.heads / 2)} would do"
            )
        if self.supernodes is not None and self.supernodes < 1:
            raise ValueError(f"supernodes must be at least 1, or null for all points, got {self.supernodes}")
        for name in ("radius", "shortest", "rotary_shortest"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is a length and must be positive, got {getattr(self, name)}")
        for name in ("base", "rotary_base"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is a ratio of wavelengths and must be at least 1, got {getattr(self, name)}")
        unknown = set(self.trunk) - {"perceiver", "self", "cross", "joint"}
        if unknown:
            raise ValueError(f"trunk knows perceiver, self, cross and joint, got {sorted(unknown)}")
        if not self.trunk and self.depth == 0:
            raise ValueError("an operator needs a layer: give a trunk or a depth")

    def build(
        self,
        *,
        space: int,
        branches: Mapping[str, Mapping[str, int]],
        features: Mapping[str, Mapping[str, int]] | None = None,
        condition: int = 0,
    ) -> "ABUPT | Ensemble":
        """Build the operator for a problem, or several.

        Args:
            space: number of axes.
            branches: for each branch the number of components of each field.
            features: for each branch, and for `geometry`, the number of components of each feature of its points.
            condition: number of scalars that hold for a whole sample.
        """
        features = features or {}
        if self.members > 1:
            alone, given = replace(self, members=1), {"branches": branches, "features": features}
            return Ensemble(
                [alone.build(space=space, condition=condition, **given) for _ in range(self.members)]  # type: ignore[arg-type]
            )
        return ABUPT(
            space=space,
            width=self.width,
            heads=self.heads,
            trunk=self.trunk,
            branches={
                name: Branch(fields=fields, depth=self.depth, features=features.get(name, {}))
                for name, fields in branches.items()
            },
            condition=condition,
            supernodes=self.supernodes,
            radius=self.radius,
            max_neighbours=self.max_neighbours,
            message=self.message,
            geometry_depth=self.geometry_depth,
            geometry_features=features.get("geometry", {}),
            qk_norm=self.qk_norm,
            final_norm=self.final_norm,
            norm=self.norm,
            activation=self.activation,
            share=self.share,
            measure=self.measure,
            shortest=self.shortest,
            base=self.base,
            rotary_shortest=self.rotary_shortest,
            rotary_base=self.rotary_base,
        )


class ABUPT(nn.Module):
    """Anchored-branched universal physics transformer.

    The geometry becomes tokens by supernode pooling. Anchors, a few thousand places in each branch, read the geometry
    and each other and carry the state of the flow. Queries pass the same layers with the same weights but only read:
    `field(x | anchors, geometry)` is a function of the place x alone, so queries cost linear time, in any number,
    order and chunks.

        context = operator.encode(geometry, anchors, condition=condition)   # once
        fields = operator.decode(context, "volume", queries)                # as often as needed

    A query at the place of an anchor, with its features, is predicted what the anchor is. Branches differ by their
    position MLP, by their own blocks after the trunk and by their heads.

        anchored, asked = operator(geometry, anchors, queries, condition=condition)

    gives the fields at anchors and queries in one pass: the same, in half the kernels, for training.

    Args:
        space: number of axes.
        width: features of a token.
        heads: attention heads that share them.
        trunk: layers over all branches: `perceiver`, `self`, `cross` or `joint`. Without a perceiver the geometry is
            not looked at.
        branches: the branches by name.
        condition: number of scalars that hold for a whole sample; they shift, scale and gate every block (adaLN-zero).
        supernodes: how many of the first points of each geometry become tokens; `None` takes all.
        radius: of a supernode's neighbourhood, in the unit of the positions.
        max_neighbours: points of a neighbourhood, the nearest.
        message: what a neighbour sends: `relative` or `absolute` places.
        geometry_depth: blocks among the geometry's tokens.
        geometry_features: number of components of each feature of the geometry's points.
        embed_condition: embed the scalars by sines and an MLP first; else the blocks see them as they are.
        qk_norm: normalise queries and keys.
        final_norm: normalise before the heads.
        norm: `layer` or `rms`, in all blocks.
        activation: `gelu` or `swiglu`, in the blocks.
        share: one set of trunk weights for all `branches`, or each branch its own (`none`).
        measure: weigh tokens by the measure of their points, by which two channels of each head are taken.
        shortest: shortest wavelength of positions, in their unit.
        base: ratio of their longest to their shortest wavelength.
        rotary_shortest: shortest wavelength of the rotary angles.
        rotary_base: ratio of their longest to their shortest wavelength.
        initialisation: how weights begin, `fan_in` or `published`.

    Raises:
        ValueError: a combination that cannot be built.

    Source:
        Alkin et al. 2025, AB-UPT (arXiv 2502.09692). `ABUPT.reference` is the published model; the defaults here
        differ from it by wavelengths in body lengths, q/k norm, a final norm, SwiGLU, larger first weights and embedded
        conditions.
    """

    # Methods worth compiling one by one, beside those of the blocks.
    regions = ("_tokens", "_rotation")
    # Linear maps may be kept in the precision of an autocast, but those of modules with `full_precision`.
    rounds = True

    def __init__(
        self,
        *,
        space: int,
        width: int,
        heads: int,
        trunk: Sequence[Layer],
        branches: Mapping[str, Branch],
        condition: int = 0,
        supernodes: int | None = None,
        radius: float = 0.05,
        max_neighbours: int = 32,
        message: Literal["relative", "absolute"] = "relative",
        geometry_depth: int = 1,
        geometry_features: Mapping[str, int] | None = None,
        embed_condition: bool = True,
        qk_norm: bool = True,
        final_norm: bool = True,
        norm: Normalisation = "layer",
        activation: Activation = "swiglu",
        share: Share = "branches",
        measure: bool = False,
        shortest: float = 0.5,
        base: float = 32.0,
        rotary_shortest: float = 0.5,
        rotary_base: float = 32.0,
        initialisation: Initialisation = "fan_in",
    ) -> None:
        super().__init__()
        # Imports torch-geometric, which takes seconds that reading a configuration should not.
        from neuralop.encoders.supernode_pooling import SupernodePooling

        if not branches:
            raise ValueError("an operator needs at least one branch")
        if wrong := [name for name in branches if not name.isidentifier() or hasattr(nn.ModuleDict, name)]:
            raise ValueError(f"a branch is named by letters, digits and underscores, and not as {wrong}")
        if share not in ("branches", "none"):
            raise ValueError(f"share must be branches or none, got {share!r}")
        self.space, self.condition = space, condition
        self.branches = {
            name: Branch(dict(branch.fields), branch.depth, dict(branch.features)) for name, branch in branches.items()
        }
        self.geometry_features = dict(geometry_features or {})
        self.measure, self.shared = measure, share == "branches"
        reserved = 2 if measure else 0

        self.encode_position = FourierEncoding(space, width, shortest=shortest, base=base)
        self.encode_rotation = RotaryEncoding(
            space, width // heads - reserved, shortest=rotary_shortest, base=rotary_base
        )
        self.encode_condition = ConditionEncoding(condition, width) if condition and embed_condition else None

        def attention(kind: type[SelfAttention] | type[CrossAttention]) -> SelfAttention | CrossAttention:
            return kind(width, heads, qk_norm=qk_norm, reserved=reserved)

        parts: dict[str, Any] = {"condition": width if self.encode_condition else condition}
        parts |= {"activation": activation, "norm": norm}

        def self_block() -> TransformerBlock:
            return TransformerBlock(attention(SelfAttention), width, **parts)

        self.geometry_pooling = None
        self.geometry_blocks = nn.ModuleList()
        if "perceiver" in trunk:
            self.geometry_pooling = SupernodePooling(
                space=space,
                width=width,
                supernodes=supernodes,
                radius=radius,
                max_neighbours=max_neighbours,
                message=message,
                features=sum(self.geometry_features.values()),
                shortest=shortest,
                base=base,
                measure=measure,
            )
            self.geometry_blocks.extend(self_block() for _ in range(geometry_depth))

        self.position_mlps = nn.ModuleDict({name: MLP(width, width, width) for name in branches})
        self.feature_maps = nn.ModuleDict(
            {
                name: nn.Linear(sum(branch.features.values()), width, bias=False)
                for name, branch in branches.items()
                if branch.features
            }
        )
        copies = 1 if share == "branches" else len(branches)
        self.trunk = nn.ModuleList(
            GeometryAttention(
                [PerceiverBlock(attention(CrossAttention), width, **parts) for _ in range(copies)], list(branches)
            )
            if layer == "perceiver"
            else AnchorAttention([self_block() for _ in range(copies)], list(branches), layer)
            for layer in trunk
        )
        self.decoders = nn.ModuleDict(
            {
                name: nn.ModuleList(AnchorAttention([self_block()], [name], "self") for _ in range(branch.depth))
                for name, branch in branches.items()
            }
        )
        self.heads = nn.ModuleDict(
            {
                name: FieldHeads(width, branch.fields, norm=norm if final_norm else None)
                for name, branch in branches.items()
            }
        )
        initialise(self, initialisation)
        for head in self.heads.values():  # first predictions close to the mean of each field
            draw(head.linear, SMALL)  # type: ignore[arg-type]

    @classmethod
    def reference(
        cls,
        *,
        space: int = 3,
        branches: Mapping[str, Branch],
        condition: int = 0,
        supernodes: int | None = 16_384,
        radius: float = 0.25,
    ) -> "ABUPT":
        """Build the published model, for positions scaled to boxes 1000 units wide.

        With branches `surface` of 4 and `volume` of 7 components, the DrivAerML layout, it has 8,751,179 parameters.

        Args:
            space: number of axes.
            branches: the branches, whose `depth` was 6.
            condition: number of scalars, which the blocks see as they are.
            supernodes: tokens of the geometry.
            radius: of a supernode's neighbourhood, in units of the box's thousandth.
        """
        return cls(
            space=space,
            width=192,
            heads=3,
            trunk=("perceiver", "self", "cross", "self", "cross", "self"),
            branches=branches,
            condition=condition,
            supernodes=supernodes,
            radius=radius,
            embed_condition=False,
            qk_norm=False,
            final_norm=False,
            shortest=2 * pi,
            base=10_000.0,
            rotary_shortest=2 * pi,
            rotary_base=10_000.0,
            activation="gelu",
            initialisation="published",
        )

    def encode(
        self,
        geometry: Points | Float[Tensor, "_batch _point space"] | None,
        anchors: Mapping[str, Points | Float[Tensor, "_batch _anchor space"]],
        *,
        condition: Float[Tensor, "_sample condition"] | None = None,
        neighbours: tuple[Int[Tensor, " supernode_plus_one"], Int[Tensor, " neighbour"]] | None = None,
    ) -> Context:
        """Read a geometry and its anchors, and keep what queries will read of them.

        Args:
            geometry: points of the body in random order; the first `supernodes` of each sample become tokens. `None` is
                for operators without a perceiver.
            anchors: places of every branch.
            condition: scalars of each sample, standardised.
            neighbours: `offsets` and `indices` of the neighbours of each supernode, samples one after the other;
                found here where they are not given.

        Returns:
            Keys and values of every layer, what the condition does to each block, and the anchors' last features, as
            dictionaries and lists of tensors.

        Raises:
            ValueError: a branch, a feature or a condition is missing or unknown, or axes do not fit.
        """
        context, streams = self._run(geometry, anchors, {}, condition, neighbours)
        context["anchors"] = {name: stream.tokens for name, stream in streams.items()}
        return context

    def forward(
        self,
        geometry: Points | Float[Tensor, "_batch _point space"] | None,
        anchors: Mapping[str, Points | Float[Tensor, "_batch _anchor space"]],
        queries: Mapping[str, Points | Float[Tensor, "_batch _query space"]],
        *,
        condition: Float[Tensor, "_sample condition"] | None = None,
        neighbours: tuple[Int[Tensor, " supernode_plus_one"], Int[Tensor, " neighbour"]] | None = None,
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, dict[str, Tensor]]]:
        """Evaluate the fields at all anchors, and at queries of the branches that have any, in one pass.

        Packed samples take `encode` and `decode`.

        Args:
            geometry: as `encode` takes it.
            anchors: as `encode` takes them.
            queries: for each branch, or for some, where else.
            condition: as `encode` takes it.
            neighbours: as `encode` takes them.

        Returns:
            For each branch the fields at its anchors; and the same at its queries.

        Raises:
            ValueError: as `encode` and `decode` do.
        """
        if unknown := set(queries) - set(self.branches):
            raise ValueError(f"expected queries of {sorted(self.branches)}, got those of {sorted(unknown)}")
        if any(
            isinstance(each, Points) and each.offsets is not None for each in (*anchors.values(), *queries.values())
        ):
            context = self.encode(geometry, anchors, condition=condition, neighbours=neighbours)
            anchored = {name: self.decode(context, name) for name in self.branches}
            return anchored, {name: self.decode(context, name, each) for name, each in queries.items()}
        _, streams = self._run(geometry, anchors, queries, condition, neighbours)
        anchored, asked = {}, {}
        for name, stream in streams.items():
            parts = {
                field: values.split(stream.layout[0], 1) for field, values in self.heads[name](stream.tokens).items()
            }
            anchored[name] = {field: first for field, (first, _) in parts.items()}
            if name in queries:
                asked[name] = {field: second for field, (_, second) in parts.items()}
        return anchored, asked

    def decode(
        self,
        context: Context,
        branch: str,
        queries: Points | Float[Tensor, "_batch _query space"] | None = None,
    ) -> dict[str, Float[Tensor, "_batch _query _channel"]]:
        """Evaluate the fields of a branch.

        Args:
            context: what `encode` gave.
            branch: which branch.
            queries: where, stacked or packed, whichever the anchors were; `None` is at the anchors, at no further cost.
                Their measure is not used: nothing reads them.

        Returns:
            Each field at each query.

        Raises:
            ValueError: an unknown branch, axes or features that do not fit, or another number of samples.
        """
        if branch not in self.branches:
            raise ValueError(f"expected one of the branches {sorted(self.branches)}, got {branch!r}")
        if queries is None:
            return self.heads[branch](context["anchors"][branch])
        points = self._check(branch, queries, self.branches[branch].features)
        place = Place(self._rotation(points), offsets=points.offsets)
        tokens = self._tokens(branch, points)
        modulations = context["modulations"]
        layer: Any
        for layer, memories, given in zip(self.trunk, context["layers"], modulations["layers"], strict=True):
            tokens = layer.read(branch, tokens, place, memories, given)
        own = zip(self.decoders[branch], context["decoders"][branch], modulations[branch], strict=True)  # type: ignore[arg-type]
        for layer, memory, given in own:
            tokens = layer.read(branch, tokens, place, {branch: memory}, given)
        return self.heads[branch](tokens)

    def _run(
        self,
        geometry: Points | Tensor | None,
        anchors: Mapping[str, Points | Tensor],
        queries: Mapping[str, Points | Tensor],
        condition: Tensor | None,
        neighbours: tuple[Tensor, Tensor] | None,
    ) -> tuple[Context, dict[str, Streams]]:
        """Pass anchors and queries through all layers; give what they left to be read, and their last features."""
        if set(anchors) != set(self.branches):
            raise ValueError(f"expected anchors of {sorted(self.branches)}, got those of {sorted(anchors)}")
        sites = {name: self._check(name, anchors[name], self.branches[name].features) for name in self.branches}
        asked = {name: self._check(name, queries[name], self.branches[name].features) for name in queries}
        samples = {name: _samples(points) for name, points in sites.items()}
        samples |= {f"queries of {name}": _samples(points) for name, points in asked.items()}
        embedded = self._embed(condition)
        if embedded is not None:
            samples["condition"] = len(embedded)
        modulations = self._modulations(embedded)

        tokens: Any = None
        place = Place()
        if self.geometry_pooling is not None:
            if geometry is None:
                raise ValueError("this operator has a perceiver layer and reads a geometry, got None")
            geometry = self._check("geometry", geometry, self.geometry_features)
            samples["geometry"] = _samples(geometry)
            tokens, supernodes = self.geometry_pooling(geometry, neighbours)
            tokens, place = tokens.to(_stream_dtype(geometry)), self._place(supernodes)
        if len(set(samples.values())) > 1:
            raise ValueError(f"the parts of a batch must hold equally many samples, got {samples}")
        block: Any
        for block, given in zip(self.geometry_blocks, modulations["geometry"], strict=True):
            laid = [spread(part, place.offsets, tokens.shape[1]) for part in given]
            query, key, value = block.offer(tokens, place.rotation, laid, [(tokens.shape[1], 0)])
            attended = block.mixer.attend(query, remember(key, value, place), place.offsets)
            tokens = block.finish(tokens, [attended], laid)

        context: Context = {"layers": [], "decoders": {}, "modulations": modulations}
        groups = self._groups(sites, asked)
        layer: Any
        for layer, given in zip(self.trunk, modulations["layers"], strict=True):
            if isinstance(layer, GeometryAttention):
                memories: Any = layer.memories(tokens, place, given)
                groups = layer(groups, memories, given)
            else:
                groups, memories = layer(groups, given)
            context["layers"].append(memories)
        streams = {name: stream for group in groups for name, stream in group.apart().items()}
        work: Any = {
            name: (
                partial(self._decoders, name, stream, modulations[name]),
                [*stream.tensors(), *(part for layer in modulations[name] for block in layer for part in block)],
            )
            for name, stream in streams.items()
        }
        for name, (stream, kept) in beside(work).items():
            streams[name], context["decoders"][name] = stream, kept
        return context, streams

    def _decoders(
        self, name: str, stream: Streams, modulations: Sequence[Sequence[Modulations]]
    ) -> tuple[tuple[Streams, list[Memory]], list[Tensor]]:
        """Pass the tokens of a branch through its own layers; give them, what they left, and the tensors of both."""
        kept = []
        layer: Any
        for layer, given in zip(self.decoders[name], modulations, strict=True):  # type: ignore[arg-type]
            (stream,), memories = layer([stream], given)
            kept.append(memories[name])
        return (stream, kept), [*stream.tensors(), *(tensor for memory in kept for tensor in memory.values())]

    def _groups(self, sites: Mapping[str, Points], queries: Mapping[str, Points]) -> list[Streams]:
        """Put the first features of branches that share weights together, unless they are packed."""
        tokens, places, asked = {}, {}, {}
        for name, points in sites.items():
            whole, places[name] = points, self._place(points)
            if name in queries:
                whole = _both(points, queries[name])
                asked[name] = (queries[name].position.shape[1], self._rotation(queries[name]))
            tokens[name] = self._tokens(name, whole)
        apart = not self.shared or any(points.offsets is not None for points in sites.values())
        together = [[name] for name in sites] if apart else [list(sites)]
        return [
            Streams.of({name: tokens[name] for name in names}, {name: places[name] for name in names}, asked)
            for names in together
        ]

    def _modulations(self, condition: Tensor | None) -> dict[str, Any]:
        """Shifts, scales and gates of all blocks: of the geometry's, of the trunk's by layer, of each branch's own."""
        layers = {"layers": self.trunk, **self.decoders}
        blocks: list[Any] = [*self.geometry_blocks]
        blocks += [block for each in layers.values() for layer in each for block in layer.blocks]  # type: ignore[union-attr]
        given = iter(Modulation.together([block.modulation for block in blocks], condition))
        found: dict[str, Any] = {"geometry": [next(given) for _ in self.geometry_blocks]}
        for name, each in layers.items():
            found[name] = [[next(given) for _ in layer.blocks] for layer in each]  # type: ignore[union-attr]
        return found

    def _check(self, name: str, points: Points | Tensor, features: Mapping[str, int]) -> Points:
        """Make bare tensors points, and refuse those that do not fit."""
        if isinstance(points, Tensor):
            points = Points(points)
        if points.position.shape[-1] != self.space:
            raise ValueError(f"{name} lies in {points.position.shape[-1]} axes, expected {self.space}")
        if points.offsets is not None and len(points.position) != 1:
            raise ValueError(f"packed points have a batch axis of one, {name} has {len(points.position)}")
        expected = sum(features.values())
        given = 0 if points.features is None else points.features.shape[-1]
        if given != expected:
            raise ValueError(f"points of {name} must carry {expected} features {dict(features)}, got {given}")
        return points

    def _embed(self, condition: Tensor | None) -> Tensor | None:
        """Embed the condition, or give it as it is."""
        given = 0 if condition is None else condition.shape[-1]
        if given != self.condition:
            raise ValueError(f"expected {self.condition} condition scalars a sample, got {given}")
        return condition if condition is None or self.encode_condition is None else self.encode_condition(condition)

    def _tokens(self, name: str, points: Points) -> Float[Tensor, "batch token width"]:
        """First features of the anchors or queries of a branch; the residual stream stays in float32 or better."""
        encoded = self.encode_position(points.position)
        if points.features is not None:
            encoded = encoded + self.feature_maps[name](points.features)
        return self.position_mlps[name](encoded).to(_stream_dtype(points))

    def _rotation(self, points: Points) -> tuple[Tensor, Tensor]:
        """Rotary angles of tokens, the same in every layer."""
        return self.encode_rotation(points.position)

    def _place(self, points: Points) -> Place:
        """Angles, measure and offsets of tokens that will be read."""
        log_measure = None
        if self.measure and points.measure is not None:
            log_measure = points.measure.to(torch.promote_types(points.measure.dtype, torch.float32)).log()
        return Place(self._rotation(points), log_measure, points.offsets)


def _both(anchors: Points, queries: Points) -> Points:
    """Put queries after anchors."""
    position = torch.cat((anchors.position, queries.position), 1)
    if anchors.features is None or queries.features is None:
        return Points(position)
    return Points(position, features=torch.cat((anchors.features, queries.features), 1))


def _samples(points: Points) -> int:
    return len(points.position) if points.offsets is None else len(points.offsets) - 1


def _stream_dtype(points: Points) -> torch.dtype:
    return torch.promote_types(points.position.dtype, torch.float32)
