"""The assignment of least total cost: the Hungarian algorithm with potentials, O(n²m)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def assign(costs: NDArray[np.float64]) -> list[tuple[int, int]]:
    """Pair rows with columns, as many as there are of the fewer, at the least total cost.

    Args:
        costs: float64 (N, M), finite.

    Returns:
        (row, column) pairs, by row.
    """
    rows, columns = costs.shape
    if rows > columns:
        return sorted((row, column) for column, row in assign(costs.T))
    # Rows and columns count from 1: column 0 holds the row that is being placed, row 0 is none.
    row_of = np.zeros(columns + 1, np.intp)
    of_row, of_column = np.zeros(rows + 1), np.zeros(columns + 1)
    for row in range(1, rows + 1):
        row_of[0] = row
        column, came_from = _cheapest_path(costs, row_of, of_row, of_column)
        while column:  # each column on the path takes the row of the one before it
            row_of[column] = row_of[came_from[column]]
            column = int(came_from[column])
    return sorted((int(row_of[j]) - 1, j - 1) for j in range(1, columns + 1) if row_of[j])


def _cheapest_path(
    costs: NDArray[np.float64],
    row_of: NDArray[np.intp],
    of_row: NDArray[np.float64],
    of_column: NDArray[np.float64],
) -> tuple[int, NDArray[np.intp]]:
    """A free column, and from where each was reached; adjusts the potentials on the way."""
    reach = np.full(len(row_of), np.inf)
    came_from = np.zeros(len(row_of), np.intp)
    done = np.zeros(len(row_of), bool)
    column = 0
    while row_of[column]:
        done[column] = True
        row = row_of[column]
        reduced = np.r_[np.inf, costs[row - 1] - of_row[row] - of_column[1:]]
        nearer = ~done & (reduced < reach)
        reach[nearer], came_from[nearer] = reduced[nearer], column
        nearest = int(np.where(done, np.inf, reach).argmin())
        step = reach[nearest]
        of_row[row_of[done]] += step
        of_column[done] -= step
        reach[~done] -= step
        column = nearest
    return column, came_from
