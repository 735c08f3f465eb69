// From the data of the page to the columns of a figure. Nothing here touches the document.
"use strict";

// The x values of a run's buckets on an axis.
function positions(run, axis, steps) {
  return axis === "steps" ? steps : run[axis];
}

// The last x value of all runs on an axis.
function reach(runs, axis, steps) {
  let last = 0;
  for (const run of runs) {
    const xs = positions(run, axis, steps);
    const count = axis === "steps" ? run.tokens.length : xs.length;
    last = Math.max(last, count ? xs[count - 1] : 0);
  }

  return last;
}

// Runs with other batches or speeds have other x values. They are put on one grid: joining unequal x values is slow.
function gridOf(runs, axis, steps) {
  if (axis === "steps") {
    return steps;
  }

  const last = reach(runs, axis, steps) || 1;
  return steps.map((_, i) => (last * (i + 1)) / steps.length);
}

function cellOf(x, grid) {
  return Math.min(grid.length - 1, Math.max(0, Math.ceil((x / grid[grid.length - 1]) * grid.length - 1e-9) - 1));
}

// One curve on the grid: {low, mean, high}; low and high are null where each bucket has one value.
function onGrid(curve, xs, grid, axis) {
  const empty = () => new Array(grid.length).fill(null);
  const banded = Boolean(curve.low);
  if (axis === "steps") {
    const padded = (values) => Object.assign(empty(), values);
    return { mean: padded(curve.mean), low: banded ? padded(curve.low) : null, high: banded ? padded(curve.high) : null };
  }

  const mean = empty();
  const low = banded ? empty() : null;
  const high = banded ? empty() : null;
  curve.mean.forEach((value, i) => {
    if (value === null || i >= xs.length) {
      return;
    }

    const cell = cellOf(xs[i], grid);
    mean[cell] = value;
    if (banded) {
      low[cell] = low[cell] === null ? curve.low[i] : Math.min(low[cell], curve.low[i]);
      high[cell] = high[cell] === null ? curve.high[i] : Math.max(high[cell], curve.high[i]);
    }
  });

  return { mean, low, high };
}

// Validation losses on the grid; of two in one cell the later one.
function evaluationsOnGrid(run, axis, grid) {
  const column = { steps: 0, tokens: 1, hours: 2 }[axis];
  const values = new Array(grid.length).fill(null);
  for (const evaluation of run.evaluations) {
    if (evaluation[3] !== null) {
      let cell = cellOf(evaluation[column], grid);
      if (axis === "steps") {
        cell = Math.min(grid.length - 1, lowerBound(grid, evaluation[0]));
      }

      values[cell] = evaluation[3];
    }
  }

  return values;
}

// The first place in sorted `values` that is not below `wanted`.
function lowerBound(values, wanted) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }

  return low;
}

// The parts of a step's time, each on top of those before it. Returns the columns from the bottom
// up; `each` is the part alone.
function stacked(run, parts, xs, grid, axis) {
  const present = parts.filter((part) => run.curves[part]);
  const columns = [];
  let below = null;
  for (const part of present) {
    const values = onGrid(run.curves[part], xs, grid, axis).mean;
    below = values.map((value, i) => (value === null ? null : value + (below ? below[i] || 0 : 0)));
    columns.push({ part, values: below, each: values });
  }

  return columns;
}

// The value of a column nearest to a place, with the place; null where the column is empty.
function nearest(values, place) {
  for (let distance = 0; distance < values.length; distance++) {
    for (const i of [place - distance, place + distance]) {
      if (i >= 0 && i < values.length && values[i] !== null && values[i] !== undefined) {
        return { place: i, value: values[i] };
      }
    }
  }

  return null;
}
