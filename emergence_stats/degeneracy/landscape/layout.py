"""The moving entries of named parameters, side by side in one vector.

What lives here: `Layout`, from names to the vector and back. What does not: which parameters move
(`parts`), and what is computed from them (`landscape`).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Layout:
    """Where in one vector is each entry that moves?

    Parameters
    ----------
    parameters : mapping of str to Tensor
        All parameters of a model at w*, by name.
    moving : mapping of str to Tensor or None
        Flat indices of the entries that move; None for all of a parameter (`moving_parameters`).

    Attributes
    ----------
    names : list of str
    centre : Tensor, shape (parameter,)
        The moving entries at w*, single precision unless one of them has double precision.
    """

    def __init__(
        self, parameters: Mapping[str, Tensor], moving: Mapping[str, Tensor | None]
    ) -> None:
        self.names = list(moving)
        chosen = [parameters[name] for name in self.names]
        self._shapes = [parameter.shape for parameter in chosen]
        self._dtypes = [parameter.dtype for parameter in chosen]
        precision = torch.float64 if torch.float64 in self._dtypes else torch.float32
        # Where a mask chooses, the whole parameter at w* and the flat indices of what moves.
        self._masked = [
            None
            if index is None
            else (parameter.reshape(-1).to(precision), index.to(parameter.device))
            for parameter, index in zip(chosen, moving.values(), strict=True)
        ]
        pieces = [
            parameter.reshape(-1).to(precision) if masked is None else masked[0][masked[1]]
            for parameter, masked in zip(chosen, self._masked, strict=True)
        ]
        self._sizes = [piece.numel() for piece in pieces]
        self.centre = torch.cat(pieces)

    def as_dict(self, position: Tensor) -> dict[str, Tensor]:
        """The same position as named parameters; leading dimensions are kept."""
        named = {}
        layout = zip(
            self.names,
            position.split(self._sizes, dim=-1),
            self._shapes,
            self._dtypes,
            self._masked,
            strict=True,
        )
        for name, piece, shape, dtype, masked in layout:
            values = piece
            if masked is not None:
                whole, index = masked
                lead = position.shape[:-1]
                # Out of place, as vmap does not let a shared tensor be written to by each chain.
                values = whole.expand(*lead, -1).scatter(-1, index.expand(*lead, -1), piece)
            named[name] = values.reshape((*position.shape[:-1], *shape)).to(dtype)
        return named
