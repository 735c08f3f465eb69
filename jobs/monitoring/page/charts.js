// One figure: an uPlot canvas, its keyboard, its readout.
"use strict";

const MOST_BANDS = 3;
const MOST_VALUES = 6;
const BEGINNING = 0.02;

function colours() {
  const style = getComputedStyle(document.documentElement);
  const named = (name) => style.getPropertyValue(name).trim();
  return { ink: named("--ink"), faint: named("--line"), band: named("--band"), paper: named("--paper"),
    runs: PALETTES[state.dark ? "dark" : "light"] };
}

function withAlpha(colour, alpha) {
  return colour + Math.round(255 * alpha).toString(16).padStart(2, "0");
}

// From a light to a dark blue, or the other way on a dark page.
function shade(i, count) {
  const part = count > 1 ? i / (count - 1) : 1;
  const lightness = state.dark ? 45 + 45 * (1 - part) : 60 - 42 * part;
  return `hsl(${200 + 60 * part} 70% ${lightness}%)`;
}

// The columns of a figure and how to draw each: {grid, columns: [{label, values, stroke, …}], bands}.
function contents(figure) {
  const runs = state.data.runs;
  const axis = state.axis;
  const ink = colours();
  if (figure.kind === "layers") {
    return layerContents(runs[state.focus], axis);
  }

  const grid = gridOf(runs, axis, state.data.steps);
  if (figure.kind === "split") {
    return splitContents(runs[state.focus], grid, axis, ink);
  }

  const columns = [];
  const bands = [];
  // The bands of many runs cover each other: then only that of the run in focus is drawn.
  const crowded = state.visible.filter(Boolean).length > MOST_BANDS;
  runs.forEach((run, i) => {
    const curve = run.curves[figure.key];
    if (!curve) {
      return;
    }

    const colour = ink.runs[i % ink.runs.length];
    const values = onGrid(curve, positions(run, axis, state.data.steps), grid, axis);
    const base = { run: i, label: run.name };
    if (values.low && (!crowded || i === state.focus)) {
      columns.push({ ...base, hidden: true, values: values.high });
      columns.push({ ...base, hidden: true, values: values.low });
      bands.push({ series: [columns.length - 1, columns.length], fill: withAlpha(colour, 0.18) });
    }

    columns.push({ ...base, values: values.mean, stroke: colour, dash: DASHES[i % DASHES.length] });
    if (figure.evaluations && run.evaluations.length) {
      const scored = evaluationsOnGrid(run, axis, grid);
      columns.push({ ...base, label: `${run.name}, validation`, values: scored, stroke: colour, points: true });
    }
  });

  return { grid, columns, bands };
}

function layerContents(run, axis) {
  const layers = run.layers;
  if (!layers) {
    return { grid: [], columns: [], bands: [] };
  }

  const columns = layers.names.map((name, i) => ({
    label: name,
    values: layers.norms[i].map((value) => (value > 0 ? value : null)),
    stroke: shade(i, layers.names.length),
  }));
  return { grid: layers[axis], columns, bands: [] };
}

function splitContents(run, grid, axis, ink) {
  const xs = positions(run, axis, state.data.steps);
  const columns = stacked(run, state.data.parts, xs, grid, axis).map(({ part, values, each }, i) => ({
    label: PARTS[part] || part,
    values,
    each,
    stroke: ink.runs[i],
    dash: DASHES[i],
    fill: withAlpha(ink.runs[i], 0.15),
  }));
  // The highest is drawn first, so that the areas below stay visible.
  return { grid, columns: columns.reverse(), bands: [] };
}

class Chart {
  constructor(figure, box) {
    this.figure = figure;
    this.box = box;
    this.plotBox = box.querySelector(".plot");
    this.readout = box.querySelector(".readout");
    this.plot = null;
    this.place = null;
    box.querySelector(".plot").addEventListener("keydown", (event) => this.onKey(event));
  }

