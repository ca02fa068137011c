"""Evaluation: the label owner computes every metric alone and tells the feature owners the agreed few.

    label owner (scores, labels)                               feature owner
      1  Results   rows, AUC and KS, alone and joint  ------->

Leaks: the feature owner learns these numbers and nothing else; the label owner learns nothing here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

from isthmus.wire.channel import Channel
from isthmus.wire.message import Message, Number


@dataclass(frozen=True)
class Results(Message):
    """AUC and KS for a binary label; for regression RMSE stands in the place of AUC and KS is 0."""

    KIND: ClassVar[int] = 0x0501
    rows: Annotated[int, Number("Q")]
    alone: Annotated[float, Number("d")]
    alone_ks: Annotated[float, Number("d")]
    joint: Annotated[float, Number("d")]
    joint_ks: Annotated[float, Number("d")]


async def tell_results(channels: Sequence[Channel], results: Results) -> None:
    """The label owner's role."""
    for channel in channels:  # 1
        await channel.send(results)


async def hear_results(channel: Channel) -> Results:
    """The feature owner's role."""
    return await channel.recv(Results)  # 1
