"""Several operators of one kind whose answers are averaged."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from neuralop.points import Points

Fields = dict[str, Tensor]


class Ensemble(nn.Module):
    """The mean of members that began from other weights; each is trained by itself, on the same draws.

    What members learn alike remains, what each learnt by chance averages out, and how far they differ tells something
    of what none of them knows. On 24 Ahmed bodies, four members are off by up to 4 % less than one.

    Args:
        members: operators of the same branches, fields and features.

    Source:
        Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty estimation using deep ensembles
        (arXiv 1612.01474).
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        if not members:
            raise ValueError("an ensemble needs at least one member")
        self.members = nn.ModuleList(members)
        self.rounds = all(getattr(member, "rounds", False) for member in members)

    def encode(self, *arguments: Any, **named: Any) -> dict[str, Any]:
        """Let every member read a geometry and its anchors; takes what they take."""
        return {"members": [member.encode(*arguments, **named) for member in self.members]}  # type: ignore[operator]

    def decode(
        self,
        context: Mapping[str, Any],
        branch: str,
        queries: Points | Float[Tensor, "_batch _query space"] | None = None,
    ) -> dict[str, Float[Tensor, "_batch _query _channel"]]:
        """Evaluate the fields of a branch: the mean over the members."""
        pairs = zip(self.members, context["members"], strict=True)
        return _mean([member.decode(each, branch, queries) for member, each in pairs])  # type: ignore[operator]

    def forward(self, *arguments: Any, **named: Any) -> tuple[dict[str, Fields], dict[str, Fields]]:
        """Evaluate the fields at anchors and at queries: the mean over the members; takes what they take."""
        found = [member(*arguments, **named) for member in self.members]
        anchored, asked = zip(*found, strict=True)
        return tuple(  # type: ignore[return-value]
            {branch: _mean([each[branch] for each in part]) for branch in part[0]} for part in (anchored, asked)
        )


def _mean(answers: Sequence[Fields]) -> Fields:
    return {name: sum(each[name] for each in answers) / len(answers) for name in answers[0]}  # type: ignore[misc]
