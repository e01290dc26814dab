"""Layers put on top of each other, and the difference of two states: ``merge`` and ``diff``.

Reference: client/llb/merge.go, diff.go.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from buildkit_client.llb.vertex import EMPTY, Graph, Output, Vertex, no_platform

if TYPE_CHECKING:
    from buildkit_client._proto import ops_pb2
    from buildkit_client.llb.constraints import Constraints, Metadata


class MergeOp(Vertex):
    """Puts the inputs on top of each other, the last one on top."""

    def __init__(self, inputs: list[Output], constraints: Constraints) -> None:
        self.constraints = constraints.with_caps("mergeop")
        self._inputs = inputs

    def inputs(self) -> list[Output]:
        """Return the layers, the lowest first."""
        return self._inputs

    def fill(self, op: ops_pb2.Op, graph: Graph, /) -> Metadata:
        """Write the layers; one that comes twice is listed twice."""
        no_platform(op)
        for output in self._inputs:
            op.merge.inputs.add(input=len(op.inputs))
            op.inputs.append(graph.input(output))
        return self.constraints.metadata


class DiffOp(Vertex):
    """Takes what the upper state has and the lower has not."""

    def __init__(self, lower: Output, upper: Output | None, constraints: Constraints) -> None:
        self.constraints = constraints.with_caps("diffop")
        self._lower = lower
        self._upper = upper

    def inputs(self) -> list[Output]:
        """Return the lower and, where it is not empty, the upper state."""
        return [self._lower] if self._upper is None else [self._lower, self._upper]

    def fill(self, op: ops_pb2.Op, graph: Graph, /) -> Metadata:
        """Write both states."""
        no_platform(op)
        op.inputs.extend(map(graph.input, self.inputs()))
        op.diff.lower.input = 0
        op.diff.lower.SetInParent()
        op.diff.upper.input = EMPTY if self._upper is None else 1
        return self.constraints.metadata
