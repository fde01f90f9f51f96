"""What a smooth wavefront field leaves: changes of the coefficients from place to place, where the data show them.

Free-form lenses change abruptly in places, which polynomials over the field cannot follow. On top of them every
coefficient gets a correction at the nodes of a grid, bilinear between. The prior holds corrections small and alike at
neighbouring nodes but has heavy tails: a spot that many points insist on costs little more than a small deviation.
How tight the prior is, held-out points decide; unless they gain clearly there is no correction at all.

The expensive part is done once: every light's normal equations for its own coefficients, its position projected out.
What follows is a linear problem of a few thousand unknowns.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.linalg import splu

from calib.fieldsolver import POSITION_SIGMA_PX, Parameters, Problem, local_equations
from psfbank.arrays import FloatArray, IntArray

LIGHTS_A_NODE = 4.0
LEAST_NODES = 3  # along an axis
TYPICAL_NM = 5.0  # of a correction, at a tightness of one
TIGHTNESS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
FREEDOM = 4.0  # of the prior's t distribution
ROUNDS = 5  # of its reweighting
FOLDS = 5
CLEAR = 2.0  # standard errors by which held-out points must gain


@dataclass(frozen=True)
class Remainder:
    """Corrections `coefficients_nm` (Q, J) at Q nodes of `x_px`, `y_px`, x fastest; `covariance` (Q J, Q J), nm^2."""

    x_px: FloatArray
    y_px: FloatArray
    coefficients_nm: FloatArray
    covariance: FloatArray
    tightness: float

    def at(self, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Corrections (N, J), nm, at places (N, 2), px."""
        return np.asarray(tents(self.x_px, self.y_px, xy_px) @ self.coefficients_nm)

    def spread(self, xy_px: FloatArray) -> npt.NDArray[np.float64]:
        """Covariances (N, J, J), nm^2, of the corrections at places (N, 2), px."""
        nodes, terms = self.coefficients_nm.shape
        blocks = self.covariance.reshape(nodes, terms, nodes, terms)
        weights = tents(self.x_px, self.y_px, xy_px)
        out = np.empty((len(xy_px), terms, terms))
        for k in range(len(xy_px)):
            row = slice(weights.indptr[k], weights.indptr[k + 1])
            near, share = weights.indices[row], weights.data[row]
            out[k] = np.einsum("a,b,ajbk->jk", share, share, blocks[np.ix_(near, range(terms), near, range(terms))])
        return out


def tents(x_px: FloatArray, y_px: FloatArray, xy_px: FloatArray) -> sparse.csr_array:
    """Bilinear weights (N, Ty Tx) of the nodes at places (N, 2); places outside the grid take its border."""
    index, share = [], []
    for axis, nodes in ((xy_px[:, 0], x_px), (xy_px[:, 1], y_px)):
        at = np.clip(np.interp(axis, nodes, np.arange(len(nodes))), 0, len(nodes) - 1)
        first = np.minimum(at.astype(np.int64), len(nodes) - 2)
        index.append((first, first + 1))
        share.append((1.0 - (at - first), at - first))
    columns = np.stack([j * len(x_px) + i for j in index[1] for i in index[0]], axis=1)
    weights = np.stack([b * a for b in share[1] for a in share[0]], axis=1)
    rows = np.repeat(np.arange(len(xy_px)), 4)
    shape = (len(xy_px), len(x_px) * len(y_px))
    return sparse.csr_array((weights.ravel(), (rows, columns.ravel())), shape=shape)


