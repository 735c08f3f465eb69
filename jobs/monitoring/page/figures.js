// The figures of the page: what each shows, and how its numbers read.
"use strict";

const formats = {
  loss: (value) => value.toFixed(4),
  share: (value) => (100 * value).toFixed(1) + "%",
  count: (value) => amount(value),
  gigabytes: (value) => value.toFixed(value < 10 ? 2 : 1) + " GB",
  plain: (value) => (Math.abs(value) >= 1000 ? amount(value) : String(+value.toPrecision(4))),
  rate: (value) => value.toExponential(2),
  milliseconds: (value) => (value >= 1000 ? (value / 1000).toFixed(2) + " s" : value.toFixed(1) + " ms"),
};

// 81.7e9 reads 81.7B.
function amount(value) {
  for (const [unit, size] of [["T", 1e12], ["B", 1e9], ["M", 1e6], ["k", 1e3]]) {
    if (Math.abs(value) >= size) {
      return +(value / size).toPrecision(4) + unit;
    }
  }

  return String(+value.toPrecision(4));
}

// A `curve` is drawn for each run; `layers` and `split` are of the run in focus.
const FIGURES = [
  { key: "loss", title: "Loss", kind: "curve", format: formats.loss, tick: formats.plain, evaluations: true,
    steep: true, about: "Training: mean, and range. Circles: validation. The first 2% may be above the figure." },
  { key: "mfu", title: "MFU", kind: "curve", format: formats.share,
    about: "Share of the GPUs' dense peak." },
  { key: "tokens_per_sec", title: "Tokens per second, in steps", kind: "curve", format: formats.count,
    about: "Over all GPUs, while steps run." },
  { key: "memory", title: "Memory, peak", kind: "curve", format: formats.gigabytes,
    about: "Memory of one GPU, or of the process on a CPU." },
  { key: "grad_norm", title: "Gradient norm", kind: "curve", format: formats.plain,
    about: "Before clipping: mean, and range." },
  { key: "lr", title: "Learning rate", kind: "curve", format: formats.rate, about: "Learning rate of each step." },
  { key: "layers", title: "Gradient norm by layer", kind: "layers", format: formats.plain, logarithmic: true,
    about: "From the first layer (light) to the last (dark)." },
  { key: "split", title: "Time of a step, by part", kind: "split", format: formats.milliseconds,
    about: "Stacked; the top is the whole step." },
];

const AXES = {
  steps: { label: "steps", format: amount },
  tokens: { label: "tokens", format: amount },
  hours: { label: "hours since the first start", format: (value) => String(+value.toPrecision(4)) },
};

// Colours with a contrast of at least 3 to 1 on their background, and a dash of its own for each run.
const PALETTES = {
  light: ["#0063b2", "#b54708", "#00745c", "#a3338b", "#7a5c00", "#5b4bc4", "#c0262d", "#356f8c", "#5d6b00", "#333333"],
  dark: ["#6cb6ff", "#f5a15b", "#4fd1a5", "#e78bd6", "#e6c34a", "#a99bff", "#ff8a80", "#8cc5dd", "#c3d34f", "#eeeeee"],
};
const DASHES = [[], [8, 4], [2, 3], [10, 3, 2, 3], [5, 5], [14, 4], [1, 4], [8, 3, 2, 3, 2, 3], [4, 2], [12, 6]];
const PARTS = {
  compute: "computation",
  communication: "communication",
  optimizer: "optimiser",
  data_wait: "waiting for data",
};