  draw() {
    if (this.plot) {
      this.plot.destroy();
    }

    this.content = contents(this.figure);
    this.box.hidden = this.content.columns.length === 0;
    if (this.box.hidden) {
      this.plot = null;
      return;
    }

    const data = [this.content.grid, ...this.content.columns.map((column) => column.values)];
    this.plot = new uPlot(this.options(), data, this.plotBox);
    this.box.querySelector(".key").replaceChildren(...this.key());
    this.show(null);
  }

  // Samples of lines that the list of runs does not name.
  key() {
    if (this.figure.kind !== "split") {
      return [];
    }

    return this.content.columns.map((column) =>
      element("span", {}, lineSample(column.stroke, column.dash), ` ${column.label}`));
  }

  options() {
    const ink = colours();
    const axis = AXES[state.axis];
    const line = { stroke: ink.ink, grid: { stroke: ink.faint, width: 1 }, ticks: { stroke: ink.faint, width: 1 },
      font: "12px system-ui, sans-serif" };
    return {
      width: this.plotBox.clientWidth || 480,
      height: state.slide ? Math.max(180, this.plotBox.clientHeight) : 260,
      legend: { show: false },
      cursor: { sync: { key: "report" }, drag: { x: true, y: false }, points: { size: 6 } },
      scales: { x: { time: false, range: (u, low, high) => [low, high > low ? high : low + 1] },
        y: this.figure.logarithmic ? { distr: 3 } : { range: (u, low, high) => this.range(u, low, high) } },
      axes: [
        { ...line, values: (u, ticks) => ticks.map(axis.format), label: axis.label, labelSize: 18, size: 34,
          labelFont: "12px system-ui, sans-serif" },
        { ...line, size: 78, values: (u, ticks) => ticks.map((t) => (t === null ? "" : this.tick(t))) },
      ],
      bands: this.content.bands,
      series: [{}, ...this.content.columns.map((column) => this.series(column))],
      hooks: {
        drawClear: [(u) => this.drawAttempts(u)],
        setCursor: [(u) => this.show(u.cursor.idx)],
        setScale: [(u, key) => key === "x" && state.zoom(this, u.scales.x.min, u.scales.x.max)],
      },
    };
  }

  // A little air above and below. Areas stand on 0; a loss shows what comes after its first steep fall.
  range(u, low, high) {
    if (low === null || high === null) {
      return [0, 1];
    }

    const top = this.figure.steep ? this.highestAfterBeginning(u) || high : high;
    if (this.figure.kind === "split") {
      return [0, top * 1.06];
    }

    const air = (top - low || Math.abs(top) || 1) * 0.06;
    return [low >= 0 ? Math.max(0, low - air) : low - air, top + air];
  }

  // The highest mean in view, without the beginning of the run.
  highestAfterBeginning(u) {
    const grid = this.content.grid;
    const first = lowerBound(grid, Math.max(u.scales.x.min, BEGINNING * grid[grid.length - 1]));
    const last = lowerBound(grid, u.scales.x.max);
    let top = null;
    for (const column of this.content.columns) {
      if (column.hidden || (column.run !== undefined && !state.visible[column.run])) {
        continue;
      }

      for (let i = first; i <= last && i < grid.length; i++) {
        if (column.values[i] !== null && column.values[i] !== undefined && (top === null || column.values[i] > top)) {
          top = column.values[i];
        }
      }
    }

    return top;
  }

  // A value beside the axis.
  tick(value) {
    return (this.figure.tick || this.figure.format)(value);
  }

  series(column) {
    const shown = column.run === undefined || state.visible[column.run];
    if (column.points) {
      const few = column.values.filter((value) => value !== null).length < 50;
      return { show: shown, paths: () => null, stroke: column.stroke,
        points: { show: true, size: few ? 7 : 4, width: few ? 2 : 1 } };
    }

    return {
      show: shown,
      spanGaps: true,
      stroke: column.hidden ? "transparent" : column.stroke,
      width: column.hidden ? 0 : 1.75,
      dash: column.dash,
      fill: column.fill,
      points: { show: column.values.filter((value) => value !== null).length < 2 && !column.hidden },
    };
  }