def place_nodes(size_px: tuple[int, int], lights: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Nodes x (Tx,), y (Ty,) over the picture, about `LIGHTS_A_NODE` lights to each."""
    height, width = size_px
    pitch = np.sqrt(LIGHTS_A_NODE * height * width / max(lights, 1))
    columns, rows = (max(LEAST_NODES, round((n - 1) / pitch) + 1) for n in (width, height))
    return np.linspace(0, width - 1, columns), np.linspace(0, height - 1, rows)


@dataclass(frozen=True)
class LightEquations:
    """Normal equations of S lights for their own J coefficients: `matrix` (S, J, J), `gradient` (S, J)."""

    matrix: FloatArray
    gradient: FloatArray

    def take(self, which: IntArray) -> LightEquations:
        """Select lights."""
        return LightEquations(self.matrix[which], self.gradient[which])


def light_equations(problem: Problem, at: Parameters, executor: Executor | None = None) -> LightEquations:
    """Sum the images of every light and project its position out; zero for lights without images."""
    j = problem.layout.terms
    count = len(problem.detected_px)
    matrix, gradient = np.zeros((count, j + 2, j + 2)), np.zeros((count, j + 2))
    for source, one, push in local_equations(problem, at, executor):
        np.add.at(matrix, source, one[:, : j + 2, : j + 2])
        np.add.at(gradient, source, push[:, : j + 2])
    matrix[:, j:, j:] += np.eye(2) / POSITION_SIGMA_PX**2
    gradient[:, j:] += (problem.detected_px - at.xy_px) / POSITION_SIGMA_PX**2
    back = np.linalg.solve(matrix[:, j:, j:], matrix[:, j:, :j])
    alone = np.linalg.solve(matrix[:, j:, j:], gradient[:, j:, None])
    return LightEquations(
        matrix[:, :j, :j] - matrix[:, :j, j:] @ back, gradient[:, :j] - (matrix[:, :j, j:] @ alone)[..., 0]
    )


def _differences(columns: int, rows: int) -> sparse.csr_array:
    """Differences (E, Ty Tx) between neighbouring nodes."""

    def along(n: int) -> sparse.csr_array:
        return sparse.csr_array(sparse.diags_array([-np.ones(n - 1), np.ones(n - 1)], offsets=[0, 1], shape=(n - 1, n)))

    across = sparse.kron(sparse.eye_array(rows), along(columns))
    down = sparse.kron(along(rows), sparse.eye_array(columns))
    return sparse.csr_array(sparse.vstack([across, down]))


def _weights(energy: FloatArray, terms: int) -> npt.NDArray[np.float64]:
    """Precision, relative, of a t-distributed vector of `terms` given its squared length in prior variances."""
    return np.asarray((FREEDOM + terms) / (FREEDOM + energy))


def solve_nodes(
    equations: LightEquations, weights: sparse.csr_array, columns: int, tightness: float
) -> tuple[npt.NDArray[np.float64], sparse.csc_array]:
    """Corrections (Q, J) at the nodes, and the matrix (Q J, Q J) of the last system solved.

    The t prior is dealt with by reweighting (expectation maximisation): a node or a step between nodes that turns out
    large is held less in the next round.
    """
    nodes, terms = weights.shape[1], equations.gradient.shape[1]
    precision = tightness / TYPICAL_NM**2
    steps = _differences(columns, nodes // columns)
    spread = sparse.csr_array(sparse.kron(weights, sparse.eye_array(terms)))
    count = len(equations.matrix)
    blocks = sparse.bsr_array(
        (np.asarray(equations.matrix), np.arange(count), np.arange(count + 1)), shape=(count * terms,) * 2
    )
    data = sparse.csc_array(spread.T @ (blocks @ spread))
    push = spread.T @ equations.gradient.ravel()
    found = np.zeros((nodes, terms))
    system = data
    for _ in range(ROUNDS):
        of_node = _weights(precision * np.sum(found**2, axis=1), terms)
        of_step = _weights(precision * np.sum((steps @ found) ** 2, axis=1), terms)
        prior = sparse.diags_array(of_node) + steps.T @ sparse.diags_array(of_step) @ steps
        system = sparse.csc_array(data + precision * sparse.kron(prior, sparse.eye_array(terms)))
        found = splu(system, permc_spec="MMD_AT_PLUS_A", options={"SymmetricMode": True}).solve(push)
        found = found.reshape(nodes, terms)
    return found, system


def heldout_gains(
    equations: LightEquations, weights: sparse.csr_array, columns: int, tightness: float
) -> npt.NDArray[np.float64]:
    """How much the corrections fitted to other lights lower each light's cost (S,): positive is better."""
    gains = np.zeros(len(equations.matrix))
    for fold in range(FOLDS):
        aside = np.arange(fold, len(gains), FOLDS)
        rest = np.setdiff1d(np.arange(len(gains)), aside)
        found = solve_nodes(equations.take(rest), weights[rest], columns, tightness)[0]
        moved = weights[aside] @ found
        matrix, gradient = equations.matrix[aside], equations.gradient[aside]
        gains[aside] = 2 * np.sum(gradient * moved, axis=1) - np.einsum("sj,sjk,sk->s", moved, matrix, moved)
    return gains


def choose_tightness(
    equations: LightEquations, weights: sparse.csr_array, columns: int, ladder: Sequence[float] = TIGHTNESS
) -> float | None:
    """Tightness that held-out lights like best; None when none gains clearly over no correction at all.

    Parameters
    ----------
    equations : LightEquations
        In an order that has nothing to do with the field.
    weights : (S, Q) sparse
    columns : int
        Nodes a row.
    ladder : sequence of float
        From tight to loose; the search ends when held-out lights lose.
    """
    best: tuple[float, float] | None = None
    for tightness in ladder:
        gains = heldout_gains(equations, weights, columns, tightness)
        total = float(gains.sum())
        if best is not None and total < best[0]:
            break
        if total > CLEAR * float(gains.std()) * np.sqrt(len(gains)):
            best = total, tightness
    return None if best is None else best[1]


def fit_remainder(
    problem: Problem,
    at: Parameters,
    size_px: tuple[int, int],
    before: Remainder | None = None,
    executor: Executor | None = None,
) -> Remainder | None:
    """Fit corrections to the smooth field.

    Parameters
    ----------
    problem : Problem
        Of the lights to use; its images carry the corrections of `before`.
    at : Parameters
        The smooth field, fitted.
    size_px : (H, W)
    before : Remainder, optional
        Corrections that hold already, whose nodes and tightness stay.
    executor : Executor, optional

    Returns
    -------
    Remainder or None
        None where held-out lights do not gain.
    """
    lights = problem.lights()
    equations = light_equations(problem, at, executor).take(lights)
    shuffled = np.random.default_rng(0).permutation(len(lights))
    equations, xy_px = equations.take(shuffled), at.xy_px[lights[shuffled]]
    x_px, y_px = place_nodes(size_px, len(lights)) if before is None else (before.x_px, before.y_px)
    weights = tents(x_px, y_px, xy_px)
    if before is None:
        chosen = choose_tightness(equations, weights, len(x_px))
        if chosen is None:
            return None
    else:
        chosen = before.tightness
        held = (equations.matrix @ before.at(xy_px)[..., None])[..., 0]
        equations = LightEquations(equations.matrix, equations.gradient + held)
    found, system = solve_nodes(equations, weights, len(x_px), chosen)
    return Remainder(x_px, y_px, found, np.linalg.inv(system.toarray()), chosen)
