// The same facts as tables: for a screen reader, for copying, and for who cannot tell the lines apart.
"use strict";

const ROWS = 16;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }

  made.append(...children);
  return made;
}

// A table from texts: the first cell of each row is its head.
function tableOf(caption, heads, rows, kind = "") {
  const table = element("table", { class: kind }, element("caption", {}, caption));
  const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
  const body = rows.map((row) =>
    element("tr", {}, element("th", { scope: "row" }, row[0]), ...row.slice(1).map((text) => element("td", {}, text))));
  table.append(element("thead", {}, head), element("tbody", {}, ...body));
  const name = `${caption}, table`;
  return element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table);
}

// The values of a figure at evenly spread places.
function figureTable(chart) {
  const { grid, columns } = chart.content;
  const shown = columns.filter((column) => !column.hidden);
  const places = [...new Set(Array.from({ length: ROWS }, (_, i) => Math.round((i * (grid.length - 1)) / (ROWS - 1))))];
  const rows = places.map((place) => [
    AXES[state.axis].format(grid[place]),
    ...shown.map((column) => {
      const near = nearest(column.each || column.values, place);
      const close = near !== null && Math.abs(near.place - place) <= grid.length / ROWS;
      return close ? chart.figure.format(near.value) : "–";
    }),
  ]);
  return tableOf(chart.figure.title, [AXES[state.axis].label, ...shown.map((column) => column.label)], rows);
}

// One column a run, one row a name; rows that are alike in all runs come after those that differ.
function besideEachOther(caption, runs, pick) {
  const names = [...new Set(runs.flatMap((run) => pick(run).map(([name]) => name)))];
  const columns = runs.map((run) => new Map(pick(run)));
  const rows = names.map((name) => [name, ...columns.map((column) => column.get(name) || "–")]);
  const differs = (row) => row.slice(1).some((text) => text !== row[1]);
  const ordered = runs.length > 1 ? [...rows.filter(differs), ...rows.filter((row) => !differs(row))] : rows;
  return tableOf(caption, ["name", ...runs.map((run) => run.name)], ordered, "beside");
}

function attemptsTable(runs) {
  const heads = ["run", "attempt", "job", "nodes", "started", "steps", "repeated", "end", "code"];
  const rows = runs.flatMap((run) => run.attempts.map((attempt) => [
    run.name, String(attempt.number), attempt.job, attempt.nodes, attempt.start,
    attempt.steps.join(" to "), String(attempt.repeated),
    [attempt.end, attempt.reason].filter(Boolean).join(": ") || "no end recorded",
    attempt.exit_code === null ? "–" : String(attempt.exit_code),
  ]));
  return tableOf("Attempts and interruptions", heads, rows);
}

function evaluationsTable(runs) {
  const rows = runs.flatMap((run) => run.evaluations.slice(-20).map(([step, tokens, , loss]) =>
    [run.name, amount(step), amount(tokens), loss === null ? "–" : formats.loss(loss)]));
  return tableOf("Validation, the last 20 of each run", ["run", "step", "tokens", "loss"], rows);
}

// A bar of the wall-clock time by cause, and its table.
function goodputPart(runs) {
  const causes = [...new Set(runs.flatMap((run) => run.goodput.map(([cause]) => cause)))];
  const palette = colours().runs;
  const bars = runs.map((run) => {
    const parts = run.goodput.map(([cause, share]) => {
      const part = element("span", { title: `${cause}: ${formats.share(share)}` });
      part.style.width = `${100 * share}%`;
      part.style.background = palette[causes.indexOf(cause) % palette.length];
      return part;
    });
    return element("p", { class: "bar-row" }, element("span", { class: "bar-name" }, run.name),
      element("span", { class: "bar", role: "img", "aria-label": `${run.name}: shares are in the table` }, ...parts));
  });
  const table = besideEachOther("Wall-clock time by cause", runs,
    (run) => run.goodput.map(([cause, share]) => [cause, formats.share(share)]));
  return element("div", {}, ...bars, table);
}

function fillTables() {
  const runs = state.data.runs;
  const place = (name, ...children) => document.getElementById(name).replaceChildren(...children);
  place("analysis", besideEachOther("Analysis", runs, (run) => run.analysis));
  place("attempts", attemptsTable(runs));
  place("evaluations", runs.some((run) => run.evaluations.length) ? evaluationsTable(runs) : "No evaluation yet.");
  place("chosen", besideEachOther("Chosen at the start", runs, (run) => Object.entries(run.chosen)));
  place("settings", besideEachOther("All settings", runs, (run) => Object.entries(run.settings)));
  const timed = runs.filter((run) => run.goodput.length);
  document.getElementById("goodput-section").hidden = timed.length === 0;
  if (timed.length) {
    place("goodput", goodputPart(timed));
  }
}