  // Every second attempt of the run in focus is a grey band, with its number.
  drawAttempts(u) {
    const attempts = state.data.runs[state.focus].attempts;
    if (attempts.length < 2 || !state.visible[state.focus]) {
      return;
    }

    const { left, top, width, height } = u.bbox;
    const ratio = window.devicePixelRatio || 1;
    const ink = colours();
    u.ctx.save();
    u.ctx.font = `${11 * ratio}px system-ui, sans-serif`;
    attempts.forEach((attempt, i) => {
      const [begin, end] = attempt[state.axis].map((x) => u.valToPos(x, "x", true));
      const from = Math.max(left, begin);
      const to = Math.min(left + width, end);
      if (to <= from) {
        return;
      }

      if (i % 2) {
        u.ctx.fillStyle = ink.band;
        u.ctx.fillRect(from, top, to - from, height);
      }

      if (to - from > 16 * ratio) {
        u.ctx.fillStyle = ink.ink;
        u.ctx.fillText(String(attempt.number), from + 3 * ratio, top + 12 * ratio);
      }
    });
    u.ctx.restore();
  }

  // Show the values at a place of the grid, or the last ones.
  show(place) {
    this.place = place;
    const grid = this.content.grid;
    const at = place === null || place === undefined ? grid.length - 1 : place;
    const values = this.content.columns
      .filter((column) => !column.hidden && (column.run === undefined || state.visible[column.run]))
      .map((column) => ({ column, near: nearest(column.each || column.values, at) }))
      .filter(({ near }) => near !== null)
      .map(({ column, near }) => ({ label: column.label, value: near.value, run: column.run, points: column.points }));
    const where = `${AXES[state.axis].format(grid[at])} ${AXES[state.axis].label}`;
    this.readout.textContent = `${place === null || place === undefined ? "End" : where}: ${this.words(values)}`;
  }

  // Each value, or of many the run in focus, the lowest and the highest.
  words(values) {
    const said = ({ label, value }) => `${label} ${this.figure.format(value)}`;
    if (values.length <= MOST_VALUES) {
      return values.map(said).join(" · ");
    }

    const lines = values.filter((entry) => !entry.points).sort((a, b) => a.value - b.value);
    const focus = lines.filter((entry) => entry.run === state.focus);
    return [...focus.map(said), `lowest ${said(lines[0])}`, `highest ${said(lines[lines.length - 1])}`].join(" · ");
  }

  onKey(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity };
    if (event.key in moves) {
      this.move(moves[event.key]);
    } else if (event.key === "+" || event.key === "=") {
      this.scale(0.5);
    } else if (event.key === "-") {
      this.scale(2);
    } else if (event.key === "Escape" || event.key === "0") {
      state.zoom(null, null, null);
    } else {
      return;
    }

    event.preventDefault();
  }

  // Move the cursor by a part of what is visible, and read its values aloud.
  move(by) {
    const grid = this.content.grid;
    const { min, max } = this.plot.scales.x;
    const first = Math.min(grid.length - 1, lowerBound(grid, min));
    const last = Math.max(first, Math.min(grid.length - 1, lowerBound(grid, max)));
    const stride = Math.max(1, Math.round((last - first) / 100));
    const now = this.place === null || this.place === undefined ? (by > 0 ? first - stride : last + stride) : this.place;
    const place = Math.min(last, Math.max(first, now + by * stride));
    this.readout.setAttribute("aria-live", "polite");
    this.plot.setCursor({ left: this.plot.valToPos(grid[place], "x"), top: this.plot.over.clientHeight / 2 });
    this.show(place);
  }

  // Zoom around the cursor.
  scale(factor) {
    const grid = this.content.grid;
    const { min, max } = this.plot.scales.x;
    const centre = this.place === null || this.place === undefined ? (min + max) / 2 : grid[this.place];
    const low = Math.max(0, centre - (centre - min) * factor);
    const high = Math.min(grid[grid.length - 1], centre + (max - centre) * factor);
    state.zoom(null, low, high);
  }
}
